"""What is fuzzed, and what must hold: each target takes any bytes and raises for a bug only.

Refusals (MessageError, BundleError, ValueError where that is a kernel's) are the normal case
and caught where they may arise. Targets import no fuzzer: the tests replay its corpus.
"""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np

import cext
from fuzz.edits import edit
from fuzz.payloads import decode, sources
from split_core.crypto.keyring import parse_keyring
from split_core.crypto.sealed import Seal
from split_core.errors import BundleError, MessageError
from split_core.model.coding import pull_coding, push_coding
from split_core.model.graph import read_graph
from split_core.model.manifest import parse_manifest
from split_core.wire import chunks, messages, records
from split_core.wire.payload import Coder
from split_core.wire.topics import Topics
from tests.golden import calibrated
from tests.golden import make as golden

_SOURCES = sources()


# -- entropy: the C decoder

_ENTROPY = struct.Struct("<BhHBB")
_MOST_SYMBOLS = 1200            # the kernel works on 512 at a time
REFINE, VERBATIM = 1, 2         # bits of the mode


def entropy(data: bytes) -> None:
    """mode, index, n, counts; exponents and symbols, repeated up to n; then a stream, or edits
    of the symbols' own. Both decoders must undo exactly their encoder."""
    if len(data) < _ENTROPY.size:
        return
    mode, index, n, *counts = _ENTROPY.unpack_from(data)
    at, n = _ENTROPY.size, n % _MOST_SYMBOLS
    exponents, symbols = (_take(data, at + skip, count, n)
                          for skip, count in ((0, counts[0]), (2 * counts[0], counts[1])))
    rest = data[at + 2 * sum(counts):]
    symbols[symbols == -32768] = 0
    base = None
    if mode & REFINE:
        base = np.empty_like(symbols)
        cext.split_base(symbols, base, exponents, index)
        # Beside live bases a refinement is -1 to 1; beside dead ones anything.
    coded = None if mode & VERBATIM else _encode(symbols, base, exponents, index)
    stream = rest if coded is None else edit(coded, rest, coded[::-1])
    found = np.empty_like(symbols)
    # A copy of just this size: beside a longer one's data a read past the end shows nothing.
    exact = np.array(np.frombuffer(stream, np.uint8))
    try:
        if base is None:
            cext.decode_symbols(exact, exponents, index, found)
        else:
            cext.decode_refinement(exact, base, exponents, index, found)
    except ValueError:
        assert stream != coded, "a stream of the encoder's was refused"
        return
    assert _encode(found, base, exponents, index) == stream, "decoded and encoded is another"


def _take(data: bytes, at: int, count: int, n: int) -> np.ndarray:
    """``n`` int16 values that begin with ``count`` of the data's."""
    part = data[at:at + 2 * count]
    return np.resize(np.frombuffer(part[:len(part) & ~1] or b"\0\0", "<i2"), n).astype(np.int16)


def _encode(symbols, base, exponents, index) -> bytes:
    out = np.empty(cext.max_coded_bytes(len(symbols)), np.uint8)
    size = (cext.encode_symbols(symbols, exponents, index, out) if base is None else
            cext.encode_refinement(symbols, base, exponents, index, out))
    assert size >= 0, "more bytes than max_coded_bytes"
    return out[:size].tobytes()


# -- payload: blocks of every encoding

EDITS_OF_REFINEMENT = 21        # bytes: three edits


def payload(data: bytes) -> None:
    """Which source, a refinement's edits, the payload's edits; or from 128 on a payload."""
    if not data:
        return
    source = _SOURCES[data[0] % 128 % len(_SOURCES)]
    damage, rest = data[1:1 + EDITS_OF_REFINEMENT], data[1 + EDITS_OF_REFINEMENT:]
    other = _SOURCES[(data[0] + 1) % 128 % len(_SOURCES)].payload
    damaged = rest if data[0] >= 128 else edit(source.payload, rest, other)
    refinement = edit(source.refinement, damage, other)
    # Of the data too: what zstd or a picture hold of it.
    most = source.most_bytes + 2 * len(damaged)
    _bounded(most, decode, source, damaged, refinement)


def _bounded(most_bytes: int, call, *args) -> None:
    """Call, and fail if it ever held more than that."""
    tracemalloc.start()
    try:
        call(*args)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held <= most_bytes, f"{held} bytes allocated, at most {most_bytes}"


# -- wire: messages, chunks, records, topics

_PULLS = [name.removeprefix("pull_") for name in sorted(vars(messages)) if name.startswith("pull_")]
_RECORDS = (records.DeviceStatus, records.WorkerStatus, records.DeviceInfo, records.WorkerInfo,
            records.PlanRecord)
_CHUNK = struct.Struct("<BBBBHHB")


def wire(data: bytes) -> None:
    """The first byte says who reads the rest."""
    if not data:
        return
    which, rest = data[0], data[1:]
    try:
        if which < 64:
            name = _PULLS[which % len(_PULLS)]
            message = getattr(messages, f"pull_{name}")(memoryview(rest))
            assert getattr(messages, f"push_{name}")(message) == rest
        elif which < 128:
            _bounded(100_000 + 8 * len(rest), records.load, rest, _RECORDS[which % len(_RECORDS)])
        elif which < 160:
            Topics().parse_inbox(rest.decode("utf-8", "replace"))
            Topics().parse_worker_up(rest.decode("utf-8", "replace"))
        elif which < 184:
            chunks.pull_chunk(rest)
        elif which < 192:
            unseal(rest)
        else:
            reassemble(rest)
    except MessageError:
        pass


def reassemble(data: bytes) -> None:
    """Chunks of a few senders whose fields the data makes up, their checksums mostly right."""
    reassembler, begun = chunks.Reassembler(2000, 3000), {}
    for at in range(0, len(data) - _CHUNK.size + 1, _CHUNK.size):
        sender, kind, number, size, message_bytes, offset, flip = _CHUNK.unpack_from(data, at)
        sender %= 4
        (publish,) = chunks.push_chunks(kind % 10, number, bytes([number]) * size, 300,
                                        sealed=kind >= 128)
        head = bytearray(publish[:20])
        head[12:20] = struct.pack("<II", message_bytes, offset)
        body = publish[chunks.HEADER_BYTES:]
        crc = chunks.zlib.crc32(body, chunks.zlib.crc32(head)) ^ (flip == 255)
        now_s = float(at)
        begun.setdefault(sender, now_s)
        try:
            message = reassembler.push(str(sender), head + struct.pack("<I", crc) + body, now_s)
        except MessageError:
            message = None
        if message is not None:
            assert message.sealed == (kind >= 128)
            assert len(message.body) == message_bytes and message.first_s <= now_s
        if flip == 254:
            reassembler.sweep(now_s)
        held = sum(len(p.data) for p in reassembler._partials.values())
        assert held == reassembler.held_bytes <= 3000


_SEALED = [bytes.fromhex("".join(c[2 * chunks.HEADER_BYTES:] for c in parts))
           for parts in golden.sealed().values()]


def unseal(data: bytes) -> None:
    """Edits of a sealed message: only the message itself opens, and only once."""
    seal = Seal(parse_keyring(golden.SEALED_KEYS, "fuzz"), golden.SEALED_SESSIONS[1])
    kind = golden.MESSAGES[golden.SEALED[0]][0]
    damaged = edit(_SEALED[0], data, _SEALED[1])
    for time in ("first", "second"):
        try:
            seal.open(kind, golden.SEALED_TOPIC, "pi-door", memoryview(damaged))
        except MessageError:
            return
        assert damaged == _SEALED[0], "a changed message opened"
        assert time == "first", "a message opened twice"


# -- coding: a bundle's codec tables

_CODING_SPECS = {s.name: s for s in calibrated.SPECS}
_CODING = push_coding(calibrated.stored_codings())
_CALIBRATED = [s for s in _SOURCES if s.specs is calibrated.SPECS]


def coding(data: bytes) -> None:
    """The tables, or from 128 on edits of the golden ones; then payloads by what is accepted."""
    if not data:
        return
    tables = data[1:] if data[0] < 128 else edit(_CODING, data[1:], _CODING[::-1])
    # Unpacked, what few bytes of tables claim is bounded by the tensors.
    nbytes = sum(s.nbytes for s in calibrated.SPECS)
    _bounded(64 * nbytes + 64 * len(tables) + 500_000, _use_tables, tables, data[0])


def _use_tables(tables: bytes, which: int) -> None:
    try:
        codings = pull_coding(tables, _CODING_SPECS)
    except BundleError:
        return
    assert push_coding(codings) is not None
    source = _CALIBRATED[which % len(_CALIBRATED)]
    coder = Coder(codings=codings)
    try:
        for name in codings:
            coder._transform(_CODING_SPECS[name])
    except BundleError:
        return
    with np.errstate(all="ignore"):       # tables of huge values decode to nonsense
        decode(type(source)("", coder, source.specs, b""), source.payload, source.refinement)


# -- model: a .tflite file and its manifest

def model(data: bytes) -> None:
    """An even first byte: a model; an odd one: a manifest."""
    if not data:
        return
    read = parse_manifest if data[0] % 2 else read_graph
    try:
        # Reading keeps Python objects of what few bytes of the file name: about fifty
        # bytes for one.
        _bounded(200_000 + 100 * len(data), read, data[1:])
    except BundleError:
        pass


TARGETS = {"entropy": entropy, "payload": payload, "wire": wire, "coding": coding, "model": model}
