"""A check at start: the kernels this process loaded agree with their definition.

The test suite ran on another machine and compiler; this takes half a
millisecond and catches a build that rounds, packs or orders bytes differently here.
"""

import numpy as np

import cext
from cext import reference

# Odd length, so that vector loops and their tails both run; ties everywhere, and in
# front, where the vectors are, both zeros, a denormal, infinities and a NaN.
_FLOATS = np.concatenate([
    np.array([-0.0, 1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan], dtype=np.float32),
    np.arange(-64, 64, dtype=np.float32) / 4,
])
_BYTES = (np.arange(135, dtype=np.uint32) * 89 % 256).astype(np.uint8)
_TABLE = np.arange(255, -1, -1, dtype=np.uint8)
_LEVELS = np.arange(256, dtype=np.float32) / 7


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


def _compare(name, src, size, dtype, *args):
    found, wanted = np.zeros(size, dtype), np.zeros(size, dtype)
    getattr(cext, name)(src, found, *args)
    getattr(reference, name)(src, wanted, *args)
    differ = np.flatnonzero(found.view(np.uint8) != wanted.view(np.uint8))
    if differ.size:
        at = differ[0] // found.itemsize
        scalars = tuple(arg for arg in args if not isinstance(arg, np.ndarray))
        raise SelfTestError(f"{name}{scalars} gave {found[at]} at {at}, wanted {wanted[at]}")
    return wanted
