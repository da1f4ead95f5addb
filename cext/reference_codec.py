"""Twins of the transform and the entropy coder: slow, obvious, and the definition of what is right.

The coder works on Python integers and gives the kernel's very bytes. The transform
is computed in float64; the kernel keeps within an error bound of it. Symbols are equal
for equal coefficients. cext/entropy.pyx says what a stream is.
"""

from functools import cache
from math import log2, prod
from operator import index as integer

import numpy as np

from cext import class_tables
from cext.class_tables import SCALE_BITS, T_MAX, T_MIN
from cext.reference import _array, _require

SCALE = 1 << SCALE_BITS
L = 1 << 16
STATE_BYTES = 16
THIRD = 51          # a third of the step: 32 * log2(3) is 50.7
MAX_SHIFT = 12
_DTYPES = ("float32", "int8", "uint8")


# The transform

class Transform:
    """Matrices over channels, width and height, and what undoes them."""

    def __init__(self, shape, dtype, channel, row, column, offset, *, simd=None):
        _require(simd in (None, "reference"), f"simd is {simd!r}, the reference has none")
        _require(len(shape) == 5 and min(shape) >= 1,
                 f"shape is {tuple(shape)}, must be five sizes of at least 1")
        _require(dtype in _DTYPES, f"dtype is {dtype!r}, must be one of {', '.join(_DTYPES)}")
        self._shape, self._dtype, self._n = tuple(shape), np.dtype(dtype), prod(shape)
        self._offset = _finite("offset", offset, (self._n,))
        _, rows, _, columns, channels = shape
        self._matrices = {"channel": _matrix("channel", channel, channels), "row": _matrix("row", row, rows),
                          "column": _matrix("column", column, columns)}

    def forward(self, src, symbols, inv_step):
        """Write clip(round_half_even(coefficient * inv_step), -32767, 32767); NaN gives 0."""
        symbols = _array(symbols, np.int16, writable=True)
        coefficients = np.empty(self._n, np.float32)
        _check_inv_step(inv_step)
        _sized("symbols", symbols, self._n)
        self.coefficients(src, coefficients)
        quantize_coefficients(coefficients, symbols, inv_step)

    def coefficients(self, src, dst):
        """Write the coefficients, mean taken off: what forward makes symbols of."""
        src, dst = _array(src, self._dtype), _array(dst, np.float32, writable=True)
        _sized("src", src, self._n)
        _sized("dst", dst, self._n)
        with np.errstate(all="ignore"):
            dst[:] = self._apply(src.astype(np.float64), **self._matrices).astype(np.float32) - self._offset

    def inverse(self, symbols, step, dst, shrink=0.0):
        """Write the tensor that symbols of this step stand for, each but 0 `shrink` nearer to 0."""
        symbols, dst = _array(symbols, np.int16), _array(dst, self._dtype, writable=True)
        step = _float32(step)
        _sized("dst", dst, self._n)
        _sized("symbols", symbols, self._n)
        _require(np.isfinite(step) and step >= 0, f"step is {step} as float32, must be finite and not negative")
        _require(0 <= shrink <= 0.5, f"shrink is {shrink}, must be 0 to 0.5")
        inverses = {name: _inverse(name, matrix) for name, matrix in self._matrices.items()}
        tensor = self._apply((symbols - shrink * np.sign(symbols)) * float(step) + self._offset, **inverses)
        if self._dtype != np.float32:
            limits = np.iinfo(self._dtype)
            tensor = np.clip(np.rint(tensor), limits.min, limits.max)
        dst[:] = tensor

    def _apply(self, tensor, channel, row, column):
        tensor = tensor.reshape(self._shape)
        for matrix, axis in ((channel, 4), (column, 3), (row, 1)):
            if matrix is not None:
                tensor = np.moveaxis(np.moveaxis(tensor, axis, -1) @ matrix.T.astype(np.float64), -1, axis)
        return tensor.ravel()


def quantize_coefficients(coefficients, symbols, inv_step):
    """Symbols of coefficients: rounded half to even, kept within +-32767, 0 for NaN."""
    coefficients, symbols = _array(coefficients, np.float32), _array(symbols, np.int16, writable=True)
    _check_inv_step(inv_step)
    _sized("symbols", symbols, coefficients.size)
    with np.errstate(all="ignore"):
        rounded = np.rint(coefficients * _float32(inv_step))
    rounded[np.isnan(rounded)] = 0
    symbols[:] = np.clip(rounded, -32767, 32767)


# Models: what a coefficient is coded by, (frequencies, radius, shift) or None if it is dead

@cache
def _symbol_table(t):
    half = class_tables.SYMBOLS[t - T_MIN]
    inside = (*half[:0:-1], *half)
    return *inside, SCALE - sum(inside)


def _class_of(exponent, index):
    return min((exponent - index + 4) >> 3, T_MAX + 4 * MAX_SHIFT)


def _plain_model(exponent, index):
    t = _class_of(exponent, index)
    if t < T_MIN:
        return None
    shift = (t - T_MAX + 3) >> 2 if t > T_MAX else 0
    table = _symbol_table(t - 4 * shift)
    return table, len(table) // 2 - 1, shift


def _refinement_model(exponent, base, index):
    t = _class_of(exponent, index)
    if t < T_MIN:
        return _plain_model(exponent, index - THIRD)
    if t > T_MAX:
        return (SCALE // 3, SCALE - SCALE // 3 * 2, SCALE // 3), 1, 0
    tables = class_tables.REFINE_OTHER if base else class_tables.REFINE_ZERO
    return tables[t - T_MIN], 1, 0


def _is_dead(exponent, index):
    return _class_of(exponent, index) < T_MIN


# A value is a list of steps (start, frequency, scale bits), in the decoder's order

def _table_step(table, k):
    return sum(table[:k]), table[k], SCALE_BITS


def _steps(model, value):
    table, radius, shift = model
    half = 1 << shift >> 1
    hi = (value + half) >> shift
    if abs(hi) <= radius:
        steps = [_table_step(table, hi + radius)]
    else:
        excess = abs(hi) - radius
        n = excess.bit_length() - 1
        steps = [_table_step(table, 2 * radius + 1), (n, 1, 4), (excess - (1 << n), 1, n), (int(hi < 0), 1, 1)]
    if shift:
        steps.append((value - (hi << shift) + half, 1, shift))
    return steps


class _Decoder:
    def __init__(self, data):
        if len(data) < STATE_BYTES or len(data) % 2:
            raise _Damaged
        words = np.frombuffer(data, "<u2").tolist()
        self.states = [words[2 * k] | words[2 * k + 1] << 16 for k in range(4)]
        self.words = iter(words[8:])
        if min(self.states) < L:
            raise _Damaged

    def step(self, find, bits):
        """Decode one step by the first state; find says where the slot's symbol starts and ends."""
        x = self.states[0]
        slot = x & ((1 << bits) - 1)
        symbol, start, frequency = find(slot)
        x = frequency * (x >> bits) + slot - start
        if x < L:
            word = next(self.words, None)
            if word is None:
                raise _Damaged
            x = x << 16 | word
        self.states[0] = x
        return symbol

    def raw(self, bits):
        return self.step(lambda slot: (slot, slot, 1), bits)

    def value(self, model):
        table, radius, shift = model

        def find(slot):
            start = 0
            for k, frequency in enumerate(table):
                if slot < start + frequency:
                    return k, start, frequency
                start += frequency

        value = self.step(find, SCALE_BITS) - radius
        if value > radius:
            n = self.raw(4)
            value = radius + (1 << n) + self.raw(n)
            value = -value if self.raw(1) else value
        if shift:
            value = (value << shift) + self.raw(shift) - (1 << shift >> 1)
        if abs(value) > 32767:
            raise _Damaged
        self.states.append(self.states.pop(0))
        return value

    def end(self):
        if self.states != [L] * 4 or next(self.words, None) is not None:
            raise _Damaged


class _Damaged(Exception):
    """Bytes that no encoder wrote."""


def _encode(models, values, out):
    coded = [(m, v) for m, v in zip(models, values) if m is not None]
    if not coded:
        return 0
    states, words = [L] * 4, []
    for j in range(len(coded) - 1, -1, -1):
        for start, frequency, bits in reversed(_steps(*coded[j])):
            x = states[j & 3]
            if x >= frequency << (32 - bits):
                words.append(x & 0xFFFF)
                x >>= 16
            states[j & 3] = (x // frequency << bits) + start + x % frequency
    data = np.array(states, "<u4").tobytes() + np.array(words[::-1], "<u2").tobytes()
    if len(data) > out.size:
        return -1
    out[:len(data)] = np.frombuffer(data, np.uint8)
    return len(data)


def _decode(data, models):
    """Values of all coefficients, dead ones 0."""
    if all(m is None for m in models):
        if len(data):
            raise _Damaged
        return [0] * len(models)
    decoder = _Decoder(data)
    values = [0 if m is None else decoder.value(m) for m in models]
    decoder.end()
    return values


# Faces

def max_coded_bytes(n):
    """More bytes than n coefficients ever take, plain or as refinements."""
    n = integer(n)
    _require(n >= 0, f"n is {n}, must not be negative")
    return STATE_BYTES + 6 * n if n else 0


def encode_symbols(symbols, exponents, index, out):
    """Code symbols; return how many bytes of out they take, -1 if they do not fit."""
    symbols, exponents, index = _symbols("symbols", symbols, exponents, index)
    out = _array(out, np.uint8, writable=True)
    models = [_plain_model(e, index) for e in exponents.tolist()]
    return _encode(models, symbols.tolist(), out)


def decode_symbols(data, exponents, index, symbols):
    """Undo encode_symbols; the whole of data, or a ValueError."""
    data, exponents, index = _array(data, np.uint8), _array(exponents, np.int16), _index(index)
    symbols = _array(symbols, np.int16, writable=True)
    _sized("symbols", symbols, exponents.size)
    try:
        symbols[:] = _decode(data.tobytes(), [_plain_model(e, index) for e in exponents.tolist()])
    except _Damaged:
        raise ValueError(f"{data.size} bytes are not {symbols.size} coded symbols") from None


def split_base(fine, base, exponents, index):
    """Write the symbols at three times the step, floor((q + 1) / 3), zero where index is dead."""
    fine, exponents, index = _symbols("fine", fine, exponents, index)
    base = _array(base, np.int16, writable=True)
    _sized("base", base, exponents.size)
    base[:] = [0 if _is_dead(e, index) else (q + 1) // 3 for q, e in zip(fine.tolist(), exponents.tolist())]


def encode_refinement(fine, base, exponents, index, out):
    """Code what fine adds to base, whose step has this index."""
    fine, exponents, index = _symbols("fine", fine, exponents, index)
    base, out = _base(base, exponents), _array(out, np.uint8, writable=True)
    models, values = [], []
    for i, (f, b, e) in enumerate(zip(fine.tolist(), base.tolist(), exponents.tolist())):
        misfit = b != 0 if _is_dead(e, index) else abs(f - 3 * b) > 1
        _require(not misfit, f"fine symbol {f} at {i} does not refine base symbol {b}")
        models.append(_refinement_model(e, b, index))
        values.append(3 * b - f if b < 0 else f - 3 * b)
    return _encode(models, values, out)


def decode_refinement(data, base, exponents, index, fine):
    """Undo encode_refinement; the whole of data, or a ValueError."""
    data, exponents, index = _array(data, np.uint8), _array(exponents, np.int16), _index(index)
    fine = _array(fine, np.int16, writable=True)
    _sized("fine", fine, exponents.size)
    base = _base(base, exponents)
    models = []
    for i, (b, e) in enumerate(zip(base.tolist(), exponents.tolist())):
        _require(not (b and _is_dead(e, index)), f"base symbol {b} at {i}, where index {index} is dead")
        models.append(_refinement_model(e, b, index))
    try:
        values = _decode(data.tobytes(), models)
    except _Damaged:
        raise ValueError(f"{data.size} bytes are not a refinement of {fine.size} symbols") from None
    fine[:] = [3 * b + (-v if b < 0 else v) for b, v in zip(base.tolist(), values)]


def expected_bits(exponents, index):
    """Bits that encode_symbols takes on average: the tables' entropies, and three quarters of the states."""
    exponents, index = _array(exponents, np.int16), _index(index)
    bits = 0.0
    models = [m for m in (_plain_model(e, index) for e in exponents.tolist()) if m is not None]
    for table, _, shift in models:
        # An escape is followed by 4 bits, a sign, and mostly no bit or one.
        bits += _entropy(table) + 6 * table[-1] / SCALE + shift
    return bits + 96.0 if models else 0.0


@cache
def _entropy(table):
    return sum(f * (SCALE_BITS - log2(f)) for f in table) / SCALE


# Checks

def _symbols(name, symbols, exponents, index):
    symbols, exponents, index = _array(symbols, np.int16), _array(exponents, np.int16), _index(index)
    _sized(name, symbols, exponents.size)
    _require(symbols.min(initial=0) >= -32767, "symbol -32768 found, must be -32767..32767")
    return symbols, exponents, index


def _base(base, exponents):
    base = _array(base, np.int16)
    _sized("base", base, exponents.size)
    for b in base[np.abs(base.astype(int)) > 10922][:1]:
        raise ValueError(f"base symbol {b} found, must be -10922..10922")
    return base


def _sized(name, array, wanted):
    _require(array.size == wanted, f"{name} holds {array.size} values, must hold {wanted}")


def _index(index):
    index = integer(index)
    _require(-32768 <= index <= 32767, f"index is {index}, must be -32768..32767")
    return index


def _float32(value):
    with np.errstate(over="ignore"):
        return np.float32(value)


def _check_inv_step(inv_step):
    inv_step = _float32(inv_step)
    _require(np.isfinite(inv_step) and inv_step >= 0,
             f"inv_step is {inv_step} as float32, must be finite and not negative")


def _matrix(name, matrix, size):
    return None if matrix is None else _finite(name, matrix, (size, size))


def _finite(name, values, shape):
    array = np.array(values, dtype=np.float32)
    _require(array.shape == shape, f"{name} has shape {array.shape}, must have {shape}")
    _require(np.isfinite(array).all(), f"{name} must be finite")
    return array


def _inverse(name, matrix):
    if matrix is None:
        return None
    wide = matrix.astype(np.float64)
    _require(np.linalg.cond(wide) <= 1e10, f"{name} is singular")
    return np.linalg.inv(wide).astype(np.float32)
