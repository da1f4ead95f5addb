"""JPEG tables from sensitivities: the arithmetic, and that any decoder reads them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from split_core.model.bundle import open_bundle
from split_core.model.graph import read_graph
from split_core.pictures import pull_jpeg, push_jpeg
from split_lab.calibrate.jpeg_tables import (
    _PROBE_COEFFICIENT, _smoothed, gradient_sensitivity, jpeg_tables, probe_jpeg_sensitivity,
    tables_from,
)
from split_lab.evaluate import collect
from split_lab.split import split_model
from tests.support import tiny_models


def wave(v: int, h: int) -> np.ndarray:
    """The orthonormal cosine of an 8x8 block."""
    y, x = np.mgrid[:8, :8]
    norm = (1 if v else 0.5**0.5) * (1 if h else 0.5**0.5) / 4
    return norm * np.cos((2 * y + 1) * v * np.pi / 16) * np.cos((2 * x + 1) * h * np.pi / 16)


@pytest.mark.parametrize("v, h", [(0, 0), (0, 3), (7, 1)])
def test_a_gradient_of_one_frequency_is_sensitive_to_that_alone(v, h):
    gradients = np.zeros((2, 19, 24, 3))                  # 2 x 3 blocks, and 3 rows too many
    gradients[0, :8, 8:16] = 3 * wave(v, h)[..., None]    # grey: 3 + 3 + 3 a unit of luma
    s = gradient_sensitivity(gradients)
    assert s.shape == (3, 8, 8)
    assert s[0, v, h] == pytest.approx(9**2 / 12)         # one block of 2 x 6
    assert s[0].sum() == pytest.approx(s[0, v, h])
    # Blue difference moves G by -0.344136 and B by 1.772, the red one R by 1.402 and G so.
    assert s[1, v, h] == pytest.approx((3 * (1.772 - 0.344136)) ** 2 / 12)
    assert s[2, v, h] == pytest.approx((3 * (1.402 - 0.714136)) ** 2 / 12)


def test_steps_go_with_the_inverse_root():
    s = np.ones((3, 8, 8))
    s[0, 0, 0], s[1:] = 4.0, 0.25
    luma, chroma = tables_from(s)
    assert chroma[5] / luma[5] == pytest.approx(2, rel=0.03)
    assert luma[5] / luma[0] == pytest.approx(2, rel=0.03)
    mean = np.exp((np.log(luma).mean() + 2 * np.log(chroma).mean()) / 3)
    assert mean == pytest.approx(65.2, rel=0.02)


def test_the_library_means_the_same_quality_50():
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG", quality=50)
    library = Image.open(io.BytesIO(out.getvalue())).quantization
    mean = np.exp((np.log(library[0]).mean() + 2 * np.log(library[1]).mean()) / 3)
    luma, chroma = tables_from(np.ones((3, 8, 8)))
    assert {*luma, *chroma} == {round(mean)}


@pytest.mark.parametrize("seed", range(5))
def test_every_step_fits_and_the_file_can_be_read(seed):
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((3, 16, 16, 3)) * np.exp(rng.normal(0, 4, (16, 16, 3)))
    tables = jpeg_tables(gradients)
    assert all(len(t) == 64 and all(1 <= step <= 255 for step in t) for t in tables)
    samples = rng.integers(100, 156, (16, 24, 3), np.uint8)
    for quality in (1, 50, 92, 100):
        file = push_jpeg(samples, quality, tables)
        assert Image.open(io.BytesIO(file)).size == (24, 16)
        assert pull_jpeg(file, 16, 24, 3).shape == samples.shape


def test_no_gradient_at_all_gives_flat_tables():
    luma, chroma = jpeg_tables(np.zeros((1, 8, 8, 3)))
    assert len({*luma, *chroma}) == 1


def test_smoothing_moves_and_loses_nothing():
    s = np.zeros((1, 8, 8))
    s[0, 3, 4] = 16.0
    assert _smoothed(s)[0, 2:5, 3:6].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    assert np.allclose(_smoothed(np.full((3, 8, 8), 2.0)), 2)


def test_grey_has_one_table_twice():
    luma, chroma = jpeg_tables(np.random.default_rng(1).standard_normal((2, 8, 8, 1)))
    assert luma == chroma
    with pytest.raises(ValueError, match="no block"):
        jpeg_tables(np.zeros((1, 7, 8, 1)))


def test_probing_and_gradients_agree(tmp_path):
    """On a float model with a single block: the same numbers, but for curvature and rounding."""
    pytest.importorskip("torch")
    from split_lab.calibrate.gradients import TorchGraph

    (tmp_path / "m.tflite").write_bytes(tiny_models.skip_model())
    (tmp_path / "m.split.tflite").write_bytes(
        split_model(tmp_path / "m.tflite", cuts="all", image={"scale": 1 / 255}))
    bundle = open_bundle(tmp_path / "m.split.tflite")
    rng = np.random.default_rng(9)
    for i in range(24):
        Image.fromarray(rng.integers(40, 216, (9, 9, 3), np.uint8)).save(tmp_path / f"{i}.png")
    frames = collect(bundle, sorted(tmp_path.glob("*.png")), 0, crops="centre")
    image = bundle.manifest.image
    probed = probe_jpeg_sensitivity(frames.judge, image, map(frames.live, range(len(frames))))
    probed /= _PROBE_COEFFICIENT**2                       # one block, so nothing else

    model = read_graph((tmp_path / "m.tflite").read_bytes())
    graph = TorchGraph(model, frames.judge.heads.tensors)
    inputs = {model.inputs[0]: frames.boundary[image.tensor][:, 0]}
    exact = np.zeros_like(probed)
    for answer in range(5):                               # each answer, as often as it is given
        def loss(torch, heads, start, answer=answer):
            log_p = heads[0].log_softmax(-1)
            return (log_p[:, answer] * (log_p[:, answer].detach() / 2).exp()).sum()
        gradients = np.concatenate([g[model.inputs[0]] for g in
                                    graph.gradients(inputs, [model.inputs[0]], loss)])
        exact += gradient_sensitivity(gradients.astype(np.float64) * image.scale)
    exact = _smoothed(exact)
    ratio = probed / exact
    assert 0.6 < np.median(ratio) < 1.6
    assert np.corrcoef(np.log(probed).ravel(), np.log(exact).ravel())[0, 1] > 0.9
