"""Predicted run times: careful, quick to believe the worse."""

from __future__ import annotations

import random

import pytest

from edge_agent.segment_times import SegmentTimes


def after(*seconds: float) -> float:
    times = SegmentTimes(1)
    for s in seconds:
        times.add(0, s)
    return times.one_s(0)


def test_nothing_is_known_before_the_first_run():
    times = SegmentTimes(3)
    assert (times.one_s(1), times.span_s(0, 3), times.longest_s()) == (0.0, 0.0, 0.0)
    assert SegmentTimes(0).longest_s() == 0.0


def test_the_first_run_is_the_belief():
    assert after(0.010) == pytest.approx(0.010)
    assert after(0.010, 0.010) == pytest.approx(0.010)


def test_slower_is_half_believed_at_once():
    # Mean 10 -> 15 ms, mean deviation 0 -> 1 ms, and three of those on top.
    assert after(0.010, 0.020) == pytest.approx(0.015 + 3 * 0.001)


def test_faster_is_believed_over_many():
    # Mean 10 -> 9.5 ms, deviation 0.5 ms.
    assert after(0.010, 0.005) == pytest.approx(0.0095 + 3 * 0.0005)
    assert after(0.010, *[0.005] * 100) == pytest.approx(0.005, rel=0.01)


def test_a_wobble_within_three_deviations_moves_the_mean_by_a_tenth():
    # After 10, 20: mean 15, deviation 1. Then 17: within 3 deviations, mean 15.2, deviation 1.1.
    assert after(0.010, 0.020, 0.017) == pytest.approx(0.0152 + 3 * 0.0011)


def test_a_throttled_board_is_believed_within_a_few_frames():
    assert after(*[0.010] * 50, *[0.020] * 4) > 0.019


def test_nearly_all_runs_stay_below_the_estimate():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    times, over = SegmentTimes(1), 0
    for i in range(2000):
        run_s = 0.010 + rng.expovariate(1 / 0.001)
        over += i > 20 and run_s > times.one_s(0)
        times.add(0, run_s)
    assert over < 0.05 * 2000


def test_spans_add_up_and_the_longest_is_found():
    times = SegmentTimes(3)
    for i, s in enumerate((0.001, 0.004, 0.002)):
        times.add(i, s)
    assert times.span_s(0, 3) == pytest.approx(0.007)
    assert times.span_s(1, 2) == pytest.approx(0.004)
    assert times.span_s(2, 2) == 0.0
    assert times.longest_s() == pytest.approx(0.004)
