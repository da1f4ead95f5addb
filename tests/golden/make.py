"""Writes the golden vectors: `make golden`. Nothing else does, and a missing one fails.

They freeze the bytes of docs/wire-format.md. Where zstd, JPEG or WebP made the bytes, another
version of that library may make others, so those are frozen for the decoder alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from split_core.crypto.keyring import parse_keyring
from split_core.crypto.sealed import Seal
from split_core.model.manifest import ImageInput
from split_core.tensors import TensorSpec
from split_core.wire import messages as m
from split_core.wire.chunks import push_chunks
from split_core.wire.payload import Coder
from split_core.wire.rungs import Rung
from tests.golden import calibrated

FOLDER = Path(__file__).parent
DIGEST = bytes(range(32))
MESSAGES = {
    "frame": (m.Kind.FRAME, m.push_frame, m.Frame(
        DIGEST, 0x0123456789ABCDEF, 7, 3, 250_000, 14, m.Codec.QUANTIZED, 2, b"payload")),
    "result": (m.Kind.RESULT, m.push_result, m.Result(
        0x0123456789ABCDEF, 7, 3, m.StageTimes(1, 20, 300, 4000, 50_000), 1, b"outputs")),
    "refusal": (m.Kind.REFUSAL, m.push_refusal, m.Refusal(
        0x0123456789ABCDEF, 7, m.Reason.SHED, 1500, "busy")),
    "blob_request": (m.Kind.BLOB_REQUEST, m.push_blob_request, m.BlobRequest(
        DIGEST, 2**33, 245_760)),
    "refined_result": (m.Kind.RESULT, m.push_result, m.Result(
        0x0123456789ABCDEF, 7, 3, m.StageTimes(1, 20, 300, 4000, 50_000), 1, b"outputs", True)),
    "refinement_request": (m.Kind.REFINEMENT_REQUEST, m.push_refinement_request,
                           m.RefinementRequest(0x0123456789ABCDEF, 7, 0.375)),
    "refinement": (m.Kind.REFINEMENT, m.push_refinement, m.Refinement(
        0x0123456789ABCDEF, 7, 200_000, b"second layer")),
    "blob_part": (m.Kind.BLOB_PART, m.push_blob_part, m.BlobPart(DIGEST, 10, 20, b"0123456789")),
}
# A device's two messages to a worker, sealed one after the other: key, sessions and salt are fixed.
SEALED_TOPIC = "si/v1/_pool/w1/in/pi-door"
SEALED_KEYS = "fleet AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SEALED_SESSIONS = (0x0123456789ABCDEF, 0xFEDCBA9876543210)      # the sender's, the receiver's
SEALED_SALT = bytes(range(0xA0, 0xB0))
SEALED = ("frame", "refinement")
RUNGS = ("raw", *(f"q{b}" for b in range(1, 9)), "jpeg90", "webp90")
IMAGE = ImageInput("image", 16, 24, 3)


def tensors() -> dict[str, np.ndarray]:
    """One tensor a quantizable type; arithmetic alone, so that any machine has the same."""
    ramp = np.arange(4 * 3 * 8)
    wave = (ramp * 37 % 101 - 30).reshape(1, 4, 3, 8)
    noise = ((ramp * 2_654_435_761) >> 13) % 256
    return {
        "f": np.maximum(wave, 0).astype(np.float32) / 8,
        "i": wave.astype(np.int8),
        "u": noise.reshape(1, 4, 3, 8).astype(np.uint8),
        "w": wave.astype(np.int64),
        "image": (np.arange(16 * 24 * 3) * 5 // 7 % 256).reshape(1, 16, 24, 3).astype(np.uint8),
    }


def specs() -> list[TensorSpec]:
    return [TensorSpec(n, a.shape, a.dtype.name) for n, a in tensors().items()]


def payload(rung: str) -> bytes:
    return Coder(image=IMAGE).encode(list(tensors().values()), specs(), Rung.parse(rung))


def sealed() -> dict[str, list[str]]:
    """The chunks of both."""
    sender, receiver = SEALED_SESSIONS
    seal = Seal(parse_keyring(SEALED_KEYS, "golden"), sender, salt=SEALED_SALT)
    seal.on_session("w1", receiver)
    chunks = {}
    for name in SEALED:
        kind, push, message = MESSAGES[name]
        body = seal.seal(kind, SEALED_TOPIC, "w1", push(message))
        chunks[name] = [c.hex() for c in push_chunks(kind, 42, body, 96, sealed=True)]
    return chunks


def write() -> None:
    chunks = {name: [c.hex() for c in push_chunks(kind, 42, push(message), 96)]
              for name, (kind, push, message) in MESSAGES.items()}
    (FOLDER / "messages.json").write_text(json.dumps(chunks, indent=1) + "\n")
    (FOLDER / "sealed.json").write_text(json.dumps(sealed(), indent=1) + "\n")
    for rung in RUNGS:
        data = payload(rung)
        decoded = Coder(image=IMAGE).decode(data, specs())
        np.savez_compressed(FOLDER / f"payload-{rung}.npz", payload=np.frombuffer(data, np.uint8),
                            **{s.name: a for s, a in zip(specs(), decoded)})
    calibrated.write(FOLDER)
    print(f"wrote {FOLDER}", file=sys.stderr)


if __name__ == "__main__":
    write()
