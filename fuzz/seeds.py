"""`python -m fuzz.seeds FOLDER`: inputs by hand for each target, FOLDER/TARGET/*."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fuzz.edits import EDIT_BYTES
from fuzz.targets import _CODING, _PULLS, _SOURCES, EDITS_OF_REFINEMENT, REFINE, TARGETS, VERBATIM
from split_core.model.build import build_bundle
from split_core.model.bundle import verify
from split_core.model.cuts import find_cuts
from split_core.model.graph import read_graph
from split_core.wire.records import DeviceInfo, PlanRecord, WorkerStatus
from tests.golden import make as golden
from tests.support import tiny_models

_EDITS = [struct.pack("<BHHBB", op, 1000 * op + 17, 33_000 + op, 77 * op % 256, 20 + op)
          for op in range(9)]
assert len(_EDITS[0]) == EDIT_BYTES


def entropy() -> Iterator[bytes]:
    exponents = [*range(-200, 300, 20), 600]
    symbols = [0, 1, -1, 3, -7, 0, 20, -90, 700, -5000, 32767, -32767]
    for n in (1, 40, 513, 1100):
        for index in (-300, 0, 60, 3000):
            for mode in (0, REFINE):
                head = struct.pack("<BhHBB", mode, index, n, len(exponents), len(symbols))
                yield head + struct.pack(f"<{len(exponents)}h{len(symbols)}h", *exponents, *symbols)
    for mode in (VERBATIM, REFINE | VERBATIM):
        for size in (0, 15, 16, 17, 64):
            yield struct.pack("<BhHBBhh", mode, 0, 600, 1, 1, 100, 1) + b"\0\0\1\0" * (size // 4)
    for edit in _EDITS:
        yield struct.pack("<BhHBBhh", 0, 0, 600, 1, 1, 90, 40) + edit
        yield struct.pack("<BhHBBhh", REFINE, 0, 600, 1, 1, 90, 40) + edit


def payload() -> Iterator[bytes]:
    for k, source in enumerate(_SOURCES):
        yield bytes([k]) + bytes(EDITS_OF_REFINEMENT)
        yield bytes([128 + k]) + bytes(EDITS_OF_REFINEMENT) + source.payload
        for edit in _EDITS:
            yield bytes([k]) + bytes(EDITS_OF_REFINEMENT) + edit
        if source.refinement:
            for edit in _EDITS:
                yield bytes([k]) + edit + b"\2" + b"\0" * 13


def wire() -> Iterator[bytes]:
    for _, push, message in golden.MESSAGES.values():
        yield bytes([_PULLS.index(push.__name__.removeprefix("push_"))]) + push(message)
    for k in range(len(_PULLS)):
        yield bytes([k]) + bytes(64)
    documents = (WorkerStatus("ready", "ab", ("00",)), PlanRecord(1, 2, "q4", None, "why"),
                 DeviceInfo("1", (1,), "ab", "m", (0, 1), "r", 50.0))
    for k in range(64, 69):
        for document in documents:
            yield bytes([k]) + msgspec.json.encode(document)
    yield b"\x40" + b"[" * 2000
    for topic in ("si/v1/a/dn/in/b", "si/v1/_pool/w/in/d", "si/v1/_pool/w/up/status", "x"):
        yield bytes([128]) + topic.encode()
    for size in (0, 20, 24, 40):
        yield bytes([160]) + b"SPLT\1\1\0\0" + bytes(size)
    for chunks in ([(0, 1, 5, 100, 250, 0, 0), (0, 1, 5, 100, 250, 100, 0), (0, 1, 5, 50, 250, 200, 0)],
                   [(0, 1, 5, 9, 9, 0, 0)], [(0, 1, 5, 9, 20, 0, 0), (1, 1, 5, 9, 20, 9, 0)],
                   [(k % 4, 1, 5, 255, 1999, 255 * (k // 4), 254) for k in range(20)],
                   [(0, 9, 5, 9, 9, 0, 0)], [(0, 1, 5, 9, 3000, 0, 0)], [(0, 1, 1, 9, 9, 0, 255)]):
        yield bytes([192]) + b"".join(struct.pack("<BBBBHHB", *c) for c in chunks)
    yield bytes([192]) + struct.pack("<BBBBHHB", 0, 131, 5, 9, 9, 0, 0)        # sealed
    yield bytes([160]) + b"SPLT\2\1\1\0" + bytes(16)
    yield bytes([184])
    for edit in _EDITS:
        yield bytes([184]) + edit


def coding() -> Iterator[bytes]:
    for k in range(len(_SOURCES)):
        yield bytes([k]) + _CODING
    tables = msgspec.msgpack.decode(_CODING)
    for field in tables["tensors"][0]:
        for value in (0, -1, 0.0, "", b"", b"\0\0", [], [1] * 5, 1e300, None):
            damaged = msgspec.msgpack.decode(_CODING)
            damaged["tensors"][0][field] = value
            yield b"\0" + msgspec.msgpack.encode(damaged)
    for tensor in range(len(tables["tensors"])):
        for field in ("channel", "row", "column", "mean"):
            for change in (lambda v: v + b"\0", lambda v: bytes(len(v)), lambda v: b"\xff\x7f" * (len(v) // 2)):
                damaged = msgspec.msgpack.decode(_CODING)
                damaged["tensors"][tensor][field] = change(damaged["tensors"][tensor][field])
                yield b"\0" + msgspec.msgpack.encode(damaged)
    yield b"\0" + _CODING.replace(b"picture", b"pictur\x80")
    yield b"\0" + msgspec.msgpack.encode({**tables, "format": 2})
    for edit in _EDITS:
        yield b"\x80" + edit


def model() -> Iterator[bytes]:
    for make in (tiny_models.skip_model, tiny_models.state_model):
        data = make()
        yield b"\0" + data
        graph = read_graph(data)
        manifest, _ = verify(build_bundle(data, graph, find_cuts(graph), name="m"))
        yield b"\1" + manifest.to_json()


if __name__ == "__main__":
    for target in TARGETS:
        folder = Path(sys.argv[1], target)
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(globals()[target]()):
            (folder / f"seed-{number:03}").write_bytes(seed)
