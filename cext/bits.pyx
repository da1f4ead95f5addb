"""Symbols of 1 to 8 bits, packed without gaps, least significant bit first.

Bit i of symbol k is bit (k * bits + i) of the stream; bit b of the stream is bit
b % 8 of byte b // 8. Bits of the last byte that no symbol uses are zero.

Eight symbols are a 64-bit word with a symbol in each byte; packed, they are
exactly `bits` bytes, so every group starts on a byte.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from cext.sse2 cimport sse2_pack_ones
from cext.words cimport largest_u8, load64_le, store64_le


cdef inline uint64_t low_bits(int count) noexcept nogil:
    return (<uint64_t>1 << count) - 1


cdef inline uint64_t squeeze(uint64_t w, int bits) noexcept nogil:
    """Close the gaps between eight symbols: between bytes, then pairs, then fours."""
    w = (w & 0x00FF00FF00FF00FFu) | (w & 0xFF00FF00FF00FF00u) >> (8 - bits)
    w = (w & 0x0000FFFF0000FFFFu) | (w & 0xFFFF0000FFFF0000u) >> (16 - 2 * bits)
    return (w & 0x00000000FFFFFFFFu) | (w & 0xFFFFFFFF00000000u) >> (32 - 4 * bits)


cdef inline uint64_t spread(uint64_t w, int bits) noexcept nogil:
    """Undo squeeze; bits of w above the eight symbols do not matter."""
    cdef uint64_t fours = low_bits(4 * bits)
    cdef uint64_t pairs = low_bits(2 * bits) * <uint64_t>0x0000000100000001u
    cdef uint64_t ones = low_bits(bits) * <uint64_t>0x0001000100010001u
    w = (w & fours) | ((w << (32 - 4 * bits)) & (fours << 32))
    w = (w & pairs) | ((w << (16 - 2 * bits)) & (pairs << 16))
    return (w & ones) | ((w << (8 - bits)) & (ones << 8))


# Three widths have a shorter way; word groups do the rest, and two bits are no
# faster any other way. One bit: the product gathers bit 8j of eight symbols in bit
# 56 + j, and a table of 2 kB spreads a byte. Four bits: loops that vectorize.
cdef uint8_t SPREAD_ONES[256][8]


cdef void fill_spread_ones() noexcept nogil:
    cdef int byte, bit
    for byte in range(256):
        for bit in range(8):
            SPREAD_ONES[byte][bit] = byte >> bit & 1


fill_spread_ones()


cdef inline Py_ssize_t pack_shortcut(const uint8_t* src, uint8_t* dst, Py_ssize_t n, int bits) noexcept nogil:
    """Pack what a short way can; return how many symbols that was, a multiple of 8."""
    cdef Py_ssize_t i
    if bits == 1:
        for i in range(sse2_pack_ones(src, dst, n) // 8, n // 8):
            dst[i] = <uint8_t>((load64_le(src + 8 * i) * <uint64_t>0x0102040810204080u) >> 56)
    elif bits == 4:
        for i in range(n // 8 * 4):
            dst[i] = src[2 * i] | <uint8_t>(src[2 * i + 1] << 4)
    elif bits == 8:
        memcpy(dst, src, n // 8 * 8)
    else:
        return 0
    return n // 8 * 8


cdef inline Py_ssize_t unpack_shortcut(const uint8_t* src, uint8_t* dst, Py_ssize_t n, int bits) noexcept nogil:
    cdef Py_ssize_t i
    if bits == 1:
        for i in range(n // 8):
            memcpy(dst + 8 * i, SPREAD_ONES[src[i]], 8)
    elif bits == 4:
        for i in range(n // 8 * 4):
            dst[2 * i] = src[i] & 15
            dst[2 * i + 1] = src[i] >> 4
    elif bits == 8:
        memcpy(dst, src, n // 8 * 8)
    else:
        return 0
    return n // 8 * 8


cdef inline Py_ssize_t packed_size(Py_ssize_t n, Py_ssize_t bits) noexcept nogil:
    """ceil(n * bits / 8), without the product that could overflow."""
    return n // 8 * bits + (n % 8 * bits + 7) // 8


cdef inline Py_ssize_t whole_word_groups(Py_ssize_t n, Py_ssize_t packed, int bits) noexcept nogil:
    """How many leading groups may touch eight packed bytes though they own `bits`."""
    return min(n // 8, (packed - 8) // bits + 1) if packed >= 8 else 0


cdef void pack_kernel(const uint8_t* src, uint8_t* dst, Py_ssize_t n, int bits) noexcept nogil:
    cdef Py_ssize_t packed = packed_size(n, bits)
    cdef Py_ssize_t first = pack_shortcut(src, dst, n, bits) // 8
    cdef Py_ssize_t words = whole_word_groups(n, packed, bits)
    cdef Py_ssize_t g, i
    cdef uint64_t w
    for g in range(first, words):   # each store spills zeros that the next one overwrites
        store64_le(dst + g * bits, squeeze(load64_le(src + 8 * g), bits))
    for g in range(max(first, words), (n + 7) // 8):
        w = 0
        for i in range(8 * g, min(8 * g + 8, n)):
            w |= <uint64_t>src[i] << (8 * (i - 8 * g))
        w = squeeze(w, bits)
        for i in range(g * bits, min(g * bits + bits, packed)):
            dst[i] = <uint8_t>w
            w >>= 8


cdef void unpack_kernel(const uint8_t* src, uint8_t* dst, Py_ssize_t n, int bits) noexcept nogil:
    cdef Py_ssize_t packed = packed_size(n, bits)
    cdef Py_ssize_t first = unpack_shortcut(src, dst, n, bits) // 8
    cdef Py_ssize_t words = whole_word_groups(n, packed, bits)
    cdef Py_ssize_t g, i
    cdef uint64_t w
    for g in range(first, words):
        store64_le(dst + 8 * g, spread(load64_le(src + g * bits), bits))
    for g in range(max(first, words), (n + 7) // 8):
        w = 0
        for i in range(g * bits, min(g * bits + bits, packed)):
            w |= <uint64_t>src[i] << (8 * (i - g * bits))
        w = spread(w, bits)
        for i in range(8 * g, min(8 * g + 8, n)):
            dst[i] = <uint8_t>w
            w >>= 8


def pack_bits(const uint8_t[::1] src not None, uint8_t[::1] dst not None, Py_ssize_t bits):
    """Pack symbols below 2**bits into ceil(len(src) * bits / 8) bytes.

    A symbol that does not fit is refused before anything is written.
    Bit-identical to reference.pack_bits.
    """
    cdef Py_ssize_t n = src.shape[0], wanted
    cdef uint8_t largest
    if not 1 <= bits <= 8:
        raise ValueError(f"bits is {bits}, must be 1..8")
    wanted = packed_size(n, bits)
    if dst.shape[0] != wanted:
        raise ValueError(f"dst holds {dst.shape[0]} bytes, {n} symbols of {bits} bits need {wanted}")
    if n == 0:
        return
    with nogil:
        largest = largest_u8(&src[0], n) if bits < 8 else 0
        if largest >> bits == 0:
            pack_kernel(&src[0], &dst[0], n, <int>bits)
    if largest >> bits != 0:
        raise ValueError(f"symbol {largest} found, {bits} bits hold at most {(1 << bits) - 1}")


def unpack_bits(const uint8_t[::1] src not None, uint8_t[::1] dst not None, Py_ssize_t bits):
    """Undo pack_bits; len(dst) says how many symbols there are.

    Bits after the last symbol must be zero, so that a stream has one spelling.
    Bit-identical to reference.unpack_bits.
    """
    cdef Py_ssize_t n = dst.shape[0], wanted
    cdef int used
    if not 1 <= bits <= 8:
        raise ValueError(f"bits is {bits}, must be 1..8")
    wanted = packed_size(n, bits)
    if src.shape[0] != wanted:
        raise ValueError(f"src has {src.shape[0]} bytes, {n} symbols of {bits} bits need {wanted}")
    if n == 0:
        return
    used = <int>(n % 8 * bits % 8)
    if used and src[wanted - 1] >> used:
        raise ValueError(f"last byte is {src[wanted - 1]:#04x}, bits {used}..7 must be zero")
    with nogil:
        unpack_kernel(&src[0], &dst[0], n, <int>bits)
