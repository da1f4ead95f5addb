"""The step of one frame, worked out on a curve of octaves: an octave is half of the bytes."""

from __future__ import annotations

import random

import pytest

from edge_agent.control.step import StepBelief, StepRange
from edge_agent.frames import Plan
from split_core.wire.rungs import Rung
from tests.edge_agent.planner.making import JPEG, paper_bundle

# 80 % of the time that is left, less 200 ms, at 10 kB/s.
BELIEF = StepBelief(s_per_byte=1e-4, fixed_s=0.2)
NOTHING = 0, 0.0                      # waits


def steps(rung: str = "kl0.02", coarsest: str | None = "kl0.08", cut: int = 1) -> StepRange | None:
    return StepRange.of(Plan(1, cut, Rung.parse(rung), coarsest=coarsest and Rung.parse(coarsest)),
                        paper_bundle(pictures=JPEG))


def left_for(nbytes: float) -> float:
    """The time that so many bytes need."""
    return (nbytes * 1e-4 + 0.2) / 0.8


def test_the_bounds_are_the_plans():
    assert (steps().best, steps().coarsest, steps().best_bytes) == (32, 64, pytest.approx(2000))
    assert (steps("kl0.005", "kl0.02").best, steps("kl0.005", "kl0.02").coarsest) == (0, 32)
    by_size = steps("b4000", "b2000")
    assert (by_size.best, by_size.coarsest) == (0, 32)


@pytest.mark.parametrize("plan", [
    {"coarsest": None}, {"rung": "kl0.02", "cut": 2}, {"rung": "jpeg70", "coarsest": None,
                                                       "cut": 0},
    {"rung": "webp70", "coarsest": "webp50", "cut": 0}])
def test_there_is_nothing_to_choose_without_a_range_or_a_curve(plan):
    assert steps(**plan) is None


@pytest.mark.parametrize("nbytes, index", [
    (1e6, 32), (2001, 32),            # as asked
    (1999, 33), (1415, 48), (1413, 49), (1050, 62),   # half an octave is 1414 bytes
    (1000.5, 64), (900, 64), (1, 64)])
def test_as_fine_as_fits(nbytes, index):
    assert steps().choose(left_for(nbytes), NOTHING, BELIEF) == index


@pytest.mark.parametrize("left_s", [0.25, 0.2, 0.0, -5.0])
def test_no_time_is_the_coarsest(left_s):
    assert steps().choose(left_s, NOTHING, BELIEF) == 64


def test_what_waits_goes_first():
    assert steps().choose(left_for(5000), (2900, 0.0), BELIEF) == 32
    assert steps().choose(left_for(5000), (3585, 0.0), BELIEF) == 48
    assert steps().choose(left_for(5000), (5000, 0.0), BELIEF) == 64
    assert steps().choose(left_for(5000), (10**9, 0.0), BELIEF) == 64


def test_but_not_what_the_link_has_carried_meanwhile():
    # 2000 of 3000 bytes in 200 ms, or more than all of them.
    assert steps().choose(left_for(2415), (3000, 0.2), BELIEF) == 48
    assert steps().choose(left_for(2415), (3000, 0.0), BELIEF) == 64
    assert steps().choose(left_for(1415), (3000, 9.0), BELIEF) == 48, "and never less than none"


@pytest.mark.parametrize("nbytes, quality", [
    (1e6, 70), (2001, 70), (1415, 60), (1413, 59), (1001, 50), (500, 50), (-1, 50)])
def test_of_a_picture_less_is_coarser(nbytes, quality):
    assert steps("jpeg70", "jpeg50", 0).choose(left_for(nbytes), NOTHING, BELIEF) == quality


@pytest.mark.parametrize("_", range(20))
@pytest.mark.parametrize("picture", [False, True])
def test_never_beyond_the_bounds_and_less_time_is_never_finer(picture, _):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    which = ("jpeg85", "jpeg55", 0) if picture else ("kl0.01", "kl0.07", 1)
    found = steps(*which)
    belief = StepBelief(10 ** rng.uniform(-7, -2), rng.uniform(0, 0.5))
    waiting = rng.choice((0, rng.randint(0, 10**5))), rng.uniform(0, 2)
    chosen = [found.choose(left_s, waiting, belief)
              for left_s in sorted(rng.uniform(-1, 10) for _ in range(200))]
    finer = chosen if picture else [-c for c in chosen]
    assert finer == sorted(finer)
    low, high = sorted((found.best, found.coarsest))
    assert low <= min(chosen) and max(chosen) <= high and low < high
