import numpy as np
import pytest

import cext
from cext import class_tables, reference_codec
from cext.class_tables import REFINE_OTHER, REFINE_ZERO, SCALE_BITS, SYMBOLS, T_MAX, T_MIN

SCALE = 1 << SCALE_BITS
DEAD = 8 * T_MIN - 5        # the largest exponent that is dead at index 0


def int16(values):
    return np.array(values, dtype=np.int16)


def class_of(exponents, index=0):
    return (exponents.astype(int) - index + 4) >> 3


def table(t):
    """Frequencies of -R..R and the escape."""
    half = SYMBOLS[t - T_MIN]
    inside = [*half[:0:-1], *half]
    return np.array([*inside, SCALE - sum(inside)])


def drawn(rng, n, index=0, low=DEAD - 40, high=8 * T_MAX + 200):
    """Exponents of any class, and Laplacian symbols that fit them more or less."""
    exponents = int16(rng.integers(low, high, size=n) + index)
    deviation = 2.0 ** ((exponents.astype(float) - index) / 32) * rng.choice([0.3, 1.0, 4.0], size=n)
    symbols = np.clip(np.rint(rng.laplace(size=n) * deviation), -32767, 32767).astype(np.int16)
    return symbols, exponents


def drawn_from_tables(rng, n, escapes=True):
    """Coefficients distributed exactly as the tables have it."""
    t = rng.integers(T_MIN, T_MAX + 1, size=n)
    symbols = np.zeros(n, np.int16)
    for k in range(n):
        f = table(t[k])
        radius = len(f) // 2 - 1
        share = f[:-1] / f[:-1].sum() if not escapes else f / SCALE
        value = rng.choice(len(share), p=share) - radius
        symbols[k] = value if value <= radius else rng.choice([-1, 1]) * (radius + 1)
    return symbols, int16(8 * t)


def encoded(kernels, symbols, exponents, index=0):
    out = np.full(kernels.max_coded_bytes(len(symbols)), 0x5A, np.uint8)
    size = kernels.encode_symbols(symbols, exponents, index, out)
    assert 0 <= size <= out.size
    return out[:size].copy()


def decoded(kernels, data, exponents, index=0):
    symbols = np.full(len(exponents), 99, np.int16)
    kernels.decode_symbols(data, exponents, index, symbols)
    return symbols


def live_part(symbols, exponents, index=0):
    return np.where(class_of(exponents, index) < T_MIN, 0, symbols)


def test_tables_add_up_and_fall():
    assert len(SYMBOLS) == len(REFINE_ZERO) == len(REFINE_OTHER) == T_MAX - T_MIN + 1
    for t, half in enumerate(SYMBOLS, T_MIN):
        assert table(t).sum() == SCALE and table(t).min() >= 1 and len(half) >= 2
        assert list(half) == sorted(half, reverse=True)
    for three in (*REFINE_ZERO, *REFINE_OTHER):
        assert len(three) == 3 and sum(three) == SCALE and min(three) >= 1


def test_one_zero_by_hand(kernels):
    """Class T_MIN: 0 comes after -1; the step is (x // f) * SCALE + start + x % f, from x = 2**16."""
    minus, zero = SYMBOLS[0][1], SYMBOLS[0][0]
    state = (2**16 // zero << SCALE_BITS) + minus + 2**16 % zero
    wanted = b"".join(s.to_bytes(4, "little") for s in (state, 2**16, 2**16, 2**16))
    assert encoded(kernels, int16([0]), int16([8 * T_MIN])).tobytes() == wanted


def test_raw_bits_by_hand(kernels):
    """Class T_MAX + 1 has one raw bit: -3 is hi = (-3 + 1) >> 1 = -1 and lo = -3 + 2 + 1 = 0.

    The low bit goes first: 2**16 << 1 is 2**17. Then hi by table T_MAX - 3.
    """
    f = table(T_MAX - 3)
    at = len(f) // 2 - 1 - 1
    state = (2**17 // int(f[at]) << SCALE_BITS) + int(f[:at].sum()) + 2**17 % int(f[at])
    assert state < 2**32
    data = encoded(kernels, int16([-3]), int16([8 * (T_MAX + 1)]))
    assert data[:4].tobytes() == state.to_bytes(4, "little") and data.size == 16


def test_nothing_live_is_no_bytes(kernels):
    for exponents in (int16([]), int16([DEAD] * 9)):
        symbols = int16([5] * len(exponents))
        assert encoded(kernels, symbols, exponents).size == 0
        assert not decoded(kernels, b"", exponents).any()
        with pytest.raises(ValueError, match="16 bytes are not"):
            decoded(kernels, bytes(16), exponents)
    assert decoded(kernels, encoded(kernels, int16([1]), int16([DEAD + 1])), int16([DEAD + 1])) == [1]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 63, 511, 512, 513, 2000])
def test_round_trips_and_twins(rng, n):
    for index in (0, -3, 57, 1000):
        symbols, exponents = drawn(rng, n, index)
        data = encoded(cext, symbols, exponents, index)
        assert data.tobytes() == encoded(reference_codec, symbols, exponents, index).tobytes()
        for backend in (cext, reference_codec):
            assert np.array_equal(decoded(backend, data, exponents, index), live_part(symbols, exponents, index))


@pytest.mark.parametrize("t", range(T_MIN, T_MAX + 60))
def test_extremes_in_every_class(t):
    """Both ends of int16, and what is next to the escape and to rounding to 2**s."""
    near = [v for k in range(16) for v in (2**k - 1, 2**k, 2**k + 1) if v <= 32767]
    radius = len(SYMBOLS[min(t, T_MAX) - T_MIN]) - 1
    values = int16([s * v for v in (*near, 32767, radius, radius + 1, 0) for s in (1, -1)])
    exponents = int16([8 * t] * values.size)
    data = encoded(cext, values, exponents)
    assert data.tobytes() == encoded(reference_codec, values, exponents).tobytes()
    for backend in (cext, reference_codec):
        assert np.array_equal(decoded(backend, data, exponents), values)


def test_exponents_and_indices_to_the_end_of_their_ranges():
    exponents = int16([-32768, -32768, 32767, 32767, 0])
    for index in (-32768, -32767, 0, 32766, 32767):
        symbols = int16([1, -1, 32767, -32767, 3])
        data = encoded(cext, symbols, exponents, index)
        assert data.tobytes() == encoded(reference_codec, symbols, exponents, index).tobytes()
        assert np.array_equal(decoded(cext, data, exponents, index), live_part(symbols, exponents, index))


def test_every_truncation_and_every_addition_is_refused(rng):
    symbols, exponents = drawn(rng, 120)
    data = encoded(cext, symbols, exponents)
    for backend in (cext, reference_codec):
        for size in range(data.size):
            with pytest.raises(ValueError, match=f"{size} bytes are not 120 coded symbols"):
                decoded(backend, data[:size], exponents)
        for more in (1, 2, 7):
            with pytest.raises(ValueError):
                decoded(backend, np.append(data, np.zeros(more, np.uint8)), exponents)


def test_a_changed_byte_is_refused_or_is_another_frame(rng):
    """A raw bit moves no state, so that its change leaves a stream that is right in itself."""
    symbols, exponents = drawn(rng, 300)
    data = encoded(cext, symbols, exponents)
    refused = 0
    for at in range(data.size):
        damaged = data.copy()
        damaged[at] ^= rng.integers(1, 256)
        try:
            other = decoded(cext, damaged, exponents)
            assert np.array_equal(encoded(cext, other, exponents), damaged)
        except ValueError:
            refused += 1
    assert refused > 0.8 * data.size


def test_garbage_is_refused_alike(rng):
    for _ in range(2000):
        n = int(rng.integers(1, 40))
        _, exponents = drawn(rng, n)
        data = rng.integers(0, 256, size=rng.integers(0, 120), dtype=np.uint8)
        results = []
        for backend in (cext, reference_codec):
            try:
                symbols = decoded(backend, data, exponents)
                assert np.abs(symbols.astype(int)).max() <= 32767
                assert encoded(backend, symbols, exponents).tobytes() == data.tobytes()
                results.append(symbols.tolist())
            except ValueError:
                results.append(None)
        assert results[0] == results[1]


def escape_stream(n, low, negative):
    """One coefficient of class T_MIN as an escape with these fields, coded by hand, backwards."""
    f = table(T_MIN)
    x, words = 2**16, []
    for start, frequency, bits in ((negative, 1, 1), (low, 1, n), (n, 1, 4),
                                   (int(f[:-1].sum()), int(f[-1]), SCALE_BITS)):
        if x >= frequency << (32 - bits):
            words.insert(0, x & 0xFFFF)
            x >>= 16
        x = (x // frequency << bits) + start + x % frequency
    return (b"".join(s.to_bytes(4, "little") for s in (x, 2**16, 2**16, 2**16))
            + b"".join(w.to_bytes(2, "little") for w in words))


def test_an_escape_beyond_the_range_is_refused(kernels):
    """|hi| is R + 2**n + low; R is 1 in the lowest class."""
    assert len(SYMBOLS[0]) == 2
    exponents = int16([8 * T_MIN])
    assert decoded(kernels, escape_stream(14, 32766 - 2**14, 0), exponents) == [32767]
    assert decoded(kernels, escape_stream(14, 32766 - 2**14, 1), exponents) == [-32767]
    for n, low in ((14, 32767 - 2**14), (15, 0), (15, 2**15 - 1)):
        for negative in (0, 1):
            with pytest.raises(ValueError, match="are not 1 coded symbols"):
                decoded(kernels, escape_stream(n, low, negative), exponents)


def test_what_does_not_fit_is_minus_one_and_what_just_fits_fits(kernels, rng):
    symbols, exponents = drawn(rng, 60)
    data = encoded(kernels, symbols, exponents)
    for size in {0, 1, 15, 16, 17, data.size - 2, data.size - 1}:
        assert kernels.encode_symbols(symbols, exponents, 0, np.zeros(size, np.uint8)) == -1
    for size in (data.size, data.size + 1):
        out = np.zeros(size, np.uint8)
        assert kernels.encode_symbols(symbols, exponents, 0, out) == data.size
        assert out[:data.size].tobytes() == data.tobytes()


def test_nothing_outside_out_is_written(rng):
    symbols, exponents = drawn(rng, 700)
    size = encoded(cext, symbols, exponents).size
    for room in (size, size + 5, size - 1, 16, 3):
        guarded = np.full(room + 64, 0xA5, np.uint8)
        cext.encode_symbols(symbols, exponents, 0, guarded[32:32 + room])
        assert (guarded[:32] == 0xA5).all() and (guarded[32 + room:] == 0xA5).all()


def test_no_symbol_is_dearer_than_the_bound():
    for t in range(T_MIN, T_MAX + 60):
        for value in (32767, -32767, 32766, 16384 + len(SYMBOLS[0])):
            n = 400
            data = encoded(cext, int16([value] * n), int16([8 * t] * n))
            assert data.size <= cext.max_coded_bytes(n) == 16 + 6 * n
    assert cext.max_coded_bytes(0) == 0


def ideal_bits(symbols, exponents):
    bits = 0.0
    for t in range(T_MIN, T_MAX + 1):
        f = table(t)
        radius = len(f) // 2 - 1
        q = symbols[class_of(exponents) == t].astype(int)
        inside = np.abs(q) <= radius
        beyond = np.abs(q[~inside]) - radius
        bits -= np.log2(f[q[inside] + radius] / SCALE).sum()
        bits += (np.log2(SCALE / f[-1]) + 5 + np.floor(np.log2(beyond))).sum()
    return bits


def test_size_is_the_static_entropy_of_the_tables(rng):
    symbols, exponents = drawn_from_tables(rng, 12_544)
    size = encoded(cext, symbols, exponents).size
    ideal = ideal_bits(symbols, exponents) / 8
    assert ideal < size <= 1.01 * ideal + 16
    assert size == pytest.approx(cext.expected_bits(exponents, 0) / 8, rel=0.02)


def test_expected_bits(kernels, rng):
    assert kernels.expected_bits(int16([]), 0) == 0.0
    assert kernels.expected_bits(int16([DEAD] * 5), 0) == 0.0
    one = kernels.expected_bits(int16([8 * T_MAX]), 0)
    # One raw bit more by a table four classes down; T_MAX again four classes up.
    assert kernels.expected_bits(int16([8 * (T_MAX + 4)]), 0) == pytest.approx(one + 1)
    assert kernels.expected_bits(int16([8 * (T_MAX + 4)]), 32) == pytest.approx(one)
    assert kernels.expected_bits(int16([DEAD, 8 * T_MAX] * 3), 0) - 96 == pytest.approx(3 * (one - 96))


def test_size_is_that_of_another_coder_with_the_same_tables(rng):
    stream = pytest.importorskip("constriction").stream
    symbols, exponents = drawn_from_tables(rng, 12_544, escapes=False)
    coder = stream.stack.AnsCoder()
    for t in range(T_MIN, T_MAX + 1):
        f = table(t)
        model = stream.model.Categorical(f / SCALE, perfect=False)
        coder.encode_reverse(symbols[class_of(exponents) == t].astype(np.int32) + len(f) // 2 - 1, model)
    theirs = 4 * len(coder.get_compressed())
    assert encoded(cext, symbols, exponents).size <= 1.01 * theirs + 16


# Refinements

def refined(kernels, fine, exponents, index=0):
    base = np.full(len(fine), 99, np.int16)
    kernels.split_base(fine, base, exponents, index)
    out = np.zeros(kernels.max_coded_bytes(len(fine)), np.uint8)
    size = kernels.encode_refinement(fine, base, exponents, index, out)
    return base, out[:size].copy()


def test_split_base_by_hand(kernels):
    fine = int16([-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 32767, -32767])
    base = np.zeros(13, np.int16)
    kernels.split_base(fine, base, int16([0] * 13), 0)
    # Each third: -4, -3 and -2 are around -3, so are 2, 3 and 4 around 3.
    assert base.tolist() == [-2, -1, -1, -1, 0, 0, 0, 1, 1, 1, 2, 10922, -10922]
    kernels.split_base(fine, base, int16([DEAD] * 13), 0)
    assert not base.any()


def test_refinements_nest_and_equal_their_twins(rng):
    for n in (0, 1, 7, 512, 900):
        for index in (0, 40):
            fine, exponents = drawn(rng, n, index - 51)
            base, data = refined(cext, fine, exponents, index)
            assert data.tobytes() == refined(reference_codec, fine, exponents, index)[1].tobytes()
            for backend in (cext, reference_codec):
                again = decoded(backend, encoded(backend, base, exponents, index), exponents, index)
                assert np.array_equal(again, base)
                back = np.full(n, 99, np.int16)
                backend.decode_refinement(data, again, exponents, index, back)
                assert np.array_equal(back, live_part(fine, exponents, index - 51))


def test_two_layers_cost_what_one_does(rng):
    exponents = int16(rng.integers(-80, 70, size=12_544))
    deviation = 3 * 2.0 ** (exponents / 32)
    fine = np.rint(rng.laplace(size=exponents.size) * deviation / 2**0.5).astype(np.int16)
    base, data = refined(cext, fine, exponents)
    one = encoded(cext, fine, exponents, -51).size
    assert encoded(cext, base, exponents).size + data.size <= 1.01 * one + 32


def test_damaged_refinements_are_refused(rng):
    fine, exponents = drawn(rng, 200, -51)
    base, data = refined(cext, fine, exponents)
    back = np.zeros(200, np.int16)
    for size in range(data.size):
        with pytest.raises(ValueError, match=f"{size} bytes are not a refinement of 200"):
            cext.decode_refinement(data[:size], base, exponents, 0, back)
    for at in range(data.size):
        damaged = data.copy()
        damaged[at] ^= rng.integers(1, 256)
        try:
            cext.decode_refinement(damaged, base, exponents, 0, back)
            out = np.zeros(data.size, np.uint8)
            assert cext.encode_refinement(back, base, exponents, 0, out) == data.size
            assert np.array_equal(out, damaged)
        except ValueError as error:
            assert "are not a refinement" in str(error)
    for _ in range(500):
        with pytest.raises(ValueError):
            cext.decode_refinement(rng.integers(0, 256, size=data.size, dtype=np.uint8), base, exponents, 0, back)


def test_what_does_not_nest_is_refused(kernels):
    out, live, dead = np.zeros(40, np.uint8), int16([0]), int16([DEAD])
    with pytest.raises(ValueError, match="fine symbol 5 at 0 does not refine base symbol 1"):
        kernels.encode_refinement(int16([5]), int16([1]), live, 0, out)
    with pytest.raises(ValueError, match="fine symbol 3 at 0 does not refine base symbol 1"):
        kernels.encode_refinement(int16([3]), int16([1]), dead, 0, out)
    with pytest.raises(ValueError, match="base symbol 1 at 0, where index 0 is dead"):
        kernels.decode_refinement(bytes(16), int16([1]), dead, 0, int16([0]))
    for beyond in (10923, -10923, -32768):
        with pytest.raises(ValueError, match=f"base symbol {beyond} found, must be -10922..10922"):
            kernels.decode_refinement(bytes(16), int16([beyond]), live, 0, int16([0]))
    assert not out.any()


@pytest.mark.parametrize("name, args", [
    ("encode_symbols", (int16([1, 2]), int16([0]), 0, bytearray(40))),
    ("decode_symbols", (bytes(16), int16([0]), 0, int16([1, 2]))),
    ("encode_refinement", (int16([1, 2]), int16([0]), int16([0]), 0, bytearray(40))),
    ("encode_refinement", (int16([1]), int16([0, 0]), int16([0]), 0, bytearray(40))),
    ("decode_refinement", (bytes(16), int16([0, 0]), int16([0]), 0, int16([1]))),
    ("decode_refinement", (bytes(16), int16([0]), int16([0]), 0, int16([1, 1]))),
    ("split_base", (int16([1, 2]), int16([0]), int16([0]), 0)),
    ("split_base", (int16([1]), int16([0, 0]), int16([0]), 0)),
])
def test_wrong_sizes_are_refused(kernels, name, args):
    with pytest.raises(ValueError, match="holds 2 values, must hold 1"):
        getattr(kernels, name)(*args)


def test_wrong_values_are_refused(kernels):
    one, out = int16([1]), bytearray(40)
    for index in (-32769, 32768):
        for call in (lambda: kernels.encode_symbols(one, one, index, out),
                     lambda: kernels.decode_symbols(bytes(16), one, index, one.copy()),
                     lambda: kernels.expected_bits(one, index)):
            with pytest.raises(ValueError, match=f"index is {index}"):
                call()
    with pytest.raises(ValueError, match="symbol -32768"):
        kernels.encode_symbols(int16([0, -32768]), int16([0, 0]), 0, out)
    with pytest.raises(ValueError, match="n is -1"):
        kernels.max_coded_bytes(-1)
    with pytest.raises(ValueError):
        kernels.encode_symbols(np.zeros(1, np.int32), one, 0, out)
    with pytest.raises(TypeError):
        kernels.encode_symbols(one, one, 0.5, out)
    assert not any(out)


def test_the_tables_are_data_only():
    names = {name for name in vars(class_tables) if not name.startswith("_")}
    assert names == {"T_MIN", "T_MAX", "SCALE_BITS", "SYMBOLS", "REFINE_ZERO", "REFINE_OTHER"}
