"""NumPy twins of the kernels: slow, obvious, and the definition of what is right.

Same names, arguments, results and errors as the compiled kernels; the tests ask
for equality, not for closeness. SPLIT_CODEC=reference selects them on purpose.
"""

from operator import index

import numpy as np


def range_f32(src):
    """Return the smallest and largest finite value, (0.0, 0.0) if there is none."""
    src = _array(src, np.float32)
    finite = src[np.isfinite(src)]
    if finite.size == 0:
        return 0.0, 0.0
    return float(finite.min()) + 0.0, float(finite.max()) + 0.0     # -0.0 + 0.0 is +0.0


def quantize_f32(src, dst, lo, inv_step, top):
    """Write one symbol 0..top per value; NaN gives 0, infinities the ends."""
    src, dst = _array(src, np.float32), _array(dst, np.uint8, writable=True)
    with np.errstate(all="ignore"):     # overflow and inf * 0 are defined below
        lo, inv_step, top = np.float32(lo), np.float32(inv_step), index(top)
        _require(dst.size == src.size, f"dst holds {dst.size} symbols, src has {src.size} values")
        _require(1 <= top <= 255, f"top is {top}, must be 1..255")
        _require(np.isfinite(lo), f"lo is {lo} as float32, must be finite")
        _require(np.isfinite(inv_step) and inv_step >= 0,
                 f"inv_step is {inv_step} as float32, must be finite and not negative")
        rounded = np.rint((src - lo) * inv_step)
        rounded[np.isnan(rounded)] = 0
        dst[:] = np.clip(rounded, 0, top)


def lookup_u8(src, dst, table):
    """Write table[symbol] for each symbol; the table has all 256 entries."""
    src, dst = _array(src, np.uint8), _array(dst, np.uint8, writable=True)
    table = _array(table, np.uint8)
    _require(dst.size == src.size, f"dst holds {dst.size} values, src has {src.size} symbols")
    _require(table.size == 256, f"table has {table.size} entries, must have 256")
    dst[:] = table[src]


def lookup_f32(src, dst, table):
    """Write table[symbol] for each symbol, or refuse before writing anything."""
    src, dst = _array(src, np.uint8), _array(dst, np.float32, writable=True)
    table = _array(table, np.float32)
    _require(dst.size == src.size, f"dst holds {dst.size} values, src has {src.size} symbols")
    _require(table.size <= 256, f"table has {table.size} entries, must have at most 256")
    largest = src.max(initial=0)
    _require(src.size == 0 or largest < table.size,
             f"symbol {largest} found, table has {table.size} entries")
    dst[:] = table[src]


def planes_from_pixels(src, dst, channels):
    """Reorder position-major values (NHWC, N folded in) into one plane per channel."""
    src, dst, channels = _planes(src, dst, channels)
    dst[:] = src.reshape(-1, channels).T.ravel()


def pixels_from_planes(src, dst, channels):
    """Undo planes_from_pixels."""
    src, dst, channels = _planes(src, dst, channels)
    dst[:] = src.reshape(channels, src.size // channels).T.ravel()


def pack_bits(src, dst, bits):
    """Pack symbols below 2**bits, least significant bit first, without gaps."""
    src, dst, bits = _array(src, np.uint8), _array(dst, np.uint8, writable=True), index(bits)
    _require(1 <= bits <= 8, f"bits is {bits}, must be 1..8")
    wanted = (src.size * bits + 7) // 8
    _require(dst.size == wanted,
             f"dst holds {dst.size} bytes, {src.size} symbols of {bits} bits need {wanted}")
    largest = src.max(initial=0)
    _require(largest < 1 << bits,
             f"symbol {largest} found, {bits} bits hold at most {(1 << bits) - 1}")
    stream = np.unpackbits(src[:, np.newaxis], axis=1, count=bits, bitorder="little")
    dst[:] = np.packbits(stream, bitorder="little")


def unpack_bits(src, dst, bits):
    """Undo pack_bits; len(dst) says how many symbols there are."""
    src, dst, bits = _array(src, np.uint8), _array(dst, np.uint8, writable=True), index(bits)
    _require(1 <= bits <= 8, f"bits is {bits}, must be 1..8")
    wanted = (dst.size * bits + 7) // 8
    _require(src.size == wanted,
             f"src has {src.size} bytes, {dst.size} symbols of {bits} bits need {wanted}")
    stream = np.unpackbits(src, bitorder="little")
    used = dst.size * bits
    _require(not stream[used:].any(),
             f"last byte is {src[-1:].sum():#04x}, bits {used % 8}..7 must be zero")
    dst[:] = np.packbits(stream[:used].reshape(-1, bits), axis=1, bitorder="little").ravel()


def _require(condition, message):
    if not condition:
        raise ValueError(message)


def _array(buffer, dtype, writable=False):
    """View a buffer as the kernels' faces do: flat, contiguous, of exactly this type."""
    array = np.asarray(memoryview(buffer))
    _require(array.dtype == dtype, f"buffer holds {array.dtype}, wanted {np.dtype(dtype)}")
    _require(array.ndim == 1 and array.flags.c_contiguous, "buffer must be flat and contiguous")
    _require(array.flags.writeable or not writable, "buffer is read-only, dst must be writable")
    return array


def _planes(src, dst, channels):
    src, dst, channels = _array(src, np.uint8), _array(dst, np.uint8, writable=True), index(channels)
    _require(channels >= 1, f"channels is {channels}, must be at least 1")
    _require(src.size % channels == 0,
             f"src has {src.size} values, must be a multiple of {channels} channels")
    _require(dst.size == src.size, f"dst holds {dst.size} values, src has {src.size}")
    return src, dst, channels
