"""Activations to transform coefficients and back: matrices over channels, width and height.

A tensor is blocks_h * rows by blocks_w * columns pixels of so many channels, channels
innermost. Forward, every pixel is multiplied by `channel`, every line of a block
by `column`, every stack of lines by `row`; then the mean goes, and one step makes
symbols. Integers enter as they are: their scale and zero point are for the caller to
fold into the matrices.

All three are products out[m, n] = left[m, k] @ right[k, n] with n contiguous (simd.pxd).
Sums are in no promised order and may be fused, so coefficients differ in their last bits
between machines; from coefficients on, symbols are exact.
"""

import os
from math import prod

import numpy as np

from libc.math cimport isfinite
from libc.stdint cimport int8_t, int16_t, uint8_t
from libc.string cimport memcpy

from cext.checks cimport check_size
from cext.simd cimport TILE_ROWS, nearest, simd_baseline, simd_fastest, simd_t

cdef enum:
    F32, I8, U8

_KINDS = {"float32": F32, "int8": I8, "uint8": U8}


cdef const simd_t* simd_of(name) except NULL:
    cdef const simd_t* fastest = simd_fastest()
    if name is None or name == fastest.name.decode():
        return fastest
    if name == "baseline":
        return &simd_baseline
    raise ValueError(f"simd is {name!r}, this machine has 'baseline' and {fastest.name.decode()!r}")


# An empty variable is an unset one, as with SPLIT_CODEC.
try:
    SIMD = simd_of(os.environ.get("SPLIT_SIMD") or None).name.decode()
except ValueError as error:
    raise ImportError(f"SPLIT_SIMD: {error}") from None

cdef const simd_t* DEFAULT = simd_of(SIMD)


ctypedef struct Matrices:
    const float* channel    # transposed, as a right factor; NULL is the identity
    const float* column     # left factors, spread over lanes
    const float* row


cdef class Transform:
    """One tensor's transform, with the scratch it needs: for one thread at a time.

    shape is (blocks_h, rows, blocks_w, columns, channels); a matrix that is None is the
    identity and costs nothing; offset is the mean, already transformed. Coefficients are
    those of reference_codec.Transform but for 2**-16 of the magnitudes they are sums of.
    """
    cdef const simd_t* simd
    cdef int kind
    cdef Py_ssize_t blocks_h, rows, blocks_w, columns, channels, n
    cdef object matrices
    cdef object ahead_arrays, back_arrays   # what ahead and back point into
    cdef Matrices ahead, back
    cdef const float[::1] offset
    cdef float[::1] first, second, strip

    def __cinit__(self, shape, dtype, channel, row, column, offset, *, simd=None):
        self.simd = simd_of(simd) if simd is not None else DEFAULT
        if len(shape) != 5 or min(shape) < 1:
            raise ValueError(f"shape is {tuple(shape)}, must be five sizes of at least 1")
        if dtype not in _KINDS:
            raise ValueError(f"dtype is {dtype!r}, must be one of {', '.join(_KINDS)}")
        self.kind = _KINDS[dtype]
        self.blocks_h, self.rows, self.blocks_w, self.columns, self.channels = shape
        n = prod(shape)         # in Python's integers, which do not overflow
        self.offset = _finite("offset", offset, (n,))
        self.n = n
        self.matrices = (_matrix("channel", channel, self.channels), _matrix("row", row, self.rows),
                         _matrix("column", column, self.columns))
        self.ahead_arrays = self._lay_out(self.matrices, &self.ahead)
        self.first, self.second = np.empty(self.n, np.float32), np.empty(self.n, np.float32)
        self.strip = np.empty(TILE_ROWS * self.channels * self.simd.lanes, np.float32)

    def forward(self, src, int16_t[::1] symbols not None, float inv_step):
        """Write clip(round_half_even(coefficient * inv_step), -32767, 32767); NaN gives 0."""
        cdef const void* values = self._values("src", src, self.kind, False)
        check_inv_step(inv_step)
        check_size("symbols", symbols.shape[0], self.n)
        with nogil:
            self.simd.quantize(self._analyse(values), &self.offset[0], &symbols[0], self.n, inv_step)

    def coefficients(self, src, float[::1] dst not None):
        """Write the coefficients, mean taken off: what forward makes symbols of."""
        cdef const void* values = self._values("src", src, self.kind, False)
        cdef const float* y
        cdef Py_ssize_t i
        check_size("dst", dst.shape[0], self.n)
        with nogil:
            y = self._analyse(values)
            for i in range(self.n):
                dst[i] = y[i] - self.offset[i]

    def inverse(self, const int16_t[::1] symbols not None, float step, dst, float shrink=0.0):
        """Write the tensor that symbols of this step stand for, each symbol but 0 taken
        `shrink` nearer to 0 than it is.

        float32 as it comes, integers rounded half to even and kept within their type.
        """
        cdef void* out = self._values("dst", dst, self.kind, True)
        check_size("symbols", symbols.shape[0], self.n)
        if not (isfinite(step) and step >= 0.0):
            raise ValueError(f"step is {step} as float32, must be finite and not negative")
        if not 0.0 <= shrink <= 0.5:
            raise ValueError(f"shrink is {shrink}, must be 0 to 0.5")
        if self.back_arrays is None:    # a device never comes here
            self.back_arrays = self._lay_out([_inverse(*m) for m in zip(("channel", "row", "column"), self.matrices)],
                                             &self.back)
        with nogil:
            self._synthesise(&symbols[0], step, shrink, out)

    cdef _lay_out(self, matrices, Matrices* to):
        """Put matrices as the products want them; the caller keeps what is returned."""
        cdef const float[::1] view
        arrays = [None if m is None else m.T.ravel() if i == 0 else np.repeat(m, self.simd.lanes)
                  for i, m in enumerate(matrices)]
        cdef const float* at[3]
        for i, array in enumerate(arrays):
            at[i] = NULL
            if array is not None:
                view = array
                at[i] = &view[0]
        to.channel, to.row, to.column = at[0], at[1], at[2]
        return arrays

    cdef void* _values(self, name, buffer, int kind, bint writable) except NULL:
        """Where a buffer's values are; the caller holds it."""
        cdef const float[::1] f32
        cdef const int8_t[::1] i8
        cdef const uint8_t[::1] u8
        if writable and memoryview(buffer).readonly:
            raise ValueError(f"{name} is read-only, must be writable")
        if kind == F32:
            f32 = buffer
            check_size(name, f32.shape[0], self.n)
            return <void*>&f32[0]
        if kind == I8:
            i8 = buffer
            check_size(name, i8.shape[0], self.n)
            return <void*>&i8[0]
        u8 = buffer
        check_size(name, u8.shape[0], self.n)
        return <void*>&u8[0]

    # The stages, each from one buffer to another

    cdef void _spread(self, const simd_t* simd, const void* src, int kind, Py_ssize_t first, Py_ssize_t n,
                      float* dst) noexcept nogil:
        """Values first..first + n as floats."""
        if kind == F32:
            simd.spread_f32(<const float*>src + first, dst, n)
        elif kind == I8:
            simd.spread_i8(<const int8_t*>src + first, dst, n)
        else:
            simd.spread_u8(<const uint8_t*>src + first, dst, n)

    cdef void _pixels(self, const void* src, int kind, const float* matrix, float* dst) noexcept nogil:
        """dst[p, :] = src[p, :] @ matrix, a few pixels at a time."""
        cdef Py_ssize_t c = self.channels, pixels = self.n // self.channels, p, end, s
        cdef Py_ssize_t strips = (pixels + TILE_ROWS - 1) // TILE_ROWS
        for s in range(strips):
            p = pixels * s // strips
            end = pixels * (s + 1) // strips
            self._spread(self.simd, src, kind, p * c, (end - p) * c, &self.strip[0])
            self.simd.multiply(&self.strip[0], matrix, c, dst + p * c, c, end - p, c, c)

    cdef void _lines(self, const float* src, const float* matrix, float* dst) noexcept nogil:
        """Along the width, block by block: each is [columns, channels]."""
        cdef Py_ssize_t c = self.channels, k = self.columns, b
        for b in range(self.n // (k * c)):
            self.simd.multiply(matrix, src + b * k * c, c, dst + b * k * c, c, k, k, c)

    cdef void _stacks(self, const float* src, const float* matrix, float* dst) noexcept nogil:
        """Along the height: a row of blocks is [rows, width * channels]."""
        cdef Py_ssize_t line = self.blocks_w * self.columns * self.channels, k = self.rows, b, j, at
        for b in range(self.blocks_h):
            # So wide that a stack of 14 is 14 kB and stays in L1 from strip to strip.
            for j in range(0, line, 256):
                at = b * k * line + j
                self.simd.multiply(matrix, src + at, line, dst + at, line, k, k, min(256, line - j))

    cdef float* _analyse(self, const void* src) noexcept nogil:
        """The coefficients, mean and all, in one of the two buffers."""
        cdef float* here = &self.first[0]
        cdef float* there = &self.second[0]
        if self.ahead.channel != NULL:
            self._pixels(src, self.kind, self.ahead.channel, here)
        else:
            self._plain(src, here)
        if self.ahead.column != NULL:
            self._lines(here, self.ahead.column, there)
            here, there = there, here
        if self.ahead.row != NULL:
            self._stacks(here, self.ahead.row, there)
            here, there = there, here
        return here

    cdef void _plain(self, const void* src, float* dst) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.n):
            if self.kind == F32:
                dst[i] = (<const float*>src)[i]
            elif self.kind == I8:
                dst[i] = (<const int8_t*>src)[i]
            else:
                dst[i] = (<const uint8_t*>src)[i]

    cdef void _synthesise(self, const int16_t* symbols, float step, float shrink, void* dst) noexcept nogil:
        cdef float* here = &self.first[0]
        cdef float* there = &self.second[0]
        self.simd.dequantize(symbols, &self.offset[0], here, self.n, step, shrink)
        if self.back.row != NULL:
            self._stacks(here, self.back.row, there)
            here, there = there, here
        if self.back.column != NULL:
            self._lines(here, self.back.column, there)
            here, there = there, here
        if self.back.channel != NULL:
            self._pixels(here, F32, self.back.channel, there)
            here, there = there, here
        if self.kind == F32:
            memcpy(dst, here, self.n * sizeof(float))
        elif self.kind == I8:
            self.simd.round_i8(here, <int8_t*>dst, self.n)
        else:
            self.simd.round_u8(here, <uint8_t*>dst, self.n)


def quantize_coefficients(const float[::1] coefficients not None, int16_t[::1] symbols not None, float inv_step):
    """Symbols of coefficients, exactly as forward makes them and as its twin does."""
    cdef Py_ssize_t n = coefficients.shape[0], i
    check_inv_step(inv_step)
    check_size("symbols", symbols.shape[0], n)
    with nogil:
        for i in range(n):
            symbols[i] = nearest(coefficients[i] * inv_step, -32767.0, 32767.0)


cdef int check_inv_step(float inv_step) except -1:
    if not (isfinite(inv_step) and inv_step >= 0.0):
        raise ValueError(f"inv_step is {inv_step} as float32, must be finite and not negative")
    return 0


def _inverse(name, matrix):
    if matrix is None:
        return None
    wide = matrix.astype(np.float64)
    # A matrix this close to singular has an inverse of rounding errors.
    if np.linalg.cond(wide) > 1e10:
        raise ValueError(f"{name} is singular")
    return np.linalg.inv(wide).astype(np.float32)


def _matrix(name, matrix, size):
    return None if matrix is None else _finite(name, matrix, (size, size))


def _finite(name, values, shape):
    """A private float32 copy of values, which must have this shape and be finite."""
    array = np.array(values, dtype=np.float32, order="C")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, must have {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array
