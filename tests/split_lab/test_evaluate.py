"""What `evaluate` measures, on models made here; and its intervals, on made numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edge_agent.cli import main
from split_core.errors import InputError, UsageError
from split_core.model.bundle import open_bundle
from split_lab.evaluate import (
    Evaluation, Frames, collect, evaluate, judge_method, read_labels,
)
from split_lab.intervals import bytes_at, mean_interval, p95_interval, paired_ratio, ratio_at
from split_lab.methods import make_method, rung_method
from split_lab.split import split_model
from tests.support import shared_data, tiny_models

PHOTOS, VIEWS = 5, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A bundle of `camera_model` and smooth pictures in two folders."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "camera.tflite").write_bytes(tiny_models.camera_model())
    data = split_model(folder / "camera.tflite", cuts="all", image={"scale": 1 / 255})
    (folder / "camera.split.tflite").write_bytes(data)
    rng = np.random.default_rng(4)
    for i in range(PHOTOS):
        place = folder / "photos" / ("cat" if i % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        noise.resize((160, 120)).save(place / f"n{i:02}_x.png")
    return folder


@pytest.fixture(scope="module")
def files(folder) -> list[Path]:
    return sorted((folder / "photos").rglob("*.png"))


@pytest.fixture(scope="module")
def bundle(folder):
    return open_bundle(folder / "camera.split.tflite")


@pytest.fixture(scope="module")
def frames(bundle, files) -> Frames:
    return collect(bundle, files, 2, views=VIEWS, seed=3)


def test_without_loss_nothing_moves(bundle, files):
    for cut in (0, 1, bundle.manifest.cuts[-3].cut):
        result = evaluate(bundle, files, "raw", cut, views=VIEWS)
        assert len(result.bytes) == PHOTOS * VIEWS
        assert not result.divergence.any() and result.agree.all()


def test_divergence_grows_and_bytes_fall_with_the_bits(frames):
    results = [judge_method(frames, rung_method(frames.bundle, 2, f"q{bits}"))
               for bits in (8, 6, 4, 2)]
    divergence = [r.mean("divergence").value for r in results]
    assert 0 < divergence[0] and divergence == sorted(divergence)
    nbytes = [r.mean("bytes").value for r in results]
    assert nbytes == sorted(nbytes, reverse=True)


def test_views_depend_on_seed_and_name_alone(bundle, files, frames):
    alone = collect(bundle, files[2:3], 2, views=VIEWS, seed=3)
    other = collect(bundle, files[2:3], 2, views=VIEWS, seed=4)
    (name,) = frames.boundary
    assert np.array_equal(alone.boundary[name], frames.boundary[name][frames.groups == 2])
    assert not np.array_equal(other.boundary[name], alone.boundary[name])


def test_saved_arrays_are_one_frame_each(bundle, tmp_path):
    spec = bundle.specs[bundle.manifest.inputs[0]]
    np.save(tmp_path / "a.npy", np.zeros(spec.shape, np.float32))
    assert len(collect(bundle, [tmp_path / "a.npy"], 1)) == 1


def test_outputs_that_the_head_makes_stay_exact(tmp_path):
    """In `state_model` z is made behind cut 1, the new state before: it does not cross."""
    (tmp_path / "m.tflite").write_bytes(tiny_models.state_model())
    (tmp_path / "m.split.tflite").write_bytes(split_model(tmp_path / "m.tflite", cuts="all"))
    bundle = open_bundle(tmp_path / "m.split.tflite")
    rng = np.random.default_rng(1)
    for i in range(6):
        np.save(tmp_path / f"{i}.npy", rng.standard_normal((1, 4)).astype(np.float32))
    frames = collect(bundle, sorted(tmp_path.glob("*.npy")), 1)
    assert not judge_method(frames, rung_method(bundle, 1, "raw")).divergence.any()
    coarse = judge_method(frames, rung_method(bundle, 1, "q2"))
    assert coarse.divergence.max() > 0
    assert coarse.mean("agree") is None and coarse.report()["agreement"] is None


@pytest.mark.parametrize("name, message", [
    ("q9", "rung 'q9'"), ("kl0.02", "not calibrated"), ("jpeg90", "wanted cut 0, not 2"),
    ("avif90", "wanted cut 0, not 2"), ("clip1", "wanted 2 to 256"), ("clipper", "rung 'clipper'"),
])
def test_methods_that_cannot_be(frames, name, message):
    with pytest.raises(UsageError, match=message):
        make_method(frames, name)


# -- intervals


def photos(rng, count: int, views: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Values with mean 0: half of their variance is the photo's, the rest each view's own."""
    values = rng.standard_normal((count, 1)) + rng.standard_normal((count, views))
    return values.ravel(), np.repeat(np.arange(count), views)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(11)
    held = [i.low <= 0 <= i.high for i in (mean_interval(*photos(rng, 60)) for _ in range(300))]
    # 95 %, with three standard deviations of 300 trials, and a little less for 60 photos.
    assert 0.90 <= np.mean(held) <= 0.99


def test_intervals_shrink_with_the_root_of_the_photos():
    rng = np.random.default_rng(12)
    few, many = (mean_interval(*photos(rng, n)) for n in (100, 1600))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(4, rel=0.25)


def test_seeing_a_photo_again_teaches_nothing():
    values = np.random.default_rng(13).standard_normal(50)
    once = mean_interval(values, np.arange(50))
    again = mean_interval(np.repeat(values, 8), np.repeat(np.arange(50), 8))
    assert (again.low, again.high) == pytest.approx((once.low, once.high))


def test_p95_is_what_95_percent_do_not_exceed():
    interval = p95_interval(np.arange(100, 0, -1.0), np.arange(100))
    assert interval.value == 95 and 88 < interval.low < 95 < interval.high <= 100


def test_unknown_values_do_not_count():
    assert mean_interval(np.array([1.0, np.nan, 3.0]), np.arange(3)).value == 2
    assert mean_interval(np.full(3, np.nan), np.arange(3)) is None


def made(nbytes, divergence=None, seed=0) -> Evaluation:
    groups = np.repeat(np.arange(10), 2)
    frames = Frames(None, 0, "hard", seed, None, [Path(f"{i}") for i in range(10)], groups,
                    {}, [], [])
    unknown = np.full(20, np.nan)
    nbytes = np.broadcast_to(np.asarray(nbytes, float), 20)
    divergence = np.full(20, np.nan if divergence is None else divergence)
    return Evaluation(frames, "made", nbytes, divergence, *[unknown] * 5)


def test_a_paired_ratio_leaves_out_what_both_share():
    a = np.random.default_rng(5).uniform(100, 900, 20)
    ratio = paired_ratio(made(2 * a), made(a))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    with pytest.raises(ValueError, match="same files"):
        paired_ratio(made(a), made(a, seed=1))


def test_bytes_between_two_points():
    points = [made(100, 0.1), made(400, 0.001)]
    assert bytes_at(points, 0.01).value == pytest.approx(200)     # half way, in logarithms
    assert ratio_at([made(50, 0.1), made(200, 0.001)], points, 0.03).value == pytest.approx(0.5)
    with pytest.raises(ValueError, match="not between the measured 0.001 and 0.1"):
        bytes_at(points, 0.2)


# -- labels


def named(paths: list[str], classes: int, root: Path) -> Frames:
    answer = SimpleNamespace(kind="classification")
    return Frames(SimpleNamespace(manifest=SimpleNamespace(answer=answer)), 0, "hard", 0,
                  SimpleNamespace(names=["logits"]), [root / p for p in paths],
                  np.arange(len(paths)), {}, [], [[np.zeros((1, classes))]] * len(paths))


@pytest.mark.parametrize("classes, largest, offset, wanted", [
    (1001, 999, None, 8), (1001, 1000, None, 7), (1000, 999, None, 7), (1001, 999, 0, 7),
])
def test_a_background_class_in_front_moves_the_labels(tmp_path, classes, largest, offset, wanted):
    (tmp_path / "l.txt").write_text(f"n01 7\nn0123 9\nn02 {largest}\n")
    frames = named(["n01_cock.jpg", "other.jpg"], classes, tmp_path)
    assert read_labels(str(tmp_path / "l.txt"), frames, tmp_path, offset).tolist() == [wanted, -1]


def test_the_longest_prefix_of_name_or_path_counts(tmp_path):
    (tmp_path / "l.txt").write_text("ca 1\ncat/ 2\ncat/b 3\n")
    frames = named(["cat/a.png", "cat/b.png", "car.png"], 5, tmp_path)
    assert read_labels(str(tmp_path / "l.txt"), frames, tmp_path).tolist() == [2, 3, 1]


def test_folders_are_labels(tmp_path):
    for name in ("owl", "bee", "cat"):
        (tmp_path / name).mkdir()
    frames = named(["owl/0.png", "cat/0.png", "bee/1.png"], 3, tmp_path)
    assert read_labels("folders", frames, tmp_path).tolist() == [2, 1, 0]
    with pytest.raises(UsageError, match="3 folders in .*, the model has 4 classes"):
        read_labels("folders", named(["owl/0.png"], 4, tmp_path), tmp_path)


@pytest.mark.parametrize("text, message", [
    ("", "no labels"), ("n01", "line 1: 'n01', wanted a prefix"), ("n01 x", "line 1"),
    ("zebra 1", "no label for any of 1 inputs"), ("n01 10", "label 10 .offset 0., the model has 10"),
])
def test_labels_that_do_not_fit(tmp_path, text, message):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_labels(str(tmp_path / "l.txt"), named(["n01.jpg"], 10, tmp_path), tmp_path)


# -- the command


def test_the_report_for_scripts(folder, capfd):
    (folder / "labels.txt").write_text("dog/ 1\ncat/ 2\n")
    arguments = ["evaluate", str(folder / "camera.split.tflite"), "--inputs",
                 str(folder / "photos"), "--cut", "2", "--bits", "3", "--samples", "4",
                 "--views", "3", "--labels", str(folder / "labels.txt")]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["cut"], report["method"], report["crops"]) == (2, "q3", "hard")
    assert (report["inputs"], report["frames"], report["labelled"]) == (4, 12, 12)
    assert report["divergence_kind"] == "kl_nats"
    for figure in ("mean_bytes", "p95_bytes", "mean_divergence", "agreement", "accuracy",
                   "whole_accuracy"):
        interval = report[figure]
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert report["mean_bytes"]["value"] <= report["p95_bytes"]["value"] < report["raw_bytes"]
    assert report["median_encode_us"] > 0 and report["median_decode_us"] > 0
    assert main(arguments) == 0
    text = capfd.readouterr().out
    assert "12 frames of 4 inputs, hard crops" in text and "95 % interval" in text


@pytest.mark.parametrize("arguments, code, message", [
    (["--cut", "2"], 64, "say how to code"),
    (["--bits", "4"], 64, "--cut is needed"),
    (["--bits", "4", "--cut", "99"], 64, "no cut 99 with a tail"),
    (["--bits", "4", "--cut", "8"], 64, "no cut 8 with a tail"),
    (["--bits", "0", "--cut", "2"], 64, "rung 'q0'"),
    (["--jpeg", "90", "--cut", "2"], 64, "wanted cut 0, not 2"),
    (["--jpeg", "101"], 64, "rung 'jpeg101'"),
    (["--kl", "-1", "--cut", "2"], 64, "rung 'kl-1'"),
    (["--bits", "4", "--cut", "2", "--views", "0"], 64, "0 hard views"),
    (["--bits", "4", "--cut", "2", "--views", "2", "--crops", "centre"], 64, "all alike"),
    (["--bits", "4", "--cut", "2", "--samples", "0"], 64, "--samples 0"),
    (["--bits", "4", "--cut", "2", "--labels", "/nowhere"], 64, "cannot read labels"),
    (["--bits", "4", "--cut", "2", "--inputs", "/nowhere"], 66, "no inputs in /nowhere"),
])
def test_bad_arguments(folder, capfd, arguments, code, message):
    words = ["evaluate", str(folder / "camera.split.tflite"), "--inputs",
             str(folder / "photos"), "--samples", "1", "--views", "1"]
    assert main([*words, *arguments]) == code
    assert message in capfd.readouterr().err


def test_a_file_that_is_no_picture(bundle, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"no")
    with pytest.raises(InputError, match="no picture"):
        collect(bundle, [tmp_path / "x.jpg"], 2)


def test_photos_through_a_real_model(tmp_path):
    """Centre crops of real photos: 91.5 % (data README), so 20 of them hit more often than not."""
    model = shared_data.model("mobilenet_v2_1.0_224_quant.tflite")
    inputs = shared_data.photos()[::10]
    (tmp_path / "m.split.tflite").write_bytes(split_model(model))
    bundle = open_bundle(tmp_path / "m.split.tflite")
    frames = collect(bundle, inputs, 0, crops="centre")
    labels = read_labels(str(shared_data.FOLDER / "images" / "classes.txt"), frames,
                         inputs[0].parent)
    result = judge_method(frames, make_method(frames, "jpeg90"), labels)
    assert result.mean("whole_correct").value > 0.7
    assert result.mean("agree").value > 0.7 and 0 < result.mean("divergence").value < 0.2
