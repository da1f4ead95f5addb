"""Pictures from a byte stream: JPEG files one after another, as MJPEG has them.

A JPEG begins with FF D8 and ends with FF D9; inside, FF is always followed by a marker that
is neither, except in embedded thumbnails, which lie in segments whose length is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from split_core.errors import InputError
from split_core.pictures import read_picture

_READ_BYTES = 65_536
_MAX_PICTURE_BYTES = 32 << 20
_START, _END = b"\xff\xd8", b"\xff\xd9"


class StreamSource:
    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def frames(self) -> Iterator[tuple[str, np.ndarray | InputError]]:
        for number, data in enumerate(split_jpegs(self._stream)):
            try:
                yield f"stdin-{number}", read_picture(data)
            except InputError as e:
                yield f"stdin-{number}", e


def split_jpegs(stream: BinaryIO) -> Iterator[bytes]:
    """Each JPEG of a stream. What lies between two of them (multipart headers) is skipped."""
    buffer = bytearray()
    while True:
        start = buffer.find(_START)
        end = jpeg_end(buffer, start) if start >= 0 else None
        if end is not None:
            yield bytes(buffer[start:end])
            del buffer[:end]
            continue
        if start < 0:
            del buffer[:-1]                   # all but what may be half of a start marker
        elif len(buffer) - start > _MAX_PICTURE_BYTES:
            del buffer[: start + 2]           # no JPEG: look for the next start
            continue
        # read1: what is there now, without waiting for a whole buffer of slow frames.
        data = stream.read1(_READ_BYTES) if hasattr(stream, "read1") else stream.read(_READ_BYTES)
        if not data:
            return
        buffer += data


def jpeg_end(data: bytearray, start: int) -> int | None:
    """Where the JPEG at ``start`` ends; None while its end has not come."""
    pos = start + 2
    while pos + 4 <= len(data):
        if data[pos] != 0xFF:
            pos += 1                          # entropy-coded bytes
            continue
        marker = data[pos + 1]
        if marker == 0xD9:
            return pos + 2
        if marker in (0x00, 0xFF, 0x01) or 0xD0 <= marker <= 0xD7:
            pos += 1 if marker == 0xFF else 2     # stuffing, fill bytes, restarts
            continue
        pos += 2 + int.from_bytes(data[pos + 2 : pos + 4], "big")
        if marker == 0xDA:
            # After a scan's header its coded bytes follow; they hold no FF but stuffed ones.
            while True:
                pos = data.find(b"\xff", pos)
                if pos < 0 or pos + 1 >= len(data):
                    return None
                if data[pos + 1] not in (0x00, 0xFF) and not 0xD0 <= data[pos + 1] <= 0xD7:
                    break
                pos += 1
    return pos + 2 if data[pos : pos + 2] == _END else None
