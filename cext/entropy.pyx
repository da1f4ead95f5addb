"""Symbols to bytes and back: static rANS, with a table per class of variance.

A coefficient's exponent is round(16 * log2(variance)); the step is 2**(index / 32). Its class
t = (exponent - index + 4) >> 3 is about 2 * log2(variance / step**2) and names its table,
so tables and bytes fit any transform and any step (cext/class_tables.py):

    t < T_MIN     not coded, zero
    t <= T_MAX    the symbol hi = q by table t
    t > T_MAX     hi = (q + 2**(s-1)) >> s by table t - 4 * s, where s = (t - T_MAX + 3) >> 2,
                  then the s bits of q - (hi << s) + 2**(s-1) raw
    |hi| > R      the table's escape; then raw n, 4 bits, the n bits of |hi| - R below its
                  leading one, and the sign

Four 32-bit states take turns, one per coded coefficient; each is at least L = 2**16 and
moves 16 bits at a time. A stream is the four states the decoder starts from, then words, all
little-endian; the encoder started from four times L, so that is where the decoder
must end, at the last byte. That finds damage but not all: a changed raw bit moves no state.
k raw bits are one step at frequency 2**-k, exact for any
k <= 16. Encoding runs backwards, and every byte is defined: equal symbols, equal streams.

What a coefficient is coded by is its model: its class, or its context in a refinement.
Kernels list the models of some hundred live coefficients, then code them, so that dead
ones cost no mispredicted branches and the refinement has the same coder.
"""

from math import log2

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memmove, memset

from cext import class_tables
from cext.checks cimport check_base, check_index, check_size, check_symbols
from cext.rans cimport (
    SCALE, SCALE_BITS, Eye, L, Pen, Symbol, bit_length, get_bits, put, put_bits, refill,
)

cdef enum:
    T_MIN = -16
    T_MAX = 10
    CLASSES = T_MAX - T_MIN + 1
    MAX_SHIFT = 12
    # Models: dead, one a class, those above T_MAX up to the last shift; then the
    # refinement's ternary ones, base zero or not class by class, and even odds.
    DEAD = 0
    TERNARY = 1 + CLASSES + 4 * MAX_SHIFT
    EVEN = TERNARY + 2 * CLASSES
    MODELS = EVEN + 1
    STATE_BYTES = 16
    # Refinements are of a third of the step: 32 * log2(3) is 50.7.
    THIRD = 51
    # Models, values and places of so many are 3 kB of the stack.
    CHUNK = 512

if (class_tables.T_MIN, class_tables.T_MAX, class_tables.SCALE_BITS) != (T_MIN, T_MAX, SCALE_BITS):
    raise ImportError("cext/class_tables.py was written for another cext/entropy.pyx: rebuild")


ctypedef struct Model:
    int16_t first               # where its table begins in SYMBOL and SHARE: with -radius
    int16_t radius
    uint16_t plain              # the symbols without raw bits: all but the escape, or none
    uint8_t shift
    uint8_t table               # in SLOTS; CLASSES for the ternary ones, which compare

cdef Symbol SYMBOL[2048]
cdef uint32_t SHARE[2048]       # frequency << 16 | start, for the decoder
cdef Model MODEL[MODELS]
cdef double BITS[MODELS]        # expected size
cdef uint8_t* SLOTS = NULL      # CLASSES x SCALE: which symbol of its table a slot belongs to


cdef int add_table(int at, frequencies) except -1:
    """Lay out a table's symbols; return where the next one may begin."""
    cdef uint32_t start = 0, frequency
    if sum(frequencies) != SCALE or min(frequencies) < 1 or len(frequencies) > 256:
        raise ImportError(f"cext/class_tables.py: {frequencies} is no table of sum {SCALE}")
    for frequency in frequencies:
        SYMBOL[at].reciprocal = ((<uint64_t>1 << (32 + SCALE_BITS)) // frequency) + 1
        SYMBOL[at].limit = frequency << (32 - SCALE_BITS)
        SYMBOL[at].start = <uint16_t>start
        SYMBOL[at].rest = <uint16_t>(SCALE - frequency)
        SHARE[at] = frequency << 16 | start
        start += frequency
        at += 1
    return at


def _build():
    """Fill the C tables, once."""
    cdef int at = 0, t, m, shift
    cdef double entropy
    for t, half in enumerate(class_tables.SYMBOLS):
        m = 1 + t
        escape = SCALE + half[0] - 2 * sum(half)
        frequencies = [*half[:0:-1], *half, escape]
        MODEL[m] = Model(at, len(half) - 1, 2 * len(half) - 1, 0, t)
        # An escape is followed by 4 bits, a sign, and mostly no bit or one.
        entropy = sum([f * (SCALE_BITS - log2(f)) for f in frequencies])
        BITS[m] = (entropy + 6 * escape) / SCALE
        at = add_table(at, frequencies)
    for m in range(1 + CLASSES, TERNARY):
        shift = (m - CLASSES + 3) >> 2
        MODEL[m] = MODEL[m - 4 * shift]
        MODEL[m].plain = 0
        MODEL[m].shift = shift
        BITS[m] = BITS[m - 4 * shift] + shift
    ternary = [table for pair in zip(class_tables.REFINE_ZERO, class_tables.REFINE_OTHER) for table in pair]
    for m, frequencies in enumerate([*ternary, (SCALE // 3, SCALE - SCALE // 3 * 2, SCALE // 3)]):
        MODEL[TERNARY + m] = Model(at, 1, 3, 0, CLASSES)
        at = add_table(at, frequencies)


_build()


cdef int build_slots() except -1:
    """The decoder's inverse tables, built when first needed: a device never decodes."""
    global SLOTS
    cdef int t, k
    cdef uint32_t share
    cdef uint8_t* slots
    if SLOTS != NULL:
        return 0
    slots = <uint8_t*>malloc(CLASSES * SCALE)
    if slots == NULL:
        raise MemoryError()
    for t in range(CLASSES):
        for k in range(MODEL[1 + t].plain + 1):
            share = SHARE[MODEL[1 + t].first + k]
            memset(slots + t * SCALE + (share & 0xFFFF), k, share >> 16)
    SLOTS = slots
    return 0


# Models

cdef inline int class_of(int exponent, int index) noexcept nogil:
    """The model of a plain symbol."""
    cdef int t = ((exponent - index + 4) >> 3) - (T_MIN - 1)
    t = t if t > DEAD else DEAD
    return t if t < TERNARY else TERNARY - 1


cdef void list_classes(const int16_t* exponents, int count, int index, uint8_t* classes) noexcept nogil:
    """class_of many: clamped first, so that 16 bits do and eight go at a time."""
    cdef int low = index - 4 + 8 * (T_MIN - 1), i
    cdef int16_t least = <int16_t>max(low, -32768), most = <int16_t>min(low + 8 * TERNARY - 1, 32767), e
    for i in range(count):
        e = exponents[i]
        e = e if e > least else least
        e = e if e < most else most
        classes[i] = <uint8_t>(<uint16_t>(e - low) >> 3)


cdef void list_models(const int16_t* base, const int16_t* exponents, int count, int index,
                      uint8_t* models) noexcept nogil:
    """The models of a run of symbols, of refinements if there is a base."""
    cdef int coarse, i
    if base == NULL:
        list_classes(exponents, count, index, models)
        return
    list_classes(exponents, count, index - THIRD, models)
    for i in range(count):
        coarse = class_of(exponents[i], index)
        if coarse != DEAD:
            models[i] = TERNARY + 2 * (coarse - 1) + (base[i] != 0) if coarse <= CLASSES else EVEN


# Runs of symbols

cdef enum:
    # Low bits, sign, bits of the escape, their number, symbol: a word each at most.
    CHUNK_WORDS = 5 * CHUNK + 1


cdef Pen put_rare(Pen pen, const Model* model, int value) noexcept nogil:
    """A symbol with raw bits, backwards as everything: its low ones come first."""
    cdef int n, hi = value, half
    cdef uint32_t excess
    if model.shift:
        half = 1 << (model.shift - 1)
        hi = (value + half) >> model.shift
        pen = put_bits(pen, value - hi * (1 << model.shift) + half, model.shift)
    if -model.radius <= hi <= model.radius:
        return put(pen, &SYMBOL[model.first + model.radius + hi])
    excess = (hi if hi > 0 else -hi) - model.radius
    n = bit_length(excess) - 1
    pen = put_bits(pen, hi < 0, 1)
    pen = put_bits(pen, excess - (<uint32_t>1 << n), n)
    pen = put_bits(pen, n, 4)
    return put(pen, &SYMBOL[model.first + 2 * model.radius + 1])


cdef inline Pen put_value(Pen pen, const Model* model, int value) noexcept nogil:
    cdef unsigned int k = value + model.radius
    if k < model.plain:
        return put(pen, &SYMBOL[model.first + k])
    return put_rare(pen, model, value)


cdef uint16_t* put_run(uint32_t* states, uint16_t* end, const uint8_t* models, const int16_t* values,
                       int count) noexcept nogil:
    """Code values from the last to the first; their words end at end, returns where they begin.

    The last state is the next one's turn.
    """
    cdef uint32_t x0 = states[0], x1 = states[1], x2 = states[2], x3 = states[3]
    cdef Pen pen
    cdef int i
    pen.at = end
    for i in range(count - 1, -1, -1):
        pen.x = x3
        pen = put_value(pen, &MODEL[models[i]], values[i])
        x3 = x2
        x2 = x1
        x1 = x0
        x0 = pen.x
    states[0] = x0
    states[1] = x1
    states[2] = x2
    states[3] = x3
    return pen.at


cdef Eye get_rare(Eye eye, const Model* model, int hi, int* value) noexcept nogil:
    """Finish a symbol that has raw bits: the escape's first, then the low ones."""
    cdef int n, low, negative
    if hi > model.radius:
        eye = get_bits(eye, 4, &n)
        eye = get_bits(eye, n, &low)
        eye = get_bits(eye, 1, &negative)
        hi = model.radius + (1 << n) + low
        hi = -hi if negative else hi
    if model.shift:
        eye = get_bits(eye, model.shift, &low)
        hi = hi * (1 << model.shift) + low - (1 << (model.shift - 1))
    value[0] = hi
    return eye


cdef bint get_run(uint32_t* states, Eye* reader, const uint8_t* models, int16_t* values, int count) noexcept nogil:
    """Undo put_run, first to last; False for bytes that no encoder wrote."""
    cdef uint32_t x0 = states[0], x1 = states[1], x2 = states[2], x3 = states[3], slot, share
    cdef Eye eye = reader[0]
    cdef const Model* model
    cdef const uint8_t* slots = SLOTS
    cdef int i, k, value
    for i in range(count):
        model = &MODEL[models[i]]
        slot = x0 & (SCALE - 1)
        if models[i] < TERNARY:
            k = slots[model.table * SCALE + slot]
        else:
            k = (slot >= SYMBOL[model.first + 1].start) + (slot >= SYMBOL[model.first + 2].start)
        share = SHARE[model.first + k]
        eye.x = (share >> 16) * (x0 >> SCALE_BITS) + slot - (share & 0xFFFF)
        eye = refill(eye)
        values[i] = <int16_t>(k - model.radius)
        if k >= model.plain:
            eye = get_rare(eye, model, k - model.radius, &value)
            if not -32767 <= value <= 32767:
                return False
            values[i] = <int16_t>value
        x0 = x1
        x1 = x2
        x2 = x3
        x3 = eye.x
    states[0] = x0
    states[1] = x1
    states[2] = x2
    states[3] = x3
    reader[0] = eye
    return eye.word <= eye.words + 1


# Kernels

cdef bint any_live(const int16_t* exponents, Py_ssize_t n, int index) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if class_of(exponents[i], index) != DEAD:
            return True
    return False


cdef Py_ssize_t encode_kernel(const int16_t* symbols, const int16_t* base, const int16_t* exponents,
                              Py_ssize_t n, int index, uint8_t* out, Py_ssize_t size) noexcept nogil:
    """Plain symbols, or refinements of a base that is not NULL; -1 if they do not fit."""
    cdef uint8_t models[CHUNK]
    cdef int16_t values[CHUNK]
    cdef uint16_t words[CHUNK_WORDS]
    cdef uint16_t* word
    cdef uint32_t states[4]
    cdef Py_ssize_t first = n, at = size, j
    cdef int i, live, count, value
    if not any_live(exponents, n, index if base == NULL else index - THIRD):
        return 0
    if size < STATE_BYTES:
        return -1
    for i in range(4):
        states[i] = L
    while first > 0:
        count = <int>min(first, CHUNK)
        first -= count
        list_models(base if base == NULL else base + first, exponents + first, count, index, models)
        live = 0
        for i in range(count):      # a dead one is listed and then overwritten
            value = symbols[first + i]
            if base != NULL:
                # Beside a dead base, which is zero, all of the symbol.
                value -= 3 * base[first + i]
                value = -value if base[first + i] < 0 else value
            models[live] = models[i]
            values[live] = <int16_t>value
            live += models[i] != DEAD
        word = put_run(states, words + CHUNK_WORDS, models, values, live)
        at -= 2 * (words + CHUNK_WORDS - word)
        if at < STATE_BYTES:
            return -1
        for j in range(words + CHUNK_WORDS - word):
            out[at + 2 * j] = <uint8_t>word[j]
            out[at + 2 * j + 1] = <uint8_t>(word[j] >> 8)
    memmove(out + STATE_BYTES, out + at, size - at)
    for i in range(STATE_BYTES):
        out[i] = <uint8_t>(states[i // 4] >> (8 * (i % 4)))
    return STATE_BYTES + size - at


cdef bint decode_kernel(const uint8_t* data, Py_ssize_t size, const int16_t* base, const int16_t* exponents,
                        Py_ssize_t n, int index, int16_t* symbols) noexcept nogil:
    """Undo encode_kernel; False for bytes it cannot have written."""
    cdef uint8_t models[CHUNK]
    cdef uint8_t live_models[CHUNK]
    cdef int16_t values[CHUNK]
    cdef uint32_t states[4]
    cdef Eye eye
    cdef Py_ssize_t first = 0
    cdef int i, live, count, value
    if not any_live(exponents, n, index if base == NULL else index - THIRD):
        memset(symbols, 0, n * sizeof(int16_t))
        return size == 0
    if size < STATE_BYTES or size % 2:
        return False
    for i in range(4):
        states[i] = (data[4 * i] | <uint32_t>data[4 * i + 1] << 8
                     | <uint32_t>data[4 * i + 2] << 16 | <uint32_t>data[4 * i + 3] << 24)
        if states[i] < L:
            return False
    eye.data = data
    eye.word = 1
    eye.words = (size - STATE_BYTES) // 2
    eye.x = 0
    while first < n:
        count = <int>min(n - first, CHUNK)
        list_models(base if base == NULL else base + first, exponents + first, count, index, models)
        live = 0
        for i in range(count):
            live_models[live] = models[i]
            live += models[i] != DEAD
        if not get_run(states, &eye, live_models, values, live):
            return False
        live = 0
        for i in range(count):
            value = values[live] if models[i] != DEAD else 0
            live += models[i] != DEAD
            if base != NULL:
                value = -value if base[first + i] < 0 else value
                value += 3 * base[first + i]
            symbols[first + i] = <int16_t>value
        first += count
    # All is read, and the states are where the encoder began.
    return eye.word == eye.words + 1 and states[0] == L and states[1] == L and states[2] == L and states[3] == L


cdef Py_ssize_t first_misfit(const int16_t* fine, const int16_t* base, const int16_t* exponents,
                             Py_ssize_t n, int index) noexcept nogil:
    """Where fine does not refine base, n if it does everywhere."""
    cdef Py_ssize_t i
    for i in range(n):
        if class_of(exponents[i], index) == DEAD:
            if base[i]:
                return i
        elif not -1 <= fine[i] - 3 * base[i] <= 1:
            return i
    return n


# Faces

# An empty view has an address too; nobody reads what is there.

def max_coded_bytes(Py_ssize_t n):
    """More bytes than n coefficients ever take, plain or as refinements.

    The dearest symbol is a table's rarest at SCALE_BITS, 4 + 14 + 1 bits of its escape and
    12 raw ones; each step may lose a 17th to rounding: under 44 bits.
    """
    if n < 0:
        raise ValueError(f"n is {n}, must not be negative")
    return STATE_BYTES + 6 * n if n else 0


def encode_symbols(const int16_t[::1] symbols not None, const int16_t[::1] exponents not None,
                   Py_ssize_t index, uint8_t[::1] out not None):
    """Code symbols; return how many bytes of out they take, -1 if they do not fit.

    Symbols of dead coefficients are not coded. All of out may be written. Bytes equal
    reference_codec.encode_symbols.
    """
    cdef Py_ssize_t n = exponents.shape[0], coded
    check_size("symbols", symbols.shape[0], n)
    check_index(index)
    check_symbols(symbols)
    with nogil:
        coded = encode_kernel(&symbols[0], NULL, &exponents[0], n, <int>index, &out[0], out.shape[0])
    return coded


def decode_symbols(const uint8_t[::1] data not None, const int16_t[::1] exponents not None,
                   Py_ssize_t index, int16_t[::1] symbols not None):
    """Undo encode_symbols; the whole of data, or a ValueError and no meaning in symbols."""
    cdef Py_ssize_t n = exponents.shape[0]
    cdef bint right
    check_size("symbols", symbols.shape[0], n)
    check_index(index)
    build_slots()
    with nogil:
        right = decode_kernel(&data[0], data.shape[0], NULL, &exponents[0], n, <int>index, &symbols[0])
    if not right:
        raise ValueError(f"{data.shape[0]} bytes are not {n} coded symbols")


def split_base(const int16_t[::1] fine not None, int16_t[::1] base not None,
               const int16_t[::1] exponents not None, Py_ssize_t index):
    """Write the symbols at three times the step, floor((q + 1) / 3), zero where index is dead."""
    cdef Py_ssize_t n = exponents.shape[0], i
    cdef const int16_t* q = &fine[0]
    cdef const int16_t* e = &exponents[0]
    cdef int16_t* b = &base[0]
    cdef int step = <int>index
    check_size("fine", fine.shape[0], n)
    check_size("base", base.shape[0], n)
    check_index(index)
    check_symbols(fine)
    with nogil:
        for i in range(n):
            # Shifted to where C's division, which truncates, is a floor.
            b[i] = <int16_t>((q[i] + 1 + 3 * 10923) // 3 - 10923) if class_of(e[i], step) != DEAD else 0


def encode_refinement(const int16_t[::1] fine not None, const int16_t[::1] base not None,
                      const int16_t[::1] exponents not None, Py_ssize_t index, uint8_t[::1] out not None):
    """Code what fine adds to base, whose step has this index; sizes as encode_symbols."""
    cdef Py_ssize_t n = exponents.shape[0], coded, misfit
    check_size("fine", fine.shape[0], n)
    check_size("base", base.shape[0], n)
    check_index(index)
    check_symbols(fine)
    check_base(base)
    misfit = first_misfit(&fine[0], &base[0], &exponents[0], n, <int>index)
    if misfit < n:
        raise ValueError(f"fine symbol {fine[misfit]} at {misfit} does not refine base symbol {base[misfit]}")
    with nogil:
        coded = encode_kernel(&fine[0], &base[0], &exponents[0], n, <int>index, &out[0], out.shape[0])
    return coded


def decode_refinement(const uint8_t[::1] data not None, const int16_t[::1] base not None,
                      const int16_t[::1] exponents not None, Py_ssize_t index, int16_t[::1] fine not None):
    """Undo encode_refinement; the whole of data, or a ValueError and no meaning in fine."""
    cdef Py_ssize_t n = exponents.shape[0], i
    cdef bint right
    check_size("fine", fine.shape[0], n)
    check_size("base", base.shape[0], n)
    check_index(index)
    check_base(base)
    for i in range(n):
        if base[i] and class_of(exponents[i], <int>index) == DEAD:
            raise ValueError(f"base symbol {base[i]} at {i}, where index {index} is dead")
    build_slots()
    with nogil:
        right = decode_kernel(&data[0], data.shape[0], &base[0], &exponents[0], n, <int>index,
                              &fine[0])
    if not right:
        raise ValueError(f"{data.shape[0]} bytes are not a refinement of {n} symbols")


def expected_bits(const int16_t[::1] exponents not None, Py_ssize_t index):
    """Bits that encode_symbols takes on average: the tables' entropies and the states.

    Four states hold 128 bits, of which they use a quarter on average: between 2**16 and
    2**32 every size is as likely.
    """
    cdef Py_ssize_t n = exponents.shape[0], i
    cdef double bits = 0.0
    check_index(index)
    for i in range(n):
        bits += BITS[class_of(exponents[i], <int>index)]
    return bits + 96.0 if n and any_live(&exponents[0], n, <int>index) else 0.0
