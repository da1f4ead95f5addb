"""Content-addressed files in pieces: the asker pulls, piece by piece, what a peer holds.

The asker names a SHA-256 and an offset, so a transfer goes on after an outage where it
stopped, and what arrives is proven by its digest. Used for bundles from a device to a worker
now; the direction is nobody's concern here. Time is an argument.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from split_core.errors import MessageError
from split_core.wire.messages import BlobPart, BlobRequest

# Pieces asked for at once: enough to fill a link's round trip, small beside a frame's budget.
WINDOW_BYTES = 4 * 61_440
PART_BYTES = 61_440
# Without an answer for this long the request is made again from where we are.
RETRY_S = 2.0
MAX_BLOB_BYTES = 512 << 20


def answer_request(request: BlobRequest, find: Callable[[bytes], Path | None]) -> list[BlobPart]:
    """The parts a holder sends for one request; one empty part if it holds no such bytes."""
    path = find(request.digest)
    total = path.stat().st_size if path is not None else 0
    if request.offset >= total:
        return [BlobPart(request.digest, 0, 0, b"")]
    parts, offset = [], request.offset
    left = min(request.max_bytes, WINDOW_BYTES, total - offset)
    with path.open("rb") as file:
        file.seek(offset)
        while left > 0:
            data = file.read(min(PART_BYTES, left))
            if not data:
                break
            parts.append(BlobPart(request.digest, offset, total, data))
            offset += len(data)
            left -= len(data)
    return parts


class BlobFetch:
    """One blob on its way in, to a file that is renamed into place once proven."""

    def __init__(self, digest: bytes, path: Path, max_bytes: int = MAX_BLOB_BYTES):
        self.digest, self.path, self.max_bytes = digest, path, max_bytes
        self._partial = path.with_suffix(".part")
        # The last part is fetched again: whole but unproven would leave nothing to ask for.
        held = self._partial.stat().st_size if self._partial.exists() else 0
        self.received = max(0, held - 1) // PART_BYTES * PART_BYTES
        if held:
            os.truncate(self._partial, self.received)
        self.total = 0
        self._window_end = 0
        self._asked_s = -RETRY_S

    def next_request(self, now_s: float) -> BlobRequest | None:
        """What to ask for now: the next window, or the last again when it went unanswered."""
        if self.received < self._window_end and now_s - self._asked_s < RETRY_S:
            return None
        self._asked_s = now_s
        self._window_end = self.received + WINDOW_BYTES
        if self.total:
            self._window_end = min(self._window_end, self.total)
        return BlobRequest(self.digest, self.received, WINDOW_BYTES)

    def add(self, part: BlobPart, now_s: float) -> bool:
        """Take a part; True once the whole blob is in place.

        Raises MessageError when the peer lacks the blob, it is too large, or its digest is
        wrong; what has arrived is then thrown away.
        """
        if part.total_bytes == 0:
            raise MessageError("the peer does not hold the bundle it names")
        if part.total_bytes > self.max_bytes:
            raise MessageError(f"blob of {part.total_bytes} bytes, at most {self.max_bytes}")
        if self.total and part.total_bytes != self.total:
            raise MessageError(f"blob of {part.total_bytes} bytes was {self.total} before")
        if part.offset != self.received:
            return False                      # of a window asked for twice
        self.total = part.total_bytes
        with self._partial.open("ab") as file:
            file.write(part.data)
        self.received += len(part.data)
        self._asked_s = now_s
        if self.received < self.total:
            return False
        return self._prove()

    def _prove(self) -> bool:
        with self._partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
        if found != self.digest:
            self.abandon()
            raise MessageError(f"blob has SHA-256 {found.hex()[:16]}..., wanted"
                               f" {self.digest.hex()[:16]}...")
        os.replace(self._partial, self.path)
        return True

    def abandon(self) -> None:
        """Throw away what has arrived."""
        self._partial.unlink(missing_ok=True)
        self.received = self.total = self._window_end = 0
