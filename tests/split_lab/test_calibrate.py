"""Calibration: the fit does what its metric says, and what it predicts comes true."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_agent.cli import main
from split_core.errors import BundleError, InputError, UsageError
from split_core.model.bundle import open_bundle
from split_core.model.cuts import find_cuts
from split_core.model.graph import read_graph
from split_core.model.manifest import PictureRate
from split_core.tensors import TensorSpec
from split_core.wire.payload import Coder
from split_lab.calibrate import gradients as autodiff, run
from split_lab.calibrate.learn import INDICES, Samples, gradients, probe_metric
from split_lab.calibrate.metric import GradientMetric, ProbeMetric, head_response
from split_lab.calibrate.run import calibrate_model
from split_lab.calibrate.transform import blocks_of, dct, fit_transform, fold, metric_klt, to_coding
from split_lab.cut_table import inspect_file, render
from split_lab.evaluate import collect, judge_method
from split_lab.judge import Judge, kl_divergence
from split_lab.methods import rung_method
from split_lab.views import list_inputs, views
from tests.support import tiny_models

PHOTOS = 12


@pytest.fixture(scope="module", autouse=True)
def few_jpeg_probes():
    """JPEG's tables from two inputs: 384 runs of the model each are most of the time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_JPEG_PROBES", 2)
        yield


@pytest.fixture
def rng():
    seed = 20
    print("seed", seed)
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A small float classifier and smooth pictures of many kinds."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "camera.tflite").write_bytes(tiny_models.camera_model())
    rng = np.random.default_rng(7)
    (folder / "photos").mkdir()
    for i in range(PHOTOS):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((120, 96), Image.Resampling.BICUBIC)
        picture.save(folder / "photos" / f"{i:02}.png")
    return folder


def _calibrate(desk, **options):
    return calibrate_model(desk / "camera.tflite", desk / "photos", samples=PHOTOS,
                           image={"scale": 1 / 255}, **options)


@pytest.fixture(scope="module")
def by_probes(desk):
    return _calibrate(desk, cuts=[1, 4], method="probes")


@pytest.mark.parametrize("shape, blocks", [
    ((1, 14, 14, 64), (1, 14, 1, 14, 64)), ((1, 28, 56, 3), (2, 14, 4, 14, 3)),
    ((1, 13, 17, 5), (1, 13, 17, 1, 5)), ((1, 100, 8), (1, 1, 10, 10, 8)),
    ((1, 1280), (1, 1, 1, 1, 1280)), ((), (1, 1, 1, 1, 1)), ((2, 3, 4, 5), (1, 1, 4, 6, 5)),
])
def test_every_tensor_is_seen_in_blocks(shape, blocks):
    found = blocks_of(shape)
    assert np.prod(found) == np.prod(shape, dtype=int) and found[4] == blocks[4]
    assert found == blocks or shape == (2, 3, 4, 5)


def test_the_transform_decorrelates_and_makes_every_direction_as_dear(rng):
    """U^T F^(1/2): covariance becomes diagonal, the metric the identity."""
    a, b = rng.normal(size=(2, 6, 6))
    covariance, metric = a @ a.T, b @ b.T + 0.1 * np.eye(6)
    m = metric_klt(covariance, metric)
    inverse = np.linalg.inv(m)
    assert np.allclose(inverse.T @ metric @ inverse, np.eye(6), atol=1e-8)
    turned = m @ covariance @ m.T
    assert np.allclose(turned, np.diag(np.diag(turned)), atol=1e-8)
    assert (np.diff(np.diag(turned)) <= 1e-9).all(), "strongest first"


def test_dct_is_orthonormal():
    assert np.allclose(dct(14) @ dct(14).T, np.eye(14))


def test_quantization_noise_costs_what_the_metric_says(rng):
    """KL = step^2 / 24 * coefficients, in a metric that is known: a quadratic form."""
    blocks, n = (1, 4, 1, 4, 6), 600
    jacobian = rng.normal(size=(40, 96)) * rng.uniform(0.1, 3, 96)
    spread = rng.normal(size=(96, 96)) * 2
    values = (rng.normal(size=(n, 96)) @ spread).astype(np.float32).reshape(n, 4, 4, 6)
    signs = rng.normal(size=(n, 40)) @ jacobian
    fit = fit_transform(values, GradientMetric(fold(signs.astype(np.float32), blocks)), blocks,
                        photos=n)
    coding = to_coding("t", fit, 1 / 8)
    spec = TensorSpec("t", (1, 4, 4, 6), "float32")
    coder = Coder(codings={"t": coding})
    total = 0.0
    for x in values[:200]:
        payload, _ = coder.encode_at([x[None]], [spec], 0)
        (back,) = coder.decode(payload, [spec])
        total += 0.5 * float(np.sum((jacobian @ (back[0] - x).ravel()) ** 2))
    # Row, column and channel weights cannot hold a metric of 96 x 96; its sum they do.
    assert total / 200 == pytest.approx(96 / 24, rel=0.35)


def test_probes_find_the_metric_of_a_linear_tail(rng):
    """Finite differences against the exact sums of J^T J over all but one axis."""
    blocks = (1, 3, 1, 4, 5)
    # Channels that matter together: what is off the diagonal counts.
    mixing = np.kron(np.eye(12), rng.normal(size=(5, 5)) + 2)
    jacobian = rng.normal(size=(30, 60)) @ mixing
    metric = ProbeMetric(blocks, 400, lambda frame, changes:
                         changes.reshape(len(changes), -1) @ jacobian.T, rng)
    exact = (jacobian.T @ jacobian).reshape(3, 4, 5, 3, 4, 5)
    channels = np.einsum("hwchwd->cd", exact) / 12
    found = metric.channels()
    assert np.abs(found - channels).max() < 0.1 * np.diag(channels).max()
    rows = np.einsum("hwciwc->hi", exact) / 20
    assert np.abs(metric.rows(np.eye(5)) - rows).max() < 0.1 * np.diag(rows).max()


def test_a_response_is_as_long_as_the_divergence_it_causes(rng):
    logits = rng.normal(size=(1, 8)) * 2
    change = 1e-3 * rng.normal(size=(1, 8))
    response = head_response([logits], [change], softmax=True, scales=[1])
    assert response @ response / 2 == pytest.approx(
        float(kl_divergence(logits, logits + change)[0]), rel=0.01)


def test_gradients_agree_with_the_runtime(desk, rng):
    """Channel metric at a cut: PyTorch's gradients against probes through TFLite."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    source = (desk / "camera.tflite").read_bytes()
    graph = read_graph(source)
    cut = next(c for c in find_cuts(graph) if c.cut == 4)
    bundle = open_bundle(_written(desk, _calibrate(desk, cuts=[4], method="probes")))
    judge = Judge(source, graph, [cut], image=bundle.manifest.image)
    seen = [v for f in list_inputs(desk / "photos") for v in
            views(judge.bundle, f, centre=1, hard=3, rng=rng)]
    samples = Samples(judge, seen, graph, lambda *_: None)
    torch_graph = autodiff.TorchGraph(graph, judge.heads.tensors)
    run = torch_graph.run({graph.inputs[0]: seen[0].arrays["image"]})
    assert np.allclose(run[judge.heads.tensors[0]], samples.answers[0][0], atol=1e-3)
    (t,) = cut.boundary
    found = np.mean([GradientMetric(fold(
        gradients(samples, torch_graph, [t], seed, lambda *_: None)[t].astype(np.float32) / 256,
        blocks_of(graph.spec(t).shape))).channels() for seed in range(6)], axis=0)
    probed = probe_metric(samples, cut, graph.spec(t), blocks_of(graph.spec(t).shape),
                          np.ones(len(seen), bool), rng).channels()
    # Both are samples of the same matrix: a few dozen inputs, a few draws of each.
    assert np.corrcoef(found.ravel(), probed.ravel())[0, 1] > 0.6
    assert np.trace(found) == pytest.approx(np.trace(probed), rel=0.4)


def test_an_op_without_a_gradient_is_named():
    graph = read_graph(tiny_models.unknown_custom_model())
    if not autodiff.available():
        pytest.skip("PyTorch is not installed")
    with pytest.raises(autodiff.Untranslatable, match="CUSTOM"):
        autodiff.TorchGraph(graph, graph.outputs)


def test_a_translation_that_answers_otherwise_is_not_used(desk, monkeypatch, capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setitem(autodiff._TRANSLATIONS, "FULLY_CONNECTED",
                        lambda g, op, v: 3 * autodiff._dense(g, op, v))
    outcome = _calibrate(desk, cuts=[6])
    assert outcome.method == "finite differences"
    assert "off by" in capsys.readouterr().err
    with pytest.raises(BundleError, match="no gradients"):
        _calibrate(desk, cuts=[6], method="gradients")


def _written(desk, outcome):
    path = desk / "calibrated.split.tflite"
    path.write_bytes(outcome.data)
    return path


def test_a_calibrated_bundle_knows_its_rates(desk, by_probes):
    bundle = open_bundle(_written(desk, by_probes))
    assert [c.cut for c in bundle.manifest.cuts][:3] == [0, 1, 4]
    assert by_probes.method == "finite differences"
    assert set(bundle.codings) == {"conv1", "conv4"}
    for cut in (1, 4):
        points = bundle.cut(cut).rate
        assert [p.index for p in points] == list(INDICES)
        assert all(a.kl <= b.kl and a.bytes >= b.bytes for a, b in zip(points, points[1:]))
        assert points[0].bytes > 3 * points[-1].bytes
        assert 0 < bundle.cut(cut).margin <= 1
    tables = bundle.manifest.image.jpeg_tables
    assert tables and all(len(t) == 64 for t in tables)
    plain = len((desk / "camera.tflite").read_bytes())
    assert by_probes.table_bytes < 0.5 * plain


def test_what_was_predicted_comes_true_on_other_crops(desk, by_probes):
    bundle = open_bundle(_written(desk, by_probes))
    frames = collect(bundle, list_inputs(desk / "photos"), 4, crops="hard", views=3, seed=99)
    for asked in (0.02, 0.1):
        found = judge_method(frames, rung_method(bundle, 4, f"kl{asked}"))
        curve = bundle.rate(4)
        predicted = curve.kl(curve.index_for_kl(asked))
        assert predicted <= asked
        assert predicted / 2.5 <= found.divergence.mean() <= predicted * 2.5
        assert found.bytes.mean() == pytest.approx(
            curve.bytes(curve.index_for_kl(asked)), rel=0.25)
    coarse, fine = (judge_method(frames, rung_method(bundle, 4, f"kl{k}")) for k in (0.1, 0.02))
    assert coarse.bytes.mean() < 0.9 * fine.bytes.mean()


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_calibrated_bundle_knows_what_pictures_cost(desk, by_probes, kind):
    bundle = open_bundle(_written(desk, by_probes))
    curve = bundle.picture_rate(kind)
    points = curve.points
    assert [p.quality for p in points] == [30, 50, 70, 85, 95]
    assert all(a.kl >= b.kl and a.bytes <= b.bytes for a, b in zip(points, points[1:]))
    assert points[0].kl > 2 * points[-1].kl and points[-1].bytes > 1.2 * points[0].bytes
    # 60 was not measured; other crops of the same pictures.
    frames = collect(bundle, list_inputs(desk / "photos"), 0, crops="hard", views=4, seed=99)
    found = judge_method(frames, rung_method(bundle, 0, f"{kind}60"))
    assert found.bytes.mean() == pytest.approx(curve.bytes(60), rel=0.2)
    assert curve.kl(60) / 2.5 <= found.divergence.mean() <= curve.kl(60) * 2.5


def test_saved_arrays_of_an_image_input_cost_what_their_pictures_do(desk, tmp_path, rng):
    (tmp_path / "arrays").mkdir()
    for i in range(4):
        picture = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        pixels = np.asarray(picture.resize((64, 64), Image.Resampling.BICUBIC))
        np.save(tmp_path / "arrays" / f"{i}.npy", pixels[None].astype(np.float32) / 255)
    outcome = calibrate_model(desk / "camera.tflite", tmp_path / "arrays", cuts=[4],
                              method="probes", image={"scale": 1 / 255})
    bundle = open_bundle(_written(tmp_path, outcome))
    files = list_inputs(tmp_path / "arrays")
    frames = collect(bundle, files, 0)
    found = judge_method(frames, rung_method(bundle, 0, "jpeg70"))
    (point,) = [p for p in bundle.picture_rate("jpeg").points if p.quality == 70]
    # The same inputs, through the same coder and runtime.
    assert (point.kl, point.bytes) == pytest.approx(
        (found.divergence.mean(), found.bytes.mean()), rel=1e-3)


def test_the_cut_table_shows_the_input_as_a_picture(desk, by_probes):
    report = inspect_file(_written(desk, by_probes))
    assert [p["quality"] for p in report["pictures"]] == 2 * [30, 50, 70, 85, 95]
    rates = [PictureRate("jpeg", 60, 0.04, 2000), PictureRate("jpeg", 80, 0.01, 8000),
             PictureRate("webp", 95, 0.03, 23_060)]
    report["pictures"] = [msgspec.structs.asdict(r) for r in rates]
    # 0.02 is half way between 60 and 80; WebP has no better than it has.
    assert render(report).splitlines()[-1] == (
        "input as JPEG 70: 4000 B at KL 0.02, WebP 95: 23.1 kB at KL 0.03")
    report["pictures"] = []
    assert "input as" not in render(report)


def test_a_size_asked_for_is_a_ceiling(desk, by_probes):
    bundle = open_bundle(_written(desk, by_probes))
    frames = collect(bundle, list_inputs(desk / "photos"), 4, crops="hard", views=3)
    for ceiling in (150, 300):
        found = judge_method(frames, rung_method(bundle, 4, f"b{ceiling}"))
        assert found.bytes.max() <= ceiling
        assert found.bytes.mean() > 0.6 * ceiling


def test_two_layers_cost_less_and_never_decide_worse_than_the_margin_allows(desk, by_probes):
    bundle = open_bundle(_written(desk, by_probes))
    frames = collect(bundle, list_inputs(desk / "photos"), 4, crops="hard", views=4)
    single = judge_method(frames, rung_method(bundle, 4, "kl0.02"))
    layered = judge_method(frames, rung_method(bundle, 4, "kl0.02+refine", frames.judge))
    assert layered.agree.mean() >= single.agree.mean() - 0.1
    assert layered.bytes.mean() < 1.05 * single.bytes.mean()


def test_the_same_inputs_give_the_same_bundle(desk, by_probes):
    again = _calibrate(desk, cuts=[1, 4], method="probes")
    assert again.data == by_probes.data


def test_sequences_and_arrays_calibrate_too(desk, tmp_path, rng):
    """No picture, no PyTorch, several boundary tensors: a skip connection of int8 and float."""
    (tmp_path / "skip.tflite").write_bytes(tiny_models.skip_model())
    graph = read_graph(tiny_models.skip_model())
    (tmp_path / "arrays").mkdir()
    for i in range(10):
        arrays = {graph.spec(t).name: tiny_models.input_like(graph.spec(t), rng)
                  for t in graph.inputs}
        np.savez(tmp_path / "arrays" / f"{i}.npz", **arrays)
    outcome = calibrate_model(tmp_path / "skip.tflite", tmp_path / "arrays", cuts="all",
                              method="probes")
    (tmp_path / "skip.split.tflite").write_bytes(outcome.data)
    bundle = open_bundle(tmp_path / "skip.split.tflite")
    several = [c for c in bundle.manifest.cuts if len(c.boundary) > 1 and c.rate]
    assert several, "a cut with several boundary tensors has a curve"


def test_folders_without_inputs_are_the_users_fault(desk, tmp_path):
    with pytest.raises(InputError, match="no inputs in"):
        calibrate_model(desk / "camera.tflite", tmp_path)
    with pytest.raises(UsageError, match="no cut 999"):
        calibrate_model(desk / "camera.tflite", desk / "photos", cuts=[999])


def test_the_command_writes_inspects_and_draws(desk, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    output, plot = tmp_path / "c.split.tflite", tmp_path / "rates.png"
    assert main(["calibrate", str(desk / "camera.tflite"), "--inputs", str(desk / "photos"),
                 "--samples", "6", "--cuts", "4", "--method", "probes", "--scale", "0.00392",
                 "-o", str(output), "--plot", str(plot)]) in (0, None)
    assert capsys.readouterr().out.strip() == str(output)
    with Image.open(plot) as picture:
        assert picture.width > 800
    main(["inspect", "--json", str(output)])
    cut = json.loads(capsys.readouterr().out)["cuts"][1]
    assert [set(p) for p in cut["rate"]] == [{"kl", "bytes", "index"}] * len(INDICES)
