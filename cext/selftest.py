"""A check at start: the kernels this process loaded agree with their definition.

The test suite ran on another machine and compiler; this takes two
milliseconds and catches a build that rounds, packs or orders bytes differently here.
"""

import numpy as np

import cext
from cext import reference, reference_codec

# Odd length, so that vector loops and their tails both run; ties everywhere, and in
# front, where the vectors are, both zeros, a denormal, infinities and a NaN.
_FLOATS = np.concatenate([
    np.array([-0.0, 1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan], dtype=np.float32),
    np.arange(-64, 64, dtype=np.float32) / 4,
])
_BYTES = (np.arange(135, dtype=np.uint32) * 89 % 256).astype(np.uint8)
_TABLE = np.arange(255, -1, -1, dtype=np.uint8)
_LEVELS = np.arange(256, dtype=np.float32) / 7
# From dead ones to those with raw bits; escapes of both signs, and the ends.
_EXPONENTS = np.arange(-200, 190, 6, dtype=np.int16)
_SYMBOLS = (_BYTES[:65].astype(np.int16) - 128) * (_EXPONENTS > 60) + (_BYTES[:65] % 3).astype(np.int16) - 1
_SYMBOLS[[40, 41, 63, 64]] = 300, -9, 32767, -32767
_MATRIX = np.eye(4, dtype=np.float32) + np.arange(16, dtype=np.float32).reshape(4, 4) % 7 / 8


class SelfTestError(RuntimeError):
    """A compiled kernel and its twin differ: this build must not be used."""


def check():
    """Raise SelfTestError unless every kernel equals its twin on a fixed vector."""
    for floats in (_FLOATS, _FLOATS[7:]):
        found, wanted = cext.range_f32(floats), reference.range_f32(floats)
        if found != wanted:
            raise SelfTestError(f"range_f32 gave {found}, wanted {wanted}")
    _compare("quantize_f32", _FLOATS, _FLOATS.size, np.uint8, -8.0, 2.0, 31)
    _compare("lookup_u8", _BYTES, _BYTES.size, np.uint8, _TABLE)
    _compare("lookup_f32", _BYTES, _BYTES.size, np.float32, _LEVELS)
    _compare("planes_from_pixels", _BYTES, _BYTES.size, np.uint8, 15)
    _compare("pixels_from_planes", _BYTES, _BYTES.size, np.uint8, 15)
    for bits in range(1, 9):
        symbols = _BYTES >> (8 - bits)
        packed = _compare("pack_bits", symbols, (symbols.size * bits + 7) // 8, np.uint8, bits)
        _compare("unpack_bits", packed, symbols.size, np.uint8, bits)
    _compare("quantize_coefficients", _FLOATS, _FLOATS.size, np.int16, 1.5)
    _check_entropy()
    _check_transform()


def _check_entropy():
    """A frame and its refinement through both coders."""
    n = _SYMBOLS.size
    size, wanted = cext.max_coded_bytes(n), reference_codec.max_coded_bytes(n)
    if size != wanted:
        raise SelfTestError(f"max_coded_bytes gave {size}, wanted {wanted}")
    bits, wanted = (m.expected_bits(_EXPONENTS, 3) for m in (cext, reference_codec))
    if abs(bits - wanted) > 1e-6:
        raise SelfTestError(f"expected_bits gave {bits}, wanted {wanted}")
    base = _compare("split_base", _SYMBOLS, n, np.int16, _EXPONENTS, 3)
    coded = _compare_coded("encode_symbols", size, _SYMBOLS, _EXPONENTS, 3)
    _compare_last("decode_symbols", n, np.int16, coded, _EXPONENTS, 3)
    coded = _compare_coded("encode_refinement", size, _SYMBOLS, base, _EXPONENTS, 3)
    _compare_last("decode_refinement", n, np.int16, coded, base, _EXPONENTS, 3)


def _check_transform():
    """Sums of eighths are exact in any order, and inverses near enough to round alike."""
    arguments = (1, 4, 2, 4, 4), "int8", _MATRIX, _MATRIX, _MATRIX, np.zeros(128, np.float32)
    pixels = _BYTES[:128].view(np.int8)
    found, wanted = np.zeros((2, 128), np.int16)
    cext.Transform(*arguments).forward(pixels, found, 0.5)
    reference_codec.Transform(*arguments).forward(pixels, wanted, 0.5)
    if not np.array_equal(found, wanted):
        raise SelfTestError(f"Transform.forward gave {found}, wanted {wanted}")


def _compare(name, src, size, dtype, *args):
    found, wanted = np.zeros(size, dtype), np.zeros(size, dtype)
    getattr(cext, name)(src, found, *args)
    twin = getattr(reference if hasattr(reference, name) else reference_codec, name)
    twin(src, wanted, *args)
    return _same(name, found, wanted, args)


def _compare_last(name, size, dtype, *args):
    """As _compare, for kernels whose output comes last."""
    found, wanted = np.zeros(size, dtype), np.zeros(size, dtype)
    getattr(cext, name)(*args, found)
    getattr(reference_codec, name)(*args, wanted)
    return _same(name, found, wanted, args)


def _compare_coded(name, size, *args):
    """As _compare_last, for kernels that return how much they wrote."""
    found, wanted = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    sizes = getattr(cext, name)(*args, found), getattr(reference_codec, name)(*args, wanted)
    if sizes[0] != sizes[1]:
        raise SelfTestError(f"{name} gave {sizes[0]} bytes, wanted {sizes[1]}")
    return _same(name, found[:sizes[0]], wanted[:sizes[0]], args)


def _same(name, found, wanted, args):
    differ = np.flatnonzero(found.view(np.uint8) != wanted.view(np.uint8))
    if differ.size:
        at = differ[0] // found.itemsize
        scalars = tuple(arg for arg in args if not isinstance(arg, np.ndarray))
        raise SelfTestError(f"{name}{scalars} gave {found[at]} at {at}, wanted {wanted[at]}")
    return wanted
