"""Measuring a profile: what runs, how often, on what; with a clock whose times are known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from split_core import pictures
from split_core.cost.inputs import load_inputs
from split_core.cost.measure import _timing, measure, plausible_inputs, rungs_that_matter
from split_core.cost.profile import CodingTime, Profile, Timing, dump, load
from split_core.errors import InputError
from split_core.model.bundle import open_bundle
from split_core.model.runner import Runner
from split_core.wire.payload import Coder
from split_core.wire.rungs import Rung
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.calibrated import calibrate_roughly


def coding(profile: Profile, cut: int, rung: str) -> CodingTime:
    (found,) = [c for c in profile.codings if (c.cut, c.rung) == (cut, rung)]
    return found


@pytest.fixture
def make(tmp_path):
    """The bundle of a model's bytes, cut everywhere."""

    def make(data: bytes, **options):
        (tmp_path / "m.tflite").write_bytes(data)
        path = tmp_path / "m.split.tflite"
        path.write_bytes(split_model(tmp_path / "m.tflite", **{"cuts": "all"} | options))
        return open_bundle(path)

    return make


@pytest.fixture
def skip(make):
    return make(tiny_models.skip_model())


@pytest.fixture
def ran(monkeypatch):
    """Which segments ran, in order, and what each was given."""
    order, run = [], Runner.run_segment

    def spy(self, index, live, keep=None):
        order.append((index, dict(live)))
        return run(self, index, live, keep)

    monkeypatch.setattr(Runner, "run_segment", spy)
    return order


class Ticks:
    """A clock that is a millisecond later each time it is read."""

    def __init__(self):
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return 1e-3 * self.reads


def test_each_run_is_one_reading_of_the_clock_to_the_next(skip):
    profile = measure(skip, budget_s=1e-9, clock=Ticks(), machine="here", made="now")
    assert profile.segments == (Timing(0.001, 0.0),) * 6
    assert profile.whole_s == 0.006
    assert {(c.encode_s, c.decode_s) for c in profile.codings} == {(0.001, 0.001)}
    assert (profile.machine, profile.made, profile.threads) == ("here", "now", 1)
    assert profile.matches(skip) and load(dump(profile)) == profile


def test_a_spread_is_half_of_ten_to_ninety_percent():
    taken = np.random.default_rng(1).permutation(np.arange(11) / 1000)   # 0 to 10 ms
    assert _timing(taken) == Timing(0.005, 0.004)
    assert _timing(np.array([0.004])) == Timing(0.004, 0.0)


def test_segments_take_turns_five_times_at_least(skip, ran):
    measure(skip, budget_s=1e-9)
    # Two rounds to warm up, five that count.
    assert [index for index, _ in ran] == 7 * list(range(6))


def test_more_rounds_while_the_budget_lasts(skip, ran):
    # A round reads the clock 13 times, and once more before it from the sixth on. Segments have
    # 600 ms: 14 * 43 - 4 are within, so there is a 44th, and 14 * 44 - 4 are not.
    measure(skip, budget_s=1.0, clock=Ticks())
    assert len(ran) == 6 * (2 + 44)


def test_given_inputs_flow_in_turn(skip, ran):
    samples = [{"image": np.full((1, 8, 8, 3), i, np.float32)} for i in range(3)]
    measure(skip, budget_s=1e-9, samples=samples)
    first = [live["image"][0, 0, 0, 0] for index, live in ran if index == 0]
    assert first == [0, 0, 0, 1, 2, 0, 1]
    second = [live["conv1"] for index, live in ran if index == 1]
    assert (second[4] == Runner(skip).run(samples[2], 0, 1)["conv1"]).all()


def test_progress_ends_at_its_total(skip):
    told = []
    measure(skip, budget_s=0.05, progress=lambda done, total: told.append((done, total)))
    done, totals = zip(*told)
    assert list(done) == sorted(done) and done[-1] == 100 and set(totals) == {100}
    assert done[-2] < 100


def test_the_bytes_are_of_what_is_sent(skip):
    sample = {"image": np.random.default_rng(3).random((1, 8, 8, 3), np.float32)}
    profile = measure(skip, budget_s=1e-9, samples=[sample])
    live = Runner(skip).run(sample, 0, 2)
    coder = Coder(clips=skip.clips, image=skip.manifest.image)
    payload = coder.encode([live["conv1"], live["conv2"]], skip.boundary(2), Rung.parse("q4"))
    assert coding(profile, 2, "q4").bytes == len(payload)


def test_pictures_only_of_the_input_and_two_plain_rungs_elsewhere(skip):
    assert [*rungs_that_matter(skip)][:6] == [
        (0, "jpeg85"), (0, "webp85"), (0, "q4"), (0, "raw"), (1, "q4"), (1, "raw")]
    profile = measure(skip, budget_s=1e-9)
    assert [(c.cut, c.rung) for c in profile.codings] == [*rungs_that_matter(skip)]
    assert max(c.cut for c in profile.codings) == 5, "nothing crosses behind the last op"


def test_calibrated_cuts_are_timed_at_two_qualities(tmp_path):
    (tmp_path / "m.tflite").write_bytes(tiny_models.skip_model())
    bundle = calibrate_roughly(tmp_path / "m.tflite", tmp_path / "c.split.tflite", 2, margin=0.5)
    profile = measure(bundle, budget_s=1e-9)
    assert [c.rung for c in profile.codings if c.cut == 2] == ["kl0.02", "kl0.08"]
    assert [c.rung for c in profile.codings if c.cut == 3] == ["q4", "raw"]
    fine, coarse = coding(profile, 2, "kl0.02"), coding(profile, 2, "kl0.08")
    assert fine.bytes > coarse.bytes > 0


@pytest.mark.parametrize("broken, error, left", [
    ("push_webp", KeyError("WEBP"), ["jpeg85"]), ("push_jpeg", ImportError(), ["webp85"]),
])
def test_a_format_that_pillow_lacks_is_left_out(skip, monkeypatch, broken, error, left):
    def fail(*_):
        raise error

    monkeypatch.setattr(pictures, broken, fail)
    profile = measure(skip, budget_s=1e-9)
    assert [c.rung for c in profile.codings if c.cut == 0] == [*left, "q4", "raw"]


@pytest.mark.parametrize("model", [
    tiny_models.wide_integer_model, tiny_models.int16_model, tiny_models.state_model,
])
def test_other_types_and_states_are_measured_too(make, model):
    bundle = make(model())
    profile = measure(bundle, budget_s=1e-9, threads=2)
    assert profile.matches(bundle) and profile.threads == 2
    assert {c.cut for c in profile.codings} == {c.cut for c in bundle.manifest.cuts[:-1]}


# -- what flows


def test_noise_is_like_a_picture_and_the_same_each_time(make):
    bundle = make(tiny_models.camera_model(), cuts=[1], image={"scale": 1 / 255, "offset": -0.5})
    first, second = ([i["image"] for i in plausible_inputs(bundle)] for _ in range(2))
    assert len(first) == 2 and (first[0] == second[0]).all() and (first[0] != first[1]).any()
    assert first[0].shape == (1, 64, 64, 3) and first[0].dtype == np.float32
    assert first[0].min() >= -0.5 and first[0].max() <= 0.5
    # Neighbours differ by little: colours from 0 to 255 are met over 16 pixels, under noise.
    assert 0.005 < np.abs(np.diff(first[0], axis=2)).mean() < 0.05
    assert first[0].std() > 0.15


def test_state_begins_as_before_the_first_frame(make):
    (inputs, _) = plausible_inputs(make(tiny_models.state_model()))
    assert not inputs["raw_inputs/init_sum"].any() and inputs["in/x"].any()


def test_pictures_and_arrays_are_inputs(skip, tmp_path):
    folder = tmp_path / "inputs"
    folder.mkdir()
    for i in range(20):
        Image.new("RGB", (16, 16), (12 * i, 0, 255)).save(folder / f"{i:02}.png")
    found = load_inputs(skip, folder)
    # Eight of twenty: 0, 2, 5, 7, 10, 12, 15, 17.
    image = skip.manifest.image
    reds = [round(float((a["image"][0, 4, 4, 0] - image.offset) / image.scale)) for a in found]
    assert reds == [0, 24, 60, 84, 120, 144, 180, 204]
    array = np.ones((1, 8, 8, 3), np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", image=2 * array)
    assert [load_inputs(skip, tmp_path / n)[0]["image"].max() for n in ("a.npy", "b.npz")] == [1, 2]


def test_inputs_that_do_not_fit_are_the_users_fault(skip, make, tmp_path):
    with pytest.raises(InputError, match="no inputs in"):
        load_inputs(skip, tmp_path / "nowhere")
    np.save(tmp_path / "a.npy", np.ones((1, 8, 8, 3), np.float64))
    with pytest.raises(InputError, match=r"is float64\[1, 8, 8, 3\], wanted float32"):
        load_inputs(skip, tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="b.npy"):
        load_inputs(skip, tmp_path / "b.npy")
    Image.new("RGB", (8, 8)).save(tmp_path / "c.png")
    with pytest.raises(InputError, match="is no picture"):
        load_inputs(make(tiny_models.int16_model()), tmp_path / "c.png")
    states = make(tiny_models.state_model())
    spec = states.specs["in/x"]
    np.savez(tmp_path / "d.npz", **{"in/x": np.ones(spec.shape, spec.np_dtype)})
    (inputs,) = load_inputs(states, tmp_path / "d.npz")
    assert not inputs["raw_inputs/init_sum"].any() and inputs["in/x"].all()
