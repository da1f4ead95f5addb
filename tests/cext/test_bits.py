import numpy as np
import pytest

import cext

LENGTHS = [*range(71), 127, 128, 129, 1023, 4099, 100_003]
ALL_BITS = range(1, 9)

# Worked out as one number, first symbol lowest: 3 bits, 7 + (0 << 3) + (5 << 6) + (1 << 9)
# is 839 = 0x0347, so the bytes are 0x47 0x03.
BY_HAND = [
    (1, [1, 0, 1, 1, 0, 0, 0, 1, 1], [0b1000_1101, 0b1]),
    (2, [3, 0, 1, 2, 1], [0b10_01_00_11, 0b01]),
    (3, [7, 0, 5, 1], [0x47, 0x03]),
    (4, [15, 1, 8], [0x1F, 0x08]),
    (5, [31, 0, 17], [0x1F, 0x44]),
    (6, [63, 1, 32], [0x7F, 0x00, 0x02]),
    (7, [127, 64, 3], [0x7F, 0xE0, 0x00]),
    (8, [0, 255, 3], [0, 255, 3]),
]


def packed_size(n, bits):
    return -(-n * bits // 8)


@pytest.mark.parametrize("bits, symbols, packed", BY_HAND)
def test_by_hand(kernels, bits, symbols, packed):
    dst = bytearray(len(packed))
    kernels.pack_bits(bytes(symbols), dst, bits)
    assert list(dst) == packed
    back = bytearray(len(symbols))
    kernels.unpack_bits(bytes(packed), back, bits)
    assert list(back) == symbols


@pytest.mark.parametrize("bits", ALL_BITS)
def test_both_directions_equal_their_twins_and_undo_each_other(rng, twins, bits):
    for n in LENGTHS:
        src = rng.integers(0, 1 << bits, size=n, dtype=np.uint8)
        src.flags.writeable = False
        packed = twins("pack_bits", src, packed_size(n, bits), np.uint8, bits)
        packed.flags.writeable = False
        back = twins("unpack_bits", packed, n, np.uint8, bits)
        assert back.tobytes() == src.tobytes()


@pytest.mark.parametrize("bits", ALL_BITS)
def test_all_ones_and_each_single_symbol(twins, bits):
    """The largest symbol in one place among zeros shows any bit that strays."""
    top = (1 << bits) - 1
    for n in (1, 7, 8, 9, 40):
        twins("pack_bits", np.full(n, top, dtype=np.uint8), packed_size(n, bits), np.uint8, bits)
        for place in range(n):
            src = np.zeros(n, dtype=np.uint8)
            src[place] = top
            packed = twins("pack_bits", src, packed_size(n, bits), np.uint8, bits)
            number = int.from_bytes(packed.tobytes(), "little")
            assert number == top << (place * bits)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_nothing_outside_dst_is_written(rng, bits):
    for n in range(71):
        size = packed_size(n, bits)
        src = rng.integers(0, 1 << bits, size=n, dtype=np.uint8)
        room = np.full(size + 32, 0xA5, dtype=np.uint8)
        cext.pack_bits(src, room[16:16 + size], bits)
        assert (room[:16] == 0xA5).all() and (room[16 + size:] == 0xA5).all()
        back = np.full(n + 32, 0xA5, dtype=np.uint8)
        cext.unpack_bits(room[16:16 + size], back[16:16 + n], bits)
        assert (back[:16] == 0xA5).all() and (back[16 + n:] == 0xA5).all()


@pytest.mark.parametrize("bits", range(1, 8))
def test_a_symbol_too_large_is_refused_wherever_it_is(kernels, bits):
    for n in (1, 9, 64, 200):
        for place in {0, n // 4, n // 2, n - 1}:
            src = np.zeros(n, dtype=np.uint8)
            src[place] = 1 << bits
            dst = np.full(packed_size(n, bits), 7, dtype=np.uint8)
            with pytest.raises(ValueError, match=f"symbol {1 << bits} .*at most {(1 << bits) - 1}"):
                kernels.pack_bits(src, dst, bits)
            assert (dst == 7).all()


@pytest.mark.parametrize("bits", ALL_BITS)
def test_every_padding_bit_must_be_zero(kernels, bits):
    for n in range(1, 17):
        size = packed_size(n, bits)
        for stray in range(n * bits, 8 * size):
            packed = (1 << stray).to_bytes(size, "little")
            dst = np.full(n, 7, dtype=np.uint8)
            with pytest.raises(ValueError, match=f"{packed[-1]:#04x}, bits {n * bits % 8}..7 must be zero"):
                kernels.unpack_bits(packed, dst, bits)
            assert (dst == 7).all()


@pytest.mark.parametrize("name", ["pack_bits", "unpack_bits"])
@pytest.mark.parametrize("bits", [0, 9, -1, 64])
def test_wrong_bits_are_refused(kernels, name, bits):
    with pytest.raises(ValueError, match=f"bits is {bits}, must be 1..8"):
        getattr(kernels, name)(bytes(8), bytearray(8), bits)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_wrong_sizes_are_refused(kernels, bits):
    wanted = packed_size(13, bits)
    for found in (0, wanted - 1, wanted + 1):
        with pytest.raises(ValueError, match=f"dst holds {found} .*13 symbols.*need {wanted}"):
            kernels.pack_bits(bytes(13), bytearray(found), bits)
        with pytest.raises(ValueError, match=f"src has {found} .*13 symbols.*need {wanted}"):
            kernels.unpack_bits(bytes(found), bytearray(13), bits)


@pytest.mark.parametrize("name", ["pack_bits", "unpack_bits"])
def test_wrong_types_are_refused(kernels, name):
    kernel = getattr(kernels, name)
    with pytest.raises(ValueError):
        kernel(np.zeros(2, dtype=np.int8), bytearray(2), 8)
    with pytest.raises((ValueError, BufferError)):     # the exporter of dst decides
        kernel(bytes(2), bytes(2), 8)
    with pytest.raises(TypeError):
        kernel(bytes(2), bytearray(2), 8.0)
