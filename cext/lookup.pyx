"""One table entry per symbol: remapping bytes, and symbols back to floats."""

from libc.stdint cimport uint8_t, uint64_t

from cext.words cimport largest_u8, load64_le, store64_le


cdef void lookup_u8_kernel(const uint8_t* src, uint8_t* dst, Py_ssize_t n,
                           const uint8_t* table) noexcept nogil:
    cdef Py_ssize_t g, i
    cdef uint64_t symbols, values
    for g in range(n // 8):
        symbols = load64_le(src + 8 * g)
        values = 0
        for i in range(8):
            values |= <uint64_t>table[symbols >> (8 * i) & 0xFF] << (8 * i)
        store64_le(dst + 8 * g, values)
    for i in range(n - n % 8, n):
        dst[i] = table[src[i]]


cdef void lookup_f32_kernel(const uint8_t* src, float* dst, Py_ssize_t n,
                            const float* table) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        dst[i] = table[src[i]]


def lookup_u8(const uint8_t[::1] src not None, uint8_t[::1] dst not None,
              const uint8_t[::1] table not None):
    """Write table[symbol] for each symbol; the table has all 256 entries.

    Bit-identical to reference.lookup_u8.
    """
    cdef Py_ssize_t n = src.shape[0]
    if dst.shape[0] != n:
        raise ValueError(f"dst holds {dst.shape[0]} values, src has {n} symbols")
    if table.shape[0] != 256:
        raise ValueError(f"table has {table.shape[0]} entries, must have 256")
    if n == 0:
        return
    with nogil:
        lookup_u8_kernel(&src[0], &dst[0], n, &table[0])


def lookup_f32(const uint8_t[::1] src not None, float[::1] dst not None,
               const float[::1] table not None):
    """Write table[symbol] for each symbol, or refuse before writing anything.

    The table may be shorter than 256; symbols come from the wire, so each one is
    checked against its length. Bit-identical to reference.lookup_f32.
    """
    cdef Py_ssize_t n = src.shape[0], entries = table.shape[0]
    cdef uint8_t largest
    if dst.shape[0] != n:
        raise ValueError(f"dst holds {dst.shape[0]} values, src has {n} symbols")
    if entries > 256:
        raise ValueError(f"table has {entries} entries, must have at most 256")
    if n == 0:
        return
    with nogil:
        largest = largest_u8(&src[0], n)
        if largest < entries:
            lookup_f32_kernel(&src[0], &dst[0], n, &table[0])
    if largest >= entries:
        raise ValueError(f"symbol {largest} found, table has {entries} entries")
