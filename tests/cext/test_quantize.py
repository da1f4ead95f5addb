import numpy as np
import pytest

import cext
from cext import reference

LENGTHS = [*range(71), 1023, 4099, 100_003]
DENORMAL = 1e-45
HUGE = 3.4e38
SPECIAL = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, DENORMAL, -DENORMAL,
                    HUGE, -HUGE, 1e30, -1e30, 2.0**23, -2.0**23, 2.0**24 + 2], dtype=np.float32)


def floats(*values):
    return np.array(values, dtype=np.float32)


def sprinkle(rng, values):
    """Put special values at random places, in vector bodies and tails alike."""
    if values.size:
        places = rng.integers(0, values.size, size=max(1, values.size // 5))
        values[places] = rng.choice(SPECIAL, size=places.size)
    return values


def test_range_by_hand(kernels):
    assert kernels.range_f32(floats(3.0, -1.5, np.nan, np.inf, 2.0, -np.inf)) == (-1.5, 3.0)


@pytest.mark.parametrize("values", [(), (np.nan,), (np.inf,), (-np.inf, np.inf, np.nan) * 50])
def test_range_of_nothing_finite_is_zero(kernels, values):
    assert kernels.range_f32(floats(*values)) == (0.0, 0.0)


@pytest.mark.parametrize("values", [(-0.0,), (-0.0, 0.0), (0.0, -0.0) * 70])
def test_range_never_gives_negative_zero(kernels, values):
    assert str(kernels.range_f32(floats(*values))) == "(0.0, 0.0)"


def test_range_keeps_the_largest_finite_values(kernels):
    largest = float(np.finfo(np.float32).max)
    assert kernels.range_f32(floats(largest, np.inf, -np.inf, -largest)) == (-largest, largest)


@pytest.mark.parametrize("place", [0, 1, 63, 64, 127, 128, 199])
def test_range_finds_an_extreme_anywhere(kernels, place):
    values = np.ones(200, dtype=np.float32)
    values[place] = -7.0
    assert kernels.range_f32(values) == (-7.0, 1.0)
    values[place] = DENORMAL
    assert kernels.range_f32(values) == (float(np.float32(DENORMAL)), 1.0)


@pytest.mark.parametrize("n", LENGTHS)
def test_range_equals_twin(rng, n):
    plain = rng.normal(size=n).astype(np.float32)
    assert cext.range_f32(plain) == reference.range_f32(plain)
    special = sprinkle(rng, plain)
    assert cext.range_f32(special) == reference.range_f32(special)


def test_quantize_by_hand(kernels):
    # (x + 1) * 2: 0, 0.5 -> 0, 1, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4, 6 -> top, -4 -> 0
    src = floats(-1.0, -0.75, -0.5, -0.25, 0.25, 0.75, 2.0, -3.0, np.nan, np.inf, -np.inf)
    dst = np.full(src.size, 9, dtype=np.uint8)
    kernels.quantize_f32(src, dst, -1.0, 2.0, 5)
    assert dst.tolist() == [0, 0, 1, 2, 2, 4, 5, 0, 0, 5, 0]


@pytest.mark.parametrize("n", LENGTHS)
def test_quantize_equals_twin(rng, twins, n):
    src = sprinkle(rng, rng.normal(size=n).astype(np.float32))
    for top in (1, 2, 15, 254, 255):
        twins("quantize_f32", src, n, np.uint8, -2.7, top / 5.4, top)


@pytest.mark.parametrize("top", [1, 2, 3, 7, 128, 255])
def test_quantize_rounds_every_tie_to_even(twins, top):
    src = (np.arange(-8, 2 * 255 + 8) / 2).astype(np.float32)
    found = twins("quantize_f32", src, src.size, np.uint8, 0.0, 1.0, top)
    halves = found[9:][::2][:255]                   # 0.5, 1.5, ... 254.5
    wanted = [min(2 * ((k + 1) // 2), top) for k in range(255)]
    assert halves.tolist() == wanted


def test_quantize_next_to_ties(twins):
    ties = (np.arange(256) + 0.5).astype(np.float32)
    for src in (np.nextafter(ties, np.float32(-1e9)), np.nextafter(ties, np.float32(1e9))):
        twins("quantize_f32", src, src.size, np.uint8, 0.0, 1.0, 255)


def test_quantize_rounds_each_step_to_float32(rng, twins):
    """A fused or reordered product would differ on some of these."""
    src = rng.uniform(-10, 10, size=200_001).astype(np.float32)
    twins("quantize_f32", src, src.size, np.uint8, -10.1, 12.623762, 255)
    twins("quantize_f32", src, src.size, np.uint8, 1e-3, 25.5 / 1.7, 255)


def test_quantize_special_arguments(twins):
    src = np.tile(SPECIAL, 5)
    for lo in (0.0, -0.0, HUGE, -HUGE, DENORMAL):
        for inv_step in (0.0, DENORMAL, 1.0, HUGE):
            twins("quantize_f32", src, src.size, np.uint8, lo, inv_step, 255)


def test_read_only_and_foreign_buffers(kernels):
    src = np.arange(40, dtype=np.float32)
    src.flags.writeable = False
    dst = bytearray(40)
    kernels.quantize_f32(src, dst, 0.0, 1.0, 255)
    assert dst == bytes(range(40))
    assert kernels.range_f32(memoryview(src.tobytes()).cast("f")) == (0.0, 39.0)


@pytest.mark.parametrize("args, found, wanted", [
    ((3, 0.0, 1.0, 255), "3", "4"),
    ((4, 0.0, 1.0, 0), "top is 0", "1..255"),
    ((4, 0.0, 1.0, 256), "top is 256", "1..255"),
    ((4, 0.0, 1.0, -1), "top is -1", "1..255"),
    ((4, np.nan, 1.0, 255), "lo is nan", "finite"),
    ((4, 1e39, 1.0, 255), "lo is inf", "finite"),
    ((4, 0.0, np.inf, 255), "inv_step is inf", "finite"),
    ((4, 0.0, np.nan, 255), "inv_step is nan", "finite"),
    ((4, 0.0, -1.0, 255), "inv_step is -1.0", "not negative"),
])
def test_quantize_refuses(kernels, args, found, wanted):
    size, *rest = args
    dst = np.full(size, 7, dtype=np.uint8)
    with pytest.raises(ValueError, match=f"{found}.*{wanted}"):
        kernels.quantize_f32(np.zeros(4, dtype=np.float32), dst, *rest)
    assert (dst == 7).all()


@pytest.mark.parametrize("src", [
    np.zeros(4), np.zeros(4, dtype=np.uint8), np.zeros((2, 2), dtype=np.float32),
    np.zeros(8, dtype=np.float32)[::2], np.zeros(4, dtype=">f4"),
])
def test_wrong_src_type_is_refused(kernels, src):
    with pytest.raises(ValueError):
        kernels.range_f32(src)
    with pytest.raises(ValueError):
        kernels.quantize_f32(src, np.zeros(4, dtype=np.uint8), 0.0, 1.0, 255)


def test_read_only_dst_is_refused(kernels):
    dst = np.zeros(4, dtype=np.uint8)
    dst.flags.writeable = False
    for read_only in (dst, dst.data, bytes(4)):
        with pytest.raises((ValueError, BufferError)):      # the exporter of dst decides
            kernels.quantize_f32(np.zeros(4, dtype=np.float32), read_only, 0.0, 1.0, 255)


def test_no_array_at_all_is_a_type_error(kernels):
    with pytest.raises(TypeError):
        kernels.range_f32(None)
    with pytest.raises(TypeError):
        kernels.quantize_f32(np.zeros(1, dtype=np.float32), np.zeros(1, dtype=np.uint8), 0.0, 1.0, 3.5)
