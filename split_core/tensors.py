"""What a tensor is, as far as both sides must agree: name, shape, type, quantization.

Shapes are concrete (TFLite's batch of -1 is 1 here), sizes follow from them, and nothing a
peer says can change them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Types a boundary tensor may have: fixed-size elements that NumPy and TFLite store alike.
DTYPES: dict[str, np.dtype] = {
    name: np.dtype(name)
    for name in ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
}


@dataclass(frozen=True, slots=True)
class Quantization:
    """Per-tensor affine quantization, real = scale * (stored - zero_point) (TFLite spec)."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor as the bundle describes it. ``shape`` is empty for a scalar."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None

    @property
    def np_dtype(self) -> np.dtype:
        return DTYPES[self.dtype]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * self.np_dtype.itemsize

    @property
    def channels(self) -> int:
        """Size of the last axis (TFLite keeps channels last); 1 for a scalar."""
        return self.shape[-1] if self.shape else 1


def to_real(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Stored values as real ones (TFLite affine quantization)."""
    if spec.quantization is None or array.dtype.kind == "f":
        return array
    q = spec.quantization
    return (array.astype(np.float32) - q.zero_point) * np.float32(q.scale)
