import numpy as np
import pytest

LENGTHS = [*range(71), 1023, 4099, 100_003]


def symbols(*values):
    return np.array(values, dtype=np.uint8)


def test_lookup_u8_by_hand(kernels):
    table = np.arange(255, -1, -1, dtype=np.uint8)
    dst = np.zeros(11, dtype=np.uint8)
    kernels.lookup_u8(symbols(0, 1, 2, 127, 128, 254, 255, 0, 9, 9, 3), dst, table)
    assert dst.tolist() == [255, 254, 253, 128, 127, 1, 0, 255, 246, 246, 252]


def test_lookup_f32_by_hand(kernels):
    dst = np.zeros(5, dtype=np.float32)
    kernels.lookup_f32(symbols(2, 0, 1, 2, 2), dst, np.array([-0.5, 0.25, 7.0], dtype=np.float32))
    assert dst.tolist() == [7.0, -0.5, 0.25, 7.0, 7.0]


@pytest.mark.parametrize("n", LENGTHS)
def test_lookup_u8_equals_twin(rng, twins, n):
    src = rng.integers(0, 256, size=n, dtype=np.uint8)
    src.flags.writeable = False
    table = rng.integers(0, 256, size=256, dtype=np.uint8)
    table.flags.writeable = False
    twins("lookup_u8", src, n, np.uint8, table)


@pytest.mark.parametrize("n", LENGTHS)
def test_lookup_f32_equals_twin(rng, twins, n):
    for entries in (1, 2, 17, 255, 256):
        src = rng.integers(0, entries, size=n, dtype=np.uint8)
        src.flags.writeable = False
        table = rng.normal(size=entries).astype(np.float32)
        table[0] = np.nan
        table[-1] = -0.0
        table.flags.writeable = False
        twins("lookup_f32", src, n, np.float32, table)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 70, 1000])
def test_a_symbol_past_the_table_is_refused_wherever_it_is(kernels, n):
    table = np.ones(5, dtype=np.float32)
    for place in {0, n // 3, n // 2, n - 1}:
        src = np.full(n, 4, dtype=np.uint8)
        src[place] = 5
        dst = np.full(n, 7.0, dtype=np.float32)
        with pytest.raises(ValueError, match="symbol 5 .*5 entries"):
            kernels.lookup_f32(src, dst, table)
        assert (dst == 7.0).all()


def test_an_empty_table_serves_only_empty_input(kernels):
    empty = np.zeros(0, dtype=np.float32)
    kernels.lookup_f32(b"", empty, empty)
    with pytest.raises(ValueError, match="symbol 0 .*0 entries"):
        kernels.lookup_f32(symbols(0), np.zeros(1, dtype=np.float32), empty)


def test_wrong_sizes_are_refused(kernels):
    bytes_table, floats_table = np.zeros(256, dtype=np.uint8), np.zeros(256, dtype=np.float32)
    with pytest.raises(ValueError, match="dst holds 3 .*src has 2"):
        kernels.lookup_u8(symbols(1, 2), np.zeros(3, dtype=np.uint8), bytes_table)
    with pytest.raises(ValueError, match="dst holds 1 .*src has 2"):
        kernels.lookup_f32(symbols(1, 2), np.zeros(1, dtype=np.float32), floats_table)
    for entries in (0, 255, 257):
        with pytest.raises(ValueError, match=f"{entries} entries.*256"):
            kernels.lookup_u8(symbols(1), np.zeros(1, dtype=np.uint8), np.zeros(entries, dtype=np.uint8))
    with pytest.raises(ValueError, match="257 entries.*256"):
        kernels.lookup_f32(symbols(1), np.zeros(1, dtype=np.float32), np.zeros(257, dtype=np.float32))


def test_wrong_types_are_refused(kernels):
    one, bytes_table = np.zeros(1, dtype=np.uint8), np.zeros(256, dtype=np.uint8)
    with pytest.raises(ValueError):
        kernels.lookup_u8(one.astype(np.int8), one, bytes_table)
    with pytest.raises(ValueError):
        kernels.lookup_f32(one, np.zeros(1), np.zeros(4, dtype=np.float32))
    with pytest.raises((ValueError, BufferError)):     # the exporter of dst decides
        kernels.lookup_u8(one, b"\0", bytes_table)
