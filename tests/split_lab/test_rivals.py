"""The ways to compare with do what their papers and libraries do."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import features

from split_core.errors import UsageError
from split_core.model.bundle import open_bundle
from split_core.tensors import Quantization, TensorSpec
from split_lab.rivals import clip_method, picture_method, uint8_zstd_method
from split_lab.split import split_model
from tests.support import tiny_models

FLOATS = TensorSpec("t", (1, 4, 4, 3), "float32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rivals")
    (folder / "m.tflite").write_bytes(tiny_models.camera_model())
    (folder / "m.split.tflite").write_bytes(
        split_model(folder / "m.tflite", cuts="all", image={"scale": 1 / 255}))
    return open_bundle(folder / "m.split.tflite")


def test_an_ideal_coder_pays_the_entropy_of_each_channel():
    """Channel 0 is constant, 1 takes two values and 2 four, all equally often: 0, 1, 2 bits."""
    frame = np.zeros((1, 4, 4, 3), np.float32)
    frame[..., 1] = 3 * (np.arange(16).reshape(1, 4, 4) % 2)
    frame[..., 2] = np.arange(16).reshape(1, 4, 4) % 4
    method = clip_method([FLOATS], {"t": frame[None]}, 4)
    nbytes, coded = method.encode({"t": frame})
    # Symbols that never came count half a time in 16: 5 % of the bits, and a little.
    assert nbytes == pytest.approx((0 + 16 + 32) / 8, rel=0.3) and nbytes >= 6
    assert np.array_equal(method.decode(coded)["t"], frame)


def test_the_range_has_the_least_squared_error():
    """Two levels on a standard normal: at its centroids, +-sqrt(2/pi) (Max, 1960)."""
    values = np.random.default_rng(1).standard_normal((50, 1, 20, 20, 3)).astype(np.float32)
    spec = TensorSpec("t", (1, 20, 20, 3), "float32")
    method = clip_method([spec], {"t": values}, 2)
    decoded = method.decode(method.encode({"t": values[0]})[1])["t"]
    assert np.unique(decoded) == pytest.approx([-0.798, 0.798], abs=0.03)
    wide = clip_method([spec], {"t": values}, 2, clip=False)
    assert wide.name == "uniform2"
    assert wide.decode(wide.encode({"t": values[0]})[1])["t"].max() == pytest.approx(values.max())


def test_integers_stay_integers_and_others_stay_exact():
    specs = [TensorSpec("q", (1, 2, 2, 2), "int8", Quantization(0.5, 3)),
             TensorSpec("n", (4,), "int32")]
    rng = np.random.default_rng(2)
    samples = {"q": rng.integers(-128, 128, (9, 1, 2, 2, 2)).astype(np.int8),
               "n": rng.integers(0, 9, (9, 4)).astype(np.int32)}
    method = clip_method(specs, samples, 256)
    live = {n: a[0] for n, a in samples.items()}
    nbytes, coded = method.encode(live)
    decoded = method.decode(coded)
    assert decoded["q"].dtype == np.int8 and np.abs(decoded["q"].astype(int) - live["q"]).max() <= 1
    assert np.array_equal(decoded["n"], live["n"]) and nbytes > 16


def test_a_constant_tensor_costs_nothing_much():
    method = clip_method([FLOATS], {"t": np.full((2, *FLOATS.shape), 7, np.float32)}, 4)
    nbytes, coded = method.encode({"t": np.full(FLOATS.shape, 7, np.float32)})
    assert nbytes < 2 and (method.decode(coded)["t"] == 7).all()


@pytest.mark.parametrize("kind", ["jpeg", "jpeg444", "webp", "avif"])
def test_pictures_of_the_input(bundle, kind):
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    y, x = np.mgrid[:64, :64]
    picture = np.stack([2 * x, 2 * y, x + y], -1)[None] / np.float32(255)
    live = {bundle.manifest.image.tensor: picture.astype(np.float32)}
    sizes = []
    for quality in (40, 95):
        method = picture_method(bundle, 0, kind, quality)
        nbytes, coded = method.encode(live)
        ((name, decoded),) = method.decode(coded).items()
        assert decoded.dtype == np.float32 and decoded.shape == live[name].shape
        assert np.abs(decoded - live[name]).mean() < 0.03
        sizes.append(nbytes)
    assert sizes[0] < sizes[1] < 64 * 64 * 3
    with pytest.raises(UsageError, match="wanted cut 0, not 1"):
        picture_method(bundle, 1, kind, 90)
    with pytest.raises(UsageError, match="quality 101"):
        picture_method(bundle, 0, kind, 101)


def test_bytes_and_zstd(bundle):
    (spec,) = bundle.boundary(1)
    live = {spec.name: np.random.default_rng(3).standard_normal(spec.shape).astype(np.float32)}
    method = uint8_zstd_method(bundle, 1)
    nbytes, coded = method.encode(live)
    assert 0 < nbytes <= spec.elements
    step = np.ptp(live[spec.name]) / 255
    assert np.abs(method.decode(coded)[spec.name] - live[spec.name]).max() <= 0.51 * step


