"""The steps of the coder: a symbol, or some raw bits, into a state and out of it again.

What codes takes and returns its state and place by value, which keeps them in registers. Words
move behind a branch that one symbol in eleven takes: without branches encoding took 3.1 ns each
instead of 2.5, decoding 4.5 instead of 3.4 (12544 coefficients at 1.5 bits).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    SCALE_BITS = 12
    SCALE = 1 << SCALE_BITS
    L = 1 << 16


ctypedef struct Symbol:
    # For x < frequency << (32 - SCALE_BITS), all a state is before a step, the quotient
    # x / frequency is x * reciprocal >> (32 + SCALE_BITS) exactly, without overflow.
    uint64_t reciprocal
    uint32_t limit              # that bound
    uint16_t start
    uint16_t rest               # SCALE - frequency

ctypedef struct Pen:
    uint16_t* at                # words fill a buffer from its end
    uint32_t x

ctypedef struct Eye:
    const uint8_t* data
    # Word k is at data + 14 + 2 * k: word 0, the last of the states, is what is read past the end.
    size_t word, words
    uint32_t x


cdef inline Pen put(Pen pen, const Symbol* s) noexcept nogil:
    if pen.x >= s.limit:
        pen.at -= 1
        pen.at[0] = <uint16_t>pen.x
        pen.x >>= 16
    pen.x += s.start + s.rest * <uint32_t>(pen.x * s.reciprocal >> (32 + SCALE_BITS))
    return pen


cdef inline Pen put_bits(Pen pen, uint32_t value, int bits) noexcept nogil:
    if bits and pen.x >> (32 - bits):
        pen.at -= 1
        pen.at[0] = <uint16_t>pen.x
        pen.x >>= 16
    pen.x = pen.x << bits | value
    return pen


cdef inline int bit_length(uint32_t value) noexcept nogil:
    cdef int n = 0
    while value:
        value >>= 1
        n += 1
    return n


cdef inline Eye refill(Eye eye) noexcept nogil:
    """Bring a state back to L or above; what it reads past the end is for the caller to notice."""
    cdef const uint8_t* at
    if eye.x < L:
        at = eye.data + 14 + 2 * (eye.word if eye.word <= eye.words else 0)
        eye.x = eye.x << 16 | at[0] | <uint32_t>at[1] << 8
        eye.word += 1
    return eye


cdef inline Eye get_bits(Eye eye, int bits, int* value) noexcept nogil:
    value[0] = eye.x & ((<uint32_t>1 << bits) - 1)
    eye.x >>= bits
    return refill(eye)
