"""Golden payloads of the calibrated codec: a made-up boundary with made-up tables.

Tensors are integer arithmetic, so that any machine has the same. Tables are cosines, whose
last bit is a libm's: tests read those that `make golden` stored beside the payloads, and
symbols too, since a transform's last bit may move one that lies between two.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from split_core.model.coding import TensorCoding, pull_coding, push_coding, push_halves, push_mean
from split_core.tensors import Quantization, TensorSpec
from split_core.wire.payload import Coder, Encoding, Layers
from split_core.wire.transformed import TensorTransform

TABLES = Path(__file__).parent / "coding.msgpack"
# Pictures with and without whole blocks, a sequence, dense tensors whose channels are only
# scaled, and one without tables.
SPECS = (
    TensorSpec("picture", (1, 6, 8, 12), "float32"),
    TensorSpec("stored", (1, 7, 7, 8), "int8", Quantization(0.5, -7)),
    TensorSpec("steps", (1, 12, 6), "uint8", Quantization(0.25, 128)),
    TensorSpec("dense", (1, 40), "float32"),
    TensorSpec("dense8", (1, 20), "int8", Quantization(0.5, 0)),
    TensorSpec("plain", (1, 3), "int64"),
)
_BLOCKS = {"picture": (2, 3, 2, 4, 12), "stored": (1, 7, 1, 7, 8), "steps": (1, 1, 1, 12, 6),
           "dense": (1, 1, 1, 1, 40), "dense8": (1, 1, 1, 1, 20)}
# Steps of 8, 1 and 1/64. At the last every table is left for raw bits, and 8-bit tensors
# gain nothing and travel quantized; layers are at three times these.
STEPS = {"coarse": 96, "middle": 0, "fine": -192, "layers": 32, "fine-layers": -96}
MARGIN = 0.25


def tensors() -> list[np.ndarray]:
    """Waves with rare peaks, which no table expects: they become escapes."""
    arrays = []
    for k, spec in enumerate(SPECS):
        ramp = np.arange(spec.elements)
        wave = ramp * (7 + k) % 23 - 11
        wave = wave + np.where(ramp * 31 % 97 == k, 40, 0)
        if spec.dtype == "float32":
            wave = wave / 4 + np.where(ramp % 311 == 17, 2000, 0)
        elif spec.dtype == "uint8":
            wave = wave + 128
        arrays.append(wave.reshape(spec.shape).astype(spec.dtype))
    return arrays


def make_codings() -> dict[str, TensorCoding]:
    codings = {}
    for name, blocks in _BLOCKS.items():
        _, rows, _, columns, channels = blocks
        # Strong diagonal: far from singular, and no two channels alike.
        channel = (np.arange(channels) % 5 + 1.0 if name.startswith("dense")
                   else 4 * np.eye(channels) + _cosines(channels))
        mean = np.arange(np.prod(blocks)) % 9 - 4.0
        codings[name] = TensorCoding(
            name, blocks, 0.25, push_halves(channel), *(
                push_halves(_cosines(n)) if n > 1 else b"" for n in (rows, columns)),
            0.125, push_mean(mean, 0.125), *(
                tuple(top - slope * i for i in range(n))
                for n, top, slope in ((rows, 30, 9), (columns, 20, 7), (channels, 60, 5))))
    return codings


def _cosines(size: int) -> np.ndarray:
    k, j = np.arange(size)[:, None], np.arange(size)[None]
    return np.cos(np.pi * (j + 0.5) * k / size) * np.sqrt(np.where(k, 2, 1) / size)


def stored_codings() -> dict[str, TensorCoding]:
    return pull_coding(TABLES.read_bytes(), {s.name: s for s in SPECS})


def blocks(payload: bytes) -> list[tuple[int, int, bytes]]:
    """Encoding, step index and data of each block, read as the page has it. Of blocks
    without tables the index means nothing."""
    found = []
    while payload:
        code, _, rank, _, _, index, size = struct.unpack_from("<BBBBfiI", payload)
        start = 16 + 4 * rank
        found.append((code, index, payload[start:start + size]))
        payload = payload[start + size:]
    return found


def encode(name: str, coder: Coder) -> tuple[bytes, bytes]:
    """A payload, and its refinement if it is a base layer."""
    index, layers = STEPS[name], None
    if "layers" in name:
        payload, layers = coder.encode_base(tensors(), SPECS, index, MARGIN)
        return payload, coder.encode_refinement(layers)
    return coder.encode_at(tensors(), SPECS, index)[0], b""


def write(folder: Path) -> None:
    codings = make_codings()
    TABLES.write_bytes(push_coding(codings))
    codings = stored_codings()
    for name in STEPS:
        payload, refinement = encode(name, Coder(codings=codings))
        arrays, layers = Coder(codings=codings).decode_layers(payload, SPECS)
        frozen = {"payload": payload, "refinement": refinement,
                  **{s.name: a for s, a in zip(SPECS, arrays)}}
        for spec, (code, index, data) in zip(SPECS, blocks(payload)):
            if code in (Encoding.TRANSFORMED, Encoding.BASE):
                frozen[f"{spec.name}.symbols"] = TensorTransform(
                    codings[spec.name], spec).decode(data, index)[1]
        if layers is not None:
            refined = Coder(codings=codings).refine(layers, refinement)
            frozen |= {f"{s.name}.refined": a for s, a in zip(SPECS, refined)}
            frozen |= _fine_symbols(codings, layers, refinement)
        np.savez_compressed(folder / f"calibrated-{name}.npz", **{
            k: np.frombuffer(v, np.uint8) if isinstance(v, bytes) else v
            for k, v in frozen.items()})


def _fine_symbols(codings, layers: Layers, refinement: bytes) -> dict[str, np.ndarray]:
    import cext

    found = {}
    for (name, base), (_, index, data) in zip(layers.symbols.items(), blocks(refinement)):
        fine = np.empty_like(base)
        cext.decode_refinement(np.frombuffer(data, np.uint8), base, codings[name].exponents(),
                               index, fine)
        found[f"{name}.fine"] = fine
    return found
