"""Floats to symbols: the range of a tensor, and the uniform quantizer.

A symbol is clip(round_half_even((x - lo) * inv_step), 0, top), each step rounded
to float32, in that order. Decoder tables and golden files rest on these exact
bits, hence -ffp-contract=off in setup.py.
"""

from libc.math cimport INFINITY, isfinite
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from cext.sse2 cimport sse2_quantize


cdef extern from *:
    """
    #include <float.h>
    #if FLT_EVAL_METHOD == 1 || FLT_EVAL_METHOD == 2 || FLT_EVAL_METHOD < 0
    #error "float keeps excess precision, symbols would differ: on 32-bit x86 add -msse2 -mfpmath=sse"
    #endif
    """
    const float FLT_MAX


cdef enum:
    # Adding it to 0 <= v <= 255 leaves the integer nearest to v, ties to even, in the
    # low bits of the sum: at 1.5 * 2**23 floats are 1 apart. rintf would be a function
    # call on baseline x86-64, and the loop would not vectorize.
    ROUNDER = 12582912
    # Independent minima and maxima: compilers keep a single float minimum scalar for
    # fear of NaN. 64 and not fewer, or gcc unrolls the inner loop before it vectorizes
    # (112x112x16: 65 us with 16 lanes, 17 us with 64).
    LANES = 64


cdef void range_kernel(const float* src, Py_ssize_t n, float* lo, float* hi) noexcept nogil:
    """Range of all values but NaN, with which no comparison holds; may be infinite."""
    cdef float low[LANES]
    cdef float high[LANES]
    cdef Py_ssize_t i, j
    cdef float v
    for j in range(LANES):
        low[j] = INFINITY
        high[j] = -INFINITY
    for i in range(n // LANES):
        for j in range(LANES):
            v = src[i * LANES + j]
            low[j] = v if v < low[j] else low[j]
            high[j] = v if v > high[j] else high[j]
    for i in range(n - n % LANES, n):
        v = src[i]
        low[0] = v if v < low[0] else low[0]
        high[0] = v if v > high[0] else high[0]
    lo[0] = low[0]
    hi[0] = high[0]
    for j in range(1, LANES):
        lo[0] = low[j] if low[j] < lo[0] else lo[0]
        hi[0] = high[j] if high[j] > hi[0] else hi[0]


cdef void finite_range_kernel(const float* src, Py_ssize_t n, float* lo, float* hi) noexcept nogil:
    """Range of the finite values, one by one: only for tensors with an infinity."""
    cdef Py_ssize_t i
    lo[0] = INFINITY
    hi[0] = -INFINITY
    for i in range(n):
        if -FLT_MAX <= src[i] <= FLT_MAX:
            lo[0] = src[i] if src[i] < lo[0] else lo[0]
            hi[0] = src[i] if src[i] > hi[0] else hi[0]


cdef void quantize_kernel(const float* src, uint8_t* dst, Py_ssize_t n,
                          float lo, float inv_step, float top) noexcept nogil:
    cdef Py_ssize_t i
    cdef float v
    cdef uint32_t bits
    for i in range(sse2_quantize(src, dst, n, lo, inv_step, top), n):
        v = (src[i] - lo) * inv_step
        v = v if v > 0.0 else <float>0.0    # NaN fails the comparison and lands on 0
        v = v if v < top else top
        v += <float>ROUNDER
        memcpy(&bits, &v, sizeof(bits))
        dst[i] = <uint8_t>bits


def range_f32(const float[::1] src not None):
    """Return the smallest and largest finite value, (0.0, 0.0) if there is none.

    A zero is always +0.0. Equal to reference.range_f32.
    """
    cdef float lo = 0.0, hi = 0.0
    cdef Py_ssize_t n = src.shape[0]
    if n == 0:
        return 0.0, 0.0
    with nogil:
        range_kernel(&src[0], n, &lo, &hi)
        if lo == -INFINITY or hi == INFINITY:
            finite_range_kernel(&src[0], n, &lo, &hi)
    if lo > hi:                 # still as they began: nothing finite
        return 0.0, 0.0
    return lo + 0.0, hi + 0.0   # -0.0 + 0.0 is +0.0


def quantize_f32(const float[::1] src not None, uint8_t[::1] dst not None,
                 float lo, float inv_step, Py_ssize_t top):
    """Write one symbol 0..top per value; NaN gives 0, infinities the ends.

    Bit-identical to reference.quantize_f32.
    """
    cdef Py_ssize_t n = src.shape[0]
    if dst.shape[0] != n:
        raise ValueError(f"dst holds {dst.shape[0]} symbols, src has {n} values")
    if not 1 <= top <= 255:
        raise ValueError(f"top is {top}, must be 1..255")
    if not isfinite(lo):
        raise ValueError(f"lo is {lo} as float32, must be finite")
    if not (isfinite(inv_step) and inv_step >= 0.0):
        raise ValueError(f"inv_step is {inv_step} as float32, must be finite and not negative")
    if n == 0:
        return
    with nogil:
        quantize_kernel(&src[0], &dst[0], n, lo, inv_step, <float>top)
