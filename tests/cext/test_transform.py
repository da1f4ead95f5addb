import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cext
from cext import reference_codec

ROOT = Path(__file__).resolve().parents[2]
PATHS = ["baseline", None]      # the second is the fastest here, which may be the same
SHAPES = [(1, 14, 1, 14, 64), (1, 7, 1, 7, 160), (2, 3, 4, 5, 6), (1, 1, 1, 1, 1), (3, 2, 1, 9, 3),
          (1, 8, 2, 4, 17), (2, 14, 1, 1, 33), (1, 13, 1, 6, 9), (1, 4, 1, 11, 4)]
# Rounding of sums of a hundred and sixty products, three times over: each product and each
# addition off by at most 2**-24 of the magnitudes in it.
BOUND = 2.0**-16


def matrices(rng, shape):
    """Not orthogonal, but well away from singular."""
    return [(np.linalg.qr(rng.normal(size=(k, k)))[0] * rng.uniform(0.5, 2, size=k)).astype(np.float32)
            for k in (shape[4], shape[1], shape[3])]


def tensor(rng, dtype, n):
    if dtype == "float32":
        return rng.normal(size=n, scale=3).astype(np.float32)
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, size=n, dtype=dtype)


def magnitudes(src, shape, channel, row, column):
    """The sums' magnitudes: what their rounding errors are in proportion to."""
    y = np.abs(src.astype(np.float64)).reshape(shape)
    for matrix, axis in ((channel, 4), (column, 3), (row, 1)):
        if matrix is not None:
            y = np.moveaxis(np.moveaxis(y, axis, -1) @ np.abs(matrix.T.astype(np.float64)), -1, axis)
    return y.ravel()


@pytest.mark.parametrize("simd", PATHS)
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_coefficients_keep_the_bound(rng, shape, dtype, simd):
    n = int(np.prod(shape))
    channel, row, column = matrices(rng, shape)
    offset = rng.normal(size=n).astype(np.float32)
    src = tensor(rng, dtype, n)
    src.flags.writeable = False
    for which in range(8):
        given = [m if which >> k & 1 else None for k, m in enumerate((channel, row, column))]
        found, wanted = np.zeros(n, np.float32), np.zeros(n, np.float32)
        cext.Transform(shape, dtype, *given, offset, simd=simd).coefficients(src, found)
        reference_codec.Transform(shape, dtype, *given, offset).coefficients(src, wanted)
        bound = BOUND * (magnitudes(src, shape, *given) + np.abs(offset))
        assert (np.abs(found - wanted) <= bound + 1e-12).all()


def test_coefficients_by_hand(kernels):
    """Two lines of one block, two pixels each, two channels: channels swapped, columns summed."""
    swap, sums = np.array([[0, 1], [1, 0]]), np.array([[1, 1], [1, -1]])
    transform = kernels.Transform((1, 2, 1, 2, 2), "int8", swap, np.array([[1, 0], [1, 1]]), sums,
                                  np.arange(8, dtype=np.float32))
    dst = np.zeros(8, np.float32)
    transform.coefficients(np.array([1, 2, 3, 4, 10, 20, 30, 40], np.int8), dst)
    # Swapped: 2 1 | 4 3, 20 10 | 40 30. Columns: 6 4 | -2 -2, 60 40 | -20 -20. Rows: the first, the sum.
    assert dst.tolist() == [6 - 0, 4 - 1, -2 - 2, -2 - 3, 66 - 4, 44 - 5, -22 - 6, -22 - 7]


@pytest.mark.parametrize("simd", PATHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_is_the_quantizer_of_the_coefficients(rng, shape, simd):
    n = int(np.prod(shape))
    src = tensor(rng, "int8", n)
    transform = cext.Transform(shape, "int8", *matrices(rng, shape), rng.normal(size=n), simd=simd)
    coefficients, found, wanted = np.zeros(n, np.float32), np.zeros(n, np.int16), np.zeros(n, np.int16)
    transform.coefficients(src, coefficients)
    for inv_step in (0.0, 0.37, 1.0, 1e6):
        transform.forward(src, found, inv_step)
        for quantize in (cext.quantize_coefficients, reference_codec.quantize_coefficients):
            quantize(coefficients, wanted, inv_step)
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize("simd", [*PATHS])
def test_the_quantizer_by_hand(simd):
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 3e38, -3e38, 40000, -40000, np.nan, np.inf, -np.inf, 0.49999997])
    values = values.astype(np.float32)
    wanted = [0, 2, 2, 0, -2, 32767, -32767, 32767, -32767, 0, 32767, -32767, 0]
    found = np.zeros(values.size, np.int16)
    cext.Transform((1, 1, 1, values.size, 1), "float32", None, None, None, np.zeros(values.size),
                   simd=simd).forward(values, found, 1.0)
    assert found.tolist() == wanted
    for quantize in (cext.quantize_coefficients, reference_codec.quantize_coefficients):
        quantize(values, found, 1.0)
        assert found.tolist() == wanted


def test_quantize_coefficients_equals_twin(rng, twins):
    for n in (*range(40), 4099):
        values = (rng.normal(size=n) * 10.0 ** rng.integers(-3, 6, size=n)).astype(np.float32)
        for inv_step in (0.0, 1e-3, 0.7, 1.0, 3.4e38):
            twins("quantize_coefficients", values, n, np.int16, inv_step)


def test_nan_stays_in_its_block(rng):
    shape = (1, 4, 2, 4, 8)
    src = tensor(rng, "float32", 256)
    transform = cext.Transform(shape, "float32", *matrices(rng, shape), np.zeros(256))
    clean, found = np.zeros(256, np.int16), np.zeros(256, np.int16)
    transform.forward(src, clean, 4.0)
    src.reshape(4, 2, 4, 8)[1, 1, 2, 3] = np.nan
    transform.forward(src, found, 4.0)
    assert np.array_equal(found.reshape(4, 2, 32)[:, 0], clean.reshape(4, 2, 32)[:, 0])
    assert not found.reshape(4, 2, 32)[:, 1].any()


@pytest.mark.parametrize("simd", PATHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_is_off_by_half_a_step_through_the_matrices(rng, shape, simd):
    n = int(np.prod(shape))
    given = matrices(rng, shape)
    src = tensor(rng, "float32", n)
    transform = cext.Transform(shape, "float32", *given, rng.normal(size=n), simd=simd)
    symbols, back = np.zeros(n, np.int16), np.zeros(n, np.float32)
    for step in (1.0, 0.01):
        transform.forward(src, symbols, 1 / step)
        transform.inverse(symbols, step, back)
        half = magnitudes(np.full(n, step / 2), shape, *(np.linalg.inv(m) for m in given))
        assert (np.abs(back - src) <= half + 1e-3).all()


@pytest.mark.parametrize("simd", PATHS)
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("shrink", [0.0, 0.0625])
def test_inverse_equals_its_twin(rng, dtype, simd, shrink):
    for shape in SHAPES:
        n = int(np.prod(shape))
        arguments = shape, dtype, *matrices(rng, shape), rng.normal(size=n)
        symbols = rng.integers(-200, 200, size=n, dtype=np.int16)
        found, wanted = np.zeros(n, dtype), np.ones(n, dtype)
        cext.Transform(*arguments, simd=simd).inverse(symbols, 0.25, found, shrink)
        reference_codec.Transform(*arguments).inverse(symbols, 0.25, wanted, shrink)
        off = np.abs(found.astype(float) - wanted)
        if dtype == "float32":
            assert off.max() <= 1e-3
        else:           # a sum next to a half may round the other way
            assert off.max() <= 1 and (off > 0).mean() < 0.01 + 1 / n


@pytest.mark.parametrize("simd", ["baseline", None, "twin"])
@pytest.mark.parametrize("dtype, wanted", [
    ("int8", [127, -128, 0, 2, 2, -2, 127, -128]), ("uint8", [255, 0, 0, 2, 2, 0, 200, 0]),
    ("float32", [30000.0, -30000.0, 0.5, 1.5, 2.5, -1.5, 200.0, -200.0]),
])
def test_inverse_rounds_half_to_even_and_saturates(dtype, wanted, simd):
    make = reference_codec.Transform if simd == "twin" else cext.Transform
    transform = make((1, 1, 1, 8, 1), dtype, None, None, None, np.zeros(8), simd=None if simd == "twin" else simd)
    dst = np.zeros(8, dtype)
    transform.inverse(np.array([60000, -60000, 1, 3, 5, -3, 400, -400]).clip(-32767, 32767).astype(np.int16), 0.5, dst)
    wanted = [16383.5 if w == 30000.0 else -16383.5 if w == -30000.0 else w for w in wanted]
    assert dst.tolist() == wanted


def test_the_paths_agree(rng):
    for shape in SHAPES:
        n = int(np.prod(shape))
        given = matrices(rng, shape)
        src, a, b = tensor(rng, "uint8", n), np.zeros(n, np.float32), np.zeros(n, np.float32)
        for simd, dst in (("baseline", a), (None, b)):
            cext.Transform(shape, "uint8", *given, np.zeros(n), simd=simd).coefficients(src, dst)
        assert (np.abs(a - b) <= BOUND * magnitudes(src, shape, *given)).all()


def test_matrices_are_copied_and_a_device_never_inverts(kernels):
    channel = np.zeros((2, 2), np.float32)
    transform = kernels.Transform((1, 1, 1, 1, 2), "float32", channel, None, None, np.zeros(2))
    channel[:] = 7
    dst = np.ones(2, np.float32)
    transform.coefficients(np.ones(2, np.float32), dst)
    assert dst.tolist() == [0, 0]
    with pytest.raises(ValueError, match="channel is singular"):
        transform.inverse(np.zeros(2, np.int16), 1.0, dst)
    assert dst.tolist() == [0, 0]


@pytest.mark.parametrize("change, message", [
    ({"shape": (1, 2, 3, 4)}, "shape is .*five sizes"), ({"shape": (1, 0, 1, 1, 1)}, "shape is .*at least 1"),
    ({"shape": (2**32, 2**32, 1, 1, 1), "offset": np.zeros(0)}, "offset has shape"),
    ({"dtype": "int16"}, "dtype is 'int16'"), ({"channel": np.zeros((3, 2))}, r"channel has shape \(3, 2\)"),
    ({"row": np.eye(3)}, "row has shape"), ({"column": np.eye(1)}, "column has shape"),
    ({"offset": np.zeros(7)}, "offset has shape"), ({"row": np.full((2, 2), np.nan)}, "row must be finite"),
    ({"offset": np.full(8, np.inf)}, "offset must be finite"), ({"simd": "sse9"}, "simd is 'sse9'"),
])
def test_a_wrong_transform_is_refused(kernels, change, message):
    right = {"shape": (1, 2, 1, 2, 2), "dtype": "int8", "channel": np.eye(2), "row": np.eye(2),
             "column": np.eye(2), "offset": np.zeros(8)}
    kernels.Transform(**right)
    with pytest.raises(ValueError, match=message):
        kernels.Transform(**right | change)


def test_wrong_arguments_are_refused(kernels):
    transform = kernels.Transform((1, 2, 1, 2, 2), "int8", None, None, None, np.zeros(8))
    src, symbols = np.zeros(8, np.int8), np.full(8, 7, np.int16)
    with pytest.raises(ValueError, match="src holds 7 values, must hold 8"):
        transform.forward(src[:7], symbols, 1.0)
    with pytest.raises(ValueError, match="symbols holds 7 values, must hold 8"):
        transform.forward(src, symbols[:7], 1.0)
    for inv_step in (-1.0, np.nan, np.inf, 1e39):
        with pytest.raises(ValueError, match="inv_step is"):
            transform.forward(src, symbols, inv_step)
        with pytest.raises(ValueError, match="step is"):
            transform.inverse(symbols, inv_step, src.copy())
    with pytest.raises(ValueError):
        transform.forward(src.view(np.uint8), symbols, 1.0)
    with pytest.raises(ValueError, match="dst holds 7"):
        transform.inverse(symbols, 1.0, src[:7].copy())
    with pytest.raises((ValueError, BufferError)):
        transform.inverse(symbols, 1.0, bytes(8))
    with pytest.raises(ValueError, match="dst holds 9"):
        transform.coefficients(src, np.zeros(9, np.float32))
    assert (symbols == 7).all()


def test_nothing_outside_dst_is_written(rng):
    for simd in PATHS:
        for shape in SHAPES:
            n = int(np.prod(shape))
            symbols, back = np.full(n + 32, 77, np.int16), np.full(n + 32, 77, np.int8)
            transform = cext.Transform(shape, "int8", *matrices(rng, shape), np.zeros(n), simd=simd)
            transform.forward(tensor(rng, "int8", n), symbols[16:16 + n], 1.0)
            transform.inverse(symbols[16:16 + n], 1.0, back[16:16 + n])
            for array in (symbols, back):
                assert (array[:16] == 77).all() and (array[16 + n:] == 77).all()


def simd_of(demand):
    env = {name: value for name, value in os.environ.items() if name not in ("SPLIT_CODEC", "SPLIT_SIMD")}
    return subprocess.run([sys.executable, "-c", "import cext; print(cext.simd)"], cwd=ROOT, text=True,
                          env=env | {"SPLIT_SIMD": demand}, capture_output=True, timeout=60)


def test_the_environment_chooses_a_path():
    assert simd_of("baseline").stdout.strip() == "baseline"
    assert simd_of("").stdout.strip() in ("avx2", "baseline")
    done = simd_of("sse9")
    assert done.returncode != 0 and "SPLIT_SIMD: simd is 'sse9'" in done.stderr
