"""Messages cut into chunks, one MQTT publish each, and put together again.

Chunks of a message arrive in order on one QoS 0 connection, so there is no reordering
buffer: a chunk that does not continue what its sender began drops that message. Memory is
bounded per sender and in all by what has arrived, never by what a header claims. Pure: time
is an argument.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from split_core.errors import MessageError
from split_core.wire.messages import U32_MAX, Kind

MAGIC = b"SPLT"
# Version 2 is version 1 with flags where reserved bytes were. It is written only where a flag is
# needed, so that a peer of the release before understands all else.
PLAIN_VERSION, SEALED_VERSION = 1, 2
VERSIONS_ACCEPTED = (PLAIN_VERSION, SEALED_VERSION)
_SEALED = 1
_HEADER = struct.Struct("<4sBBHIII")
_PREFIX = struct.Struct("<4sBBH")        # of the header: what all chunks of a message share
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
# A frame larger than this would take minutes on the links this is for.
MAX_MESSAGE_BYTES = 16 << 20
MAX_BYTES_IN_ALL = 64 << 20
# With a message half here. What is kept of each beside its bytes is not counted in them.
MAX_SENDERS = 4096
# A sender that stops half way is forgotten after this; its agent has long answered itself.
PARTIAL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Chunk:
    kind: Kind
    message_id: int
    message_bytes: int
    offset: int
    data: memoryview
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message. ``first_s`` is when its first chunk arrived; the body of a sealed one
    has to be opened first (`crypto.sealed`)."""

    kind: Kind
    body: memoryview
    first_s: float
    sealed: bool = False


def sealed_prefix(kind: Kind) -> bytes:
    """What the chunks of a sealed message begin with; authenticated with its body."""
    return _PREFIX.pack(MAGIC, SEALED_VERSION, kind, _SEALED)


def push_chunks(kind: Kind, message_id: int, body: bytes, chunk_bytes: int, *,
                sealed: bool = False) -> Iterator[bytes]:
    """A message's publishes in order, none larger than ``chunk_bytes``, header included."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageError(f"message of {len(body)} bytes, at most {MAX_MESSAGE_BYTES}")
    room = chunk_bytes - HEADER_BYTES
    if room <= 0:
        raise MessageError(f"chunks of {chunk_bytes} bytes leave no room beside a header"
                           f" of {HEADER_BYTES}")
    version, flags = (SEALED_VERSION, _SEALED) if sealed else (PLAIN_VERSION, 0)
    view = memoryview(body)
    for offset in range(0, max(len(body), 1), room):
        head = _HEADER.pack(MAGIC, version, kind, flags, message_id & U32_MAX, len(body), offset)
        data = view[offset : offset + room]
        yield b"".join((head, _CRC.pack(zlib.crc32(data, zlib.crc32(head))), data))


def pull_chunk(buf: bytes) -> Chunk:
    """Check and read one publish. Raises MessageError."""
    if len(buf) < HEADER_BYTES:
        raise MessageError(f"chunk of {len(buf)} bytes, its header alone has {HEADER_BYTES}")
    magic, version, kind, flags, message_id, message_bytes, offset = _HEADER.unpack_from(buf)
    if magic != MAGIC:
        raise MessageError(f"chunk starts with {magic!r}, wanted {MAGIC!r}")
    if version not in VERSIONS_ACCEPTED:
        raise MessageError(f"chunk version {version}, accepted are {VERSIONS_ACCEPTED}")
    view = memoryview(buf)
    (crc,) = _CRC.unpack_from(buf, _HEADER.size)
    data = view[HEADER_BYTES:]
    found = zlib.crc32(data, zlib.crc32(view[: _HEADER.size]))
    if crc != found:
        raise MessageError(f"chunk checksum {crc:08x}, its bytes give {found:08x}")
    if flags & ~(_SEALED if version == SEALED_VERSION else 0):
        raise MessageError(f"chunk: flags {flags:#06x}, unknown in version {version}")
    if message_bytes > MAX_MESSAGE_BYTES:
        raise MessageError(f"message of {message_bytes} bytes, at most {MAX_MESSAGE_BYTES}")
    if len(data) > message_bytes - offset or (not data and message_bytes):
        raise MessageError(f"chunk of {len(data)} bytes at {offset} in a message of"
                           f" {message_bytes}")
    try:
        return Chunk(Kind(kind), message_id, message_bytes, offset, data, flags == _SEALED)
    except ValueError:
        raise MessageError(f"unknown message kind {kind}") from None


@dataclass(slots=True)
class _Partial:
    chunk: Chunk                     # the first one, without its bytes: they are in `data`
    first_s: float
    data: bytearray = field(default_factory=bytearray)

    @classmethod
    def begun(cls, chunk: Chunk, now_s: float) -> _Partial:
        return cls(replace(chunk, data=memoryview(b"")), now_s)


class Reassembler:
    """Puts chunks together, one message in progress a sender."""

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES,
                 max_bytes_in_all: int = MAX_BYTES_IN_ALL):
        self.max_message_bytes, self.max_bytes_in_all = max_message_bytes, max_bytes_in_all
        self.dropped = 0             # messages given up: a gap, a stray chunk, a bound
        self._partials: dict[str, _Partial] = {}
        self._held = 0

    @property
    def held_bytes(self) -> int:
        return self._held

    def push(self, sender: str, buf: bytes, now_s: float) -> Message | None:
        """Take one publish of ``sender``; the message when this completes one.

        Raises MessageError for what is refused; the sender's message in progress is then
        dropped, and the next whole message is taken as if nothing had been.
        """
        try:
            chunk = pull_chunk(buf)
            self._check(sender, chunk)
        except MessageError:
            self._drop(sender)
            raise
        if chunk.offset == 0 and len(chunk.data) == chunk.message_bytes:
            return Message(chunk.kind, chunk.data, now_s, chunk.sealed)
        partial = self._partials.get(sender)
        if partial is None:
            if len(self._partials) >= MAX_SENDERS:
                raise MessageError(f"{MAX_SENDERS} senders have a message half here; no more of"
                                   " them are taken")
            partial = self._partials[sender] = _Partial.begun(chunk, now_s)
        partial.data += chunk.data
        self._held += len(chunk.data)
        if len(partial.data) < chunk.message_bytes:
            return None
        self._forget(sender)
        return Message(chunk.kind, memoryview(partial.data), partial.first_s, chunk.sealed)

    def sweep(self, now_s: float) -> None:
        """Forget messages whose sender stopped half way."""
        late = [s for s, p in self._partials.items() if now_s - p.first_s > PARTIAL_TIMEOUT_S]
        for sender in late:
            self._drop(sender)

    def _check(self, sender: str, chunk: Chunk) -> None:
        partial = self._partials.get(sender)
        if chunk.offset == 0:
            if partial is not None:
                self._drop(sender)        # its sender gave the old message up; so do we
        elif partial is None:
            raise MessageError(f"stray chunk at {chunk.offset} of message {chunk.message_id}")
        elif (partial.chunk.message_id, partial.chunk.kind, partial.chunk.sealed,
              partial.chunk.message_bytes, len(partial.data)) != (
                  chunk.message_id, chunk.kind, chunk.sealed, chunk.message_bytes, chunk.offset):
            raise MessageError(
                f"gap: chunk at {chunk.offset} of message {chunk.message_id}, wanted"
                f" {len(partial.data)} of message {partial.chunk.message_id}"
            )
        if chunk.message_bytes > self.max_message_bytes:
            raise MessageError(f"message of {chunk.message_bytes} bytes, this receiver takes"
                               f" {self.max_message_bytes}")
        if self._held + len(chunk.data) > self.max_bytes_in_all:
            raise MessageError(f"{self._held} bytes of unfinished messages held, at most"
                               f" {self.max_bytes_in_all}")

    def _drop(self, sender: str) -> None:
        if sender in self._partials:
            self.dropped += 1
            self._forget(sender)

    def _forget(self, sender: str) -> None:
        self._held -= len(self._partials.pop(sender).data)
