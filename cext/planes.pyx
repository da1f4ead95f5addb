"""Position-major tensors to channel planes and back.

Both directions are the transpose of a byte matrix. Neighbours in a plane are
neighbours in space, which is what packing and coding profit from.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from cext.words cimport load64_le, store64_le


cdef inline void swap_blocks(uint64_t* a, uint64_t* b, int shift, uint64_t mask) noexcept nogil:
    """Exchange the high parts of a with the low parts of b (mask selects the low ones)."""
    cdef uint64_t t = ((a[0] >> shift) ^ b[0]) & mask
    b[0] ^= t
    a[0] ^= t << shift


cdef inline void transpose_8x8(const uint8_t* src, Py_ssize_t src_stride,
                               uint8_t* dst, Py_ssize_t dst_stride) noexcept nogil:
    """Transpose in registers: swap 4x4 blocks, then 2x2, then single bytes."""
    cdef uint64_t row[8]
    cdef Py_ssize_t i
    for i in range(8):
        row[i] = load64_le(src + i * src_stride)
    for i in range(4):
        swap_blocks(&row[i], &row[i + 4], 32, 0x00000000FFFFFFFFu)
    for i in range(2):
        swap_blocks(&row[i], &row[i + 2], 16, 0x0000FFFF0000FFFFu)
        swap_blocks(&row[i + 4], &row[i + 6], 16, 0x0000FFFF0000FFFFu)
    for i in range(4):
        swap_blocks(&row[2 * i], &row[2 * i + 1], 8, 0x00FF00FF00FF00FFu)
    for i in range(8):
        store64_le(dst + i * dst_stride, row[i])


cdef void transpose_kernel(const uint8_t* src, uint8_t* dst,
                           Py_ssize_t rows, Py_ssize_t cols) noexcept nogil:
    """dst[c, r] = src[r, c]; src is rows x cols, dst is cols x rows."""
    cdef Py_ssize_t whole_rows = rows - rows % 8, whole_cols = cols - cols % 8
    cdef Py_ssize_t r0, c0, r, c
    if rows == 1 or cols == 1:
        memcpy(dst, src, rows * cols)
        return
    # A tile of 64 rows by 64 columns is read eight columns at a time, eight times
    # over; its 64 cache lines are 4 kB and stay in the smallest L1 meanwhile.
    for r0 in range(0, whole_rows, 64):
        for c0 in range(0, whole_cols, 64):
            for c in range(c0, min(c0 + 64, whole_cols), 8):
                for r in range(r0, min(r0 + 64, whole_rows), 8):
                    transpose_8x8(src + r * cols + c, cols, dst + c * rows + r, rows)
    for c in range(whole_cols, cols):
        for r in range(whole_rows):
            dst[c * rows + r] = src[r * cols + c]
    for r in range(whole_rows, rows):
        for c in range(cols):
            dst[c * rows + r] = src[r * cols + c]


cdef int check_planes(Py_ssize_t src_size, Py_ssize_t dst_size, Py_ssize_t channels) except -1:
    if channels < 1:
        raise ValueError(f"channels is {channels}, must be at least 1")
    if src_size % channels:
        raise ValueError(f"src has {src_size} values, must be a multiple of {channels} channels")
    if dst_size != src_size:
        raise ValueError(f"dst holds {dst_size} values, src has {src_size}")
    return 0


def planes_from_pixels(const uint8_t[::1] src not None, uint8_t[::1] dst not None,
                       Py_ssize_t channels):
    """Reorder position-major values (NHWC, N folded in) into one plane per channel.

    Equal to reference.planes_from_pixels.
    """
    cdef Py_ssize_t n = src.shape[0]
    check_planes(n, dst.shape[0], channels)
    if n == 0:
        return
    with nogil:
        transpose_kernel(&src[0], &dst[0], n // channels, channels)


def pixels_from_planes(const uint8_t[::1] src not None, uint8_t[::1] dst not None,
                       Py_ssize_t channels):
    """Undo planes_from_pixels. Equal to reference.pixels_from_planes."""
    cdef Py_ssize_t n = src.shape[0]
    check_planes(n, dst.shape[0], channels)
    if n == 0:
        return
    with nogil:
        transpose_kernel(&src[0], &dst[0], channels, n // channels)
