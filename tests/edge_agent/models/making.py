"""Models that take the camera's pictures, good ones and others, and updates to them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.tiny_models import CAST, FULLY_CONNECTED, SOFTMAX, O, T, write_model

GATHER = 23                          # of the BuiltinOptions union (schema.fbs)


def fragile_model() -> bytes:
    """Looks its pixels up in a table of 256: runs with 0 to 255, fails with less. Noise around
    zero has less in every frame."""
    rng = np.random.default_rng(7)
    size = 64 * 64 * 3

    def constant(name, *shape):
        return T(name, shape, data=rng.standard_normal(shape).astype(np.float32))

    tensors = [
        T("image", (1, 64, 64, 3)), T("index", (1, 64, 64, 3), "int32"), constant("table", 256),
        T("looked-up", (1, 64, 64, 3)),
        T("shape", (2,), "int32", np.array([1, size], np.int32)), T("flat", (1, size)),
        constant("w", 10, size), constant("b", 10), T("logits", (1, 10)), T("scores", (1, 10)),
    ]
    codes = tiny_models._TYPE
    ops = [
        O("CAST", (0,), (1,), (CAST, {0: ("i8", codes["float32"]), 1: ("i8", codes["int32"])})),
        O("GATHER", (2, 1), (3,), (GATHER, {})),
        O("RESHAPE", (3, 4), (5,)),
        O("FULLY_CONNECTED", (5, 6, 7), (8,), (FULLY_CONNECTED, {})),
        O("SOFTMAX", (8,), (9,), (SOFTMAX, {0: ("f32", 1.0)})),
    ]
    return write_model(tensors, ops, [0], [9])


def bundle_of(folder: Path, name: str, data: bytes) -> Path:
    """The bundle of a model, which lies beside it."""
    model, bundle = folder / f"{name}.tflite", folder / f"{name}.split.tflite"
    model.write_bytes(data)
    bundle.write_bytes(split_model(model, cuts="all"))
    return bundle


def sha256_of(path: Path | str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
