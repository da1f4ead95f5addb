"""One boundary tensor through its bundle's codec tables: coefficients, symbols, bytes.

The step is 2**(index / 32). docs/wire-format.md, section 4, is normative: symbols are exact
on every platform, reconstruction is to a tolerance.
"""

from __future__ import annotations

import numpy as np

import cext
from split_core.model.coding import TensorCoding
from split_core.tensors import TensorSpec
from split_core.wire.rungs import STEPS_AN_OCTAVE

# A coefficient is more often near zero than far, so the middle of its interval is too large:
# 1/16 of a step nearer to zero moves the answer of MobileNetV2 5 to 7 % less, the true
# centroids 2 to 13 % more (docs/decisions/0004-activation-codec.md).
SHRINK = np.float32(1 / 16)


def step_of(index: int) -> float:
    """The step of an index, the same double everywhere: one of 32 constants times 2**n."""
    octave, place = divmod(index, STEPS_AN_OCTAVE)
    return float(np.ldexp(_STEPS[place], octave))


# Rounded to 24 bits, so that a libm's last bit cannot matter.
_STEPS = [float(np.float32(2.0 ** (i / STEPS_AN_OCTAVE))) for i in range(STEPS_AN_OCTAVE)]


class TensorTransform:
    """A tensor's tables, ready to use, with the scratch they need; for one thread."""

    def __init__(self, coding: TensorCoding, spec: TensorSpec):
        self.spec, self.exponents = spec, coding.exponents()
        channel, row, column = coding.matrices()
        q = spec.quantization
        scale, zero = (np.float32(1), 0) if q is None else (np.float32(q.scale), q.zero_point)
        offset = coding.mean_coefficients()
        if spec.dtype != "float32":
            # Stored integers go in as they are: real = scale * (stored - zero).
            channel = scale * (np.ones(coding.blocks[4], np.float32) if channel is None
                               else channel)
            offset = offset + _constant(float(zero), coding, channel, row, column)
        # Channels that are only scaled need no matrix product.
        self._scales = channel if channel is not None and channel.ndim == 1 else None
        self._transform = cext.Transform(
            coding.blocks, "float32" if self._scales is not None else spec.dtype,
            None if self._scales is not None else channel, row, column,
            np.ascontiguousarray(offset, np.float32))
        self._symbols = np.empty(spec.elements, np.int16)
        self._out = np.empty(spec.nbytes, np.uint8)

    # -- to bytes

    def encode(self, array: np.ndarray, index: int) -> bytes | None:
        """The coded symbols at a step index; None where that is no smaller than the tensor."""
        return self._code(self._quantize(array, step_of(index), self._symbols), index)

    def encode_base(self, array: np.ndarray, index: int) -> tuple[bytes | None, np.ndarray]:
        """The base layer at a step index, and the symbols at a third of that step."""
        fine = self.symbols(array, step_of(index) / 3)
        cext.split_base(fine, self._symbols, self.exponents, index)
        return self._code(self._symbols, index), fine

    def encode_refinement(self, fine: np.ndarray, index: int) -> bytes:
        """What turns the base layer's symbols into ``fine``."""
        base, out = np.empty_like(fine), np.empty(cext.max_coded_bytes(fine.size), np.uint8)
        cext.split_base(fine, base, self.exponents, index)
        return out[:cext.encode_refinement(fine, base, self.exponents, index, out)].tobytes()

    def symbols(self, array: np.ndarray, step: float) -> np.ndarray:
        """The tensor's coefficients in steps, int16 [elements]."""
        return self._quantize(array, step, np.empty(self.spec.elements, np.int16))

    def _quantize(self, array: np.ndarray, step: float, symbols: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(array).reshape(-1)
        if self._scales is not None:
            flat = (flat.reshape(-1, self._scales.size) * self._scales).reshape(-1)
        self._transform.forward(flat, symbols, 1.0 / step)
        return symbols

    def _code(self, symbols: np.ndarray, index: int) -> bytes | None:
        size = cext.encode_symbols(symbols, self.exponents, index, self._out)
        return None if size < 0 else self._out[:size].tobytes()

    # -- to tensors

    def decode(self, data: memoryview, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Array and symbols. Raises ValueError for bytes that are no coded symbols."""
        symbols = np.empty(self.spec.elements, np.int16)
        cext.decode_symbols(np.frombuffer(data, np.uint8), self.exponents, index, symbols)
        return self._reconstruct(symbols, step_of(index)), symbols

    def decode_refinement(self, data: memoryview, base: np.ndarray, index: int) -> np.ndarray:
        """The array at a third of the step. Raises ValueError."""
        fine = np.empty_like(base)
        cext.decode_refinement(np.frombuffer(data, np.uint8), base, self.exponents, index, fine)
        return self._reconstruct(fine, step_of(index) / 3)

    def _reconstruct(self, symbols: np.ndarray, step: float) -> np.ndarray:
        if self._scales is None:
            array = np.empty(self.spec.shape, self.spec.np_dtype)
            self._transform.inverse(symbols, step, array.reshape(-1), SHRINK)
            return array
        real = np.empty(self.spec.elements, np.float32)
        self._transform.inverse(symbols, step, real, SHRINK)
        real = (real.reshape(-1, self._scales.size) / self._scales).reshape(self.spec.shape)
        if self.spec.dtype == "float32":
            return real
        info = np.iinfo(self.spec.np_dtype)
        return np.clip(np.rint(real), info.min, info.max).astype(self.spec.np_dtype)


def _constant(value: float, coding: TensorCoding, channel: np.ndarray, row, column) -> np.ndarray:
    """The coefficients of a tensor that is ``value`` everywhere, float32 [elements]."""
    blocks_h, rows, blocks_w, columns, _ = coding.blocks
    along_c = channel.astype(np.float64).sum(-1) if channel.ndim == 2 else channel.astype(float)
    along_h, along_w = (np.ones(n) if m is None else m.astype(np.float64).sum(1)
                        for m, n in ((row, rows), (column, columns)))
    coefficients = (np.tile(along_h, blocks_h)[:, None, None]
                    * np.tile(along_w, blocks_w)[None, :, None] * along_c)
    return (value * coefficients).astype(np.float32).ravel()

