"""Uniform grids: values to symbols of 1 to 8 bits and back (docs/wire-format.md, section 3)."""

from __future__ import annotations

import numpy as np

import cext
from split_core.errors import MessageError
from split_core.tensors import TensorSpec


def packed_bytes(elements: int, bits: int) -> int:
    return (elements * bits + 7) // 8


def float_grid(bounds: tuple[float, float], top: int) -> tuple[float, float, float]:
    """Lowest value, step and its inverse for symbols 0..top over ``bounds``, as float32."""
    lo, hi = np.float32(bounds[0]), np.float32(bounds[1])
    # In double precision: the range of extreme floats is larger than a float32 can hold.
    step = np.float32((float(hi) - float(lo)) / top)
    if not np.isfinite(step) or step <= np.finfo(np.float32).tiny:
        return float(lo), 0.0, 0.0
    return float(lo), float(step), float(np.float32(1.0 / float(step)))


def integer_grid(bounds: tuple[float, float], top: int) -> tuple[float, float]:
    """Lowest stored value and step; a step of 1, which loses nothing, where that suffices."""
    lo, hi = bounds
    return (lo, 1.0) if hi - lo <= top else (lo, float(np.float32((hi - lo) / top)))


def integer_to_symbol(dtype: str, lo: float, step: float, top: int) -> np.ndarray:
    """Symbol of each stored byte, indexed by the byte as unsigned."""
    stored = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
    return np.clip(np.rint((stored - lo) / step), 0, top).astype(np.uint8)


def from_symbols(symbols: np.ndarray, spec: TensorSpec, bits: int, lo: float,
                  step: float) -> np.ndarray:
    # In double precision: exact products, one rounding, the same on every platform.
    values = np.arange(1 << bits, dtype=np.float64) * step + lo
    if spec.dtype == "float32":
        limit = np.finfo(np.float32).max
        table = np.clip(values, -limit, limit).astype(np.float32)
        array = np.empty(spec.elements, np.float32)
        cext.lookup_f32(symbols, array, table)
        return array.reshape(spec.shape)
    info = np.iinfo(spec.np_dtype)
    table = np.zeros(256, np.uint8)
    table[: len(values)] = np.clip(np.rint(values), info.min, info.max).astype(
        spec.np_dtype).view(np.uint8)
    if bits < 8 and symbols.size and symbols.max() >> bits:
        raise MessageError(f"tensor {spec.name!r}: symbol {symbols.max()} of {bits} bits")
    array = np.empty(spec.elements, np.uint8)
    cext.lookup_u8(symbols, array, table)
    return array.view(spec.np_dtype).reshape(spec.shape)
