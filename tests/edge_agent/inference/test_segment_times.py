"""Predicted run times: careful, quick to believe the worse."""

from __future__ import annotations

import random

import pytest

from edge_agent.inference.segment_times import SegmentTimes


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


# -- a profile, and a board that slows down as a whole

PROFILE_S = (0.1, 0.2, 0.3)


def profiled() -> SegmentTimes:
    return SegmentTimes(3, PROFILE_S)


def means(times: SegmentTimes) -> list[float]:
    return [times.mean_s(i) for i in range(3)]


def test_before_the_first_run_a_profile_is_the_belief():
    times = profiled()
    assert means(times) == pytest.approx(PROFILE_S) == [times.one_s(i) for i in range(3)]
    assert (times.span_s(0, 3), times.slow_down, len(times)) == (pytest.approx(0.6), 1.0, 3)


def test_a_run_moves_the_common_factor_by_its_share_of_the_model():
    times = profiled()
    times.add(0, 0.2)                 # twice as slow, and a sixth of the model
    assert times.slow_down == pytest.approx(1 + 1 / 6)
    # Half believed at once of itself, and the factor of the others.
    assert means(times) == pytest.approx([0.15, 0.2 * 7 / 6, 0.3 * 7 / 6])
    times.add(2, 0.6)                 # half of the model, but no more than three tenths
    assert times.slow_down == pytest.approx(7 / 6 + 0.3 * (2 - 7 / 6))


def test_what_slows_down_the_head_slows_down_the_tail_that_never_runs():
    times = profiled()
    for _ in range(60):
        times.add(0, 0.25)
    assert times.slow_down == pytest.approx(2.5, rel=0.01)
    assert means(times) == pytest.approx([0.25, 0.5, 0.75], rel=0.01)
    assert times.span_s(1, 3) == pytest.approx(1.25, rel=0.01)
    assert times.longest_s() == pytest.approx(0.75, rel=0.01)


def test_and_recovers_with_it():
    times = profiled()
    for seconds in (0.25, 0.1):
        for _ in range(100):
            times.add(0, seconds)
    assert times.slow_down == pytest.approx(1.0, rel=0.01)
    assert means(times) == pytest.approx(PROFILE_S, rel=0.01)


def test_where_all_run_the_factor_counts_once():
    times = profiled()
    for _ in range(100):
        for segment, seconds in enumerate(PROFILE_S):
            times.add(segment, 2 * seconds)
    assert means(times) == pytest.approx([0.2, 0.4, 0.6], rel=0.01)


def test_one_that_ran_before_the_board_slowed_down_is_moved_by_what_came_since():
    times = profiled()
    for _ in range(100):
        times.add(2, 0.45)            # half again as slow as its profile, then it rests
    for _ in range(100):
        times.add(0, 0.3)             # three times: twice as slow as then
    assert times.mean_s(2) == pytest.approx(0.9, rel=0.01)


def test_an_odd_run_is_no_clock_speed():
    slow, fast = profiled(), profiled()
    slow.add(1, 1e6)
    fast.add(1, 0.0)
    assert slow.slow_down == pytest.approx(1 + 0.3 * 19), "twenty times at the most"
    assert fast.slow_down == pytest.approx(1 - 0.3 * 0.8), "and a fifth at the least"


def test_without_a_profile_the_first_run_is_the_baseline():
    times = SegmentTimes(2)
    times.add(0, 0.1)
    assert (times.slow_down, times.mean_s(0), times.mean_s(1)) == (1.0, 0.1, 0.0)
    for _ in range(100):
        times.add(0, 0.2)
    times.add(1, 0.4)                 # at a factor of two: 0.2 of its own
    for _ in range(100):
        times.add(0, 0.1)
    assert times.mean_s(1) == pytest.approx(0.2, rel=0.02)


def test_a_profile_of_nothing_does_not_divide():
    times = SegmentTimes(2, (0.0, 0.1))
    times.add(0, 0.01)
    assert times.slow_down == 1.0 and times.mean_s(1) == pytest.approx(0.1)


def test_what_a_throttled_board_takes_is_believed_and_not_kept():
    times = SegmentTimes(2, [0.1, 0.2])
    for _ in range(100):
        times.add(0, 0.12)
        times.add(1, 0.24)
    times.judge(throttled=False)
    for _ in range(100):
        times.add(0, 0.3)
        times.add(1, 0.6)
    times.judge(throttled=True)
    assert [times.mean_s(i) for i in range(2)] == pytest.approx([0.3, 0.6], rel=0.01)
    assert [times.kept_s(i) for i in range(2)] == pytest.approx([0.12, 0.24], rel=0.01)
    # It has cooled: beliefs are slow for a while, what is kept goes on from where it was.
    times.add(0, 0.12)
    times.judge(throttled=False)
    assert times.mean_s(0) > 0.2 and times.kept_s(0) == pytest.approx(0.12, rel=0.01)


def test_runs_wait_for_a_judgement():
    times = SegmentTimes(1, [0.1])
    times.judge(throttled=False)
    for _ in range(100):
        times.add(0, 0.3)
    assert times.mean_s(0) == pytest.approx(0.3, rel=0.01) and times.kept_s(0) == 0.1
    times.judge(throttled=False)
    assert times.kept_s(0) == times.mean_s(0)


def test_where_nobody_tells_what_is_believed_is_kept():
    times = SegmentTimes(2, [0.1, 0.2])
    for _ in range(9):
        times.add(0, 0.15)
    assert [times.kept_s(i) for i in range(2)] == [times.mean_s(i) for i in range(2)]
