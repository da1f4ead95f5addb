"""What could be done: options of a bundle, and candidates of options."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.planner.candidates import LOCAL, Option, candidates_of, options_of
from split_core.model.bundle import open_bundle
from split_core.model.manifest import PictureRate
from split_lab.split import split_model
from tests.edge_agent.planner.making import HERE, JPEG, OPTIONS, RATE, paper_bundle
from tests.support import tiny_models

RAW_INPUT, RAW_LATE = Option(0, 0, "raw", None, 0.0, 0.0), Option(2, 2, "raw", None, 0.0, 0.0)
Q4_LATE = Option(2, 2, "q4", None, None, None)
GOOD_JPEG = Option(0, 0, "jpeg90", None, None, None)


def test_a_calibrated_cut_is_asked_for_a_divergence_and_others_are_quantized():
    found = options_of(paper_bundle(), 0.02, 0.08)
    middle = Option(1, 1, "kl0.02", "kl0.08", pytest.approx(0.02), pytest.approx(0.08))
    assert found == (GOOD_JPEG, RAW_INPUT, middle, Q4_LATE, RAW_LATE, HERE)


def test_where_no_more_is_tolerated_than_asked_the_step_has_no_range():
    middle = next(o for o in options_of(paper_bundle(), 0.02, 0.02) if o.cut == 1)
    assert (middle.rung, middle.coarsest) == ("kl0.02", None)
    assert middle.kl == middle.coarsest_kl == pytest.approx(0.02)


@pytest.mark.parametrize("kl, max_kl, there", [(0.001, 0.004, False), (0.001, 0.005001, True)])
def test_a_cut_whose_finest_step_is_worse_than_tolerated_is_none(kl, max_kl, there):
    found = options_of(paper_bundle(), kl, max_kl)
    assert any(o.cut == 1 for o in found) is there


def test_without_tables_every_cut_is_quantized_or_raw():
    found = options_of(paper_bundle(rate=(), image=False), 0.02, 0.05)
    assert [(o.cut, o.rung) for o in found] == [
        (0, "q4"), (0, "raw"), (1, "q4"), (1, "raw"), (2, "q4"), (2, "raw"), (3, "raw")]
    assert all((o.kl == 0.0) == (o.rung == "raw") for o in found)
    assert [o.segment for o in found] == [0, 0, 1, 1, 2, 2, 3]


# -- pictures


def pictures(kl: float, max_kl: float, curve: tuple[PictureRate, ...] = JPEG) -> list[Option]:
    found = options_of(paper_bundle(pictures=curve), kl, max_kl)
    return [o for o in found if o.rung.startswith(("jpeg", "webp"))]


def test_a_picture_is_of_the_smallest_quality_that_is_good_enough():
    assert pictures(0.02, 0.08) == [Option(0, 0, "jpeg70", "jpeg50", pytest.approx(0.02),
                                           pytest.approx(0.08))]
    assert pictures(0.02, 0.02) == [Option(0, 0, "jpeg70", None, pytest.approx(0.02),
                                           pytest.approx(0.02))]


def test_one_that_cannot_be_as_good_as_asked_is_as_good_as_tolerated():
    assert pictures(0.001, 0.02) == [Option(0, 0, "jpeg70", None, pytest.approx(0.02),
                                            pytest.approx(0.02))]


def test_one_that_is_never_tolerable_is_none():
    assert pictures(0.001, 0.004) == []


def test_each_format_that_was_measured_is_one():
    both = JPEG + (PictureRate("webp", 40, 0.01, 900.0), PictureRate("webp", 80, 0.001, 2500.0))
    assert [o.rung for o in pictures(0.02, 0.08, both)] == ["jpeg70", "webp40"]
    assert [o.rung for o in pictures(0.02, 0.08, both[3:])] == ["jpeg90", "webp40"], (
        "of an unmeasured format one that people call good")


def test_a_picture_of_unknown_quality_says_so():
    assert pictures(0.02, 0.08, ()) == [GOOD_JPEG]


# -- real bundles


def bundle_of(folder, model: bytes, cuts):
    (folder / "m.tflite").write_bytes(model)
    (folder / "m.split.tflite").write_bytes(split_model(folder / "m.tflite", cuts=cuts))
    return open_bundle(folder / "m.split.tflite")


def test_a_model_without_a_picture_sends_its_input_as_it_is(tmp_path):
    found = options_of(bundle_of(tmp_path, tiny_models.state_model(), "all"), 0.02, 0.05)
    assert [(o.cut, o.rung) for o in found[:2]] == [(0, "q4"), (0, "raw")]
    assert found[-1] == Option(3, 3, "raw", None, 0.0, 0.0)


def test_a_bundle_of_one_segment_still_has_its_input_and_the_device(tmp_path):
    bundle = bundle_of(tmp_path, tiny_models.skip_model(), [])
    assert len(bundle.manifest.segments) == 1
    found = options_of(bundle, 0.02, 0.05)
    assert {o.cut for o in found[:-1]} == {0}
    assert found[-1] == Option(6, 1, "raw", None, 0.0, 0.0)
    for option in found:
        bundle.cut(option.cut)        # raises for one that is not there


def test_all_options_differ():
    found = options_of(paper_bundle(pictures=JPEG), 0.02, 0.05)
    assert len({(o.cut, o.rung) for o in found}) == len(found)
    assert RATE[0].kl < 0.02


# -- candidates


@pytest.mark.parametrize("workers", [0, 1, 2, 16])
def test_every_option_at_every_worker_raced_or_not_and_all_local_once(workers):
    names = tuple(f"w{i}" for i in range(workers))
    c = candidates_of(OPTIONS, names)
    assert len(c) == workers * 3 * 2 + 1
    assert np.count_nonzero(c.local) == 1 and c.local[-1] and not c.race[-1]
    assert len(set(zip(c.option.tolist(), c.worker.tolist(), c.race.tolist()))) == len(c)
    assert c.cut.tolist() == [OPTIONS[i].cut for i in c.option]
    assert c.segment.tolist() == [OPTIONS[i].segment for i in c.option]
    assert set(c.worker.tolist()) == {LOCAL, *range(workers)}


def test_candidates_are_called_by_what_they_do():
    c = candidates_of(OPTIONS, ("w",))
    assert [c.describe(i) for i in (2, 3, 6)] == [
        "cut 1 kl0.02 at w", "cut 1 kl0.02 at w, raced", "all local"]
