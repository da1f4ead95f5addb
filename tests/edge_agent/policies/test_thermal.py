"""The hotter the board, the smaller the share of time it may compute."""

from __future__ import annotations

import pytest

from edge_agent.policies.thermal import Thermal
from tests.edge_agent.planner.making import state, view

CPU_S = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 5.0]


def judged(frame_rate: float = 1.0, **now):
    return Thermal(70.0, 80.0).judge(view(state(frame_rate=frame_rate, **now), cpu_s=CPU_S))


@pytest.mark.parametrize("temperature_c, allowed", [
    (70.0, 7), (74.9, 5), (75.1, 4), (77.9, 2), (80.0, 0), (95.0, 0)])
def test_the_duty_falls_from_all_to_nothing(temperature_c, allowed):
    # At 75 degrees half of the time may be spent; the last computes all of it.
    verdict = judged(temperature_c=temperature_c)
    assert verdict.allowed.tolist() == [True] * allowed + [False] * (7 - allowed)
    assert verdict.excess == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0])


def test_more_frames_are_more_duty():
    assert judged(frame_rate=3.0, temperature_c=75.1).allowed.sum() == 1
    assert judged(frame_rate=3.0, temperature_c=75.1).excess.max() == 1.0
    assert judged(frame_rate=0.01, temperature_c=75.1).allowed.all()


@pytest.mark.parametrize("now", [{}, {"temperature_c": 69.9}, {"throttled": False},
                                 {"temperature_c": 20.0, "throttled": False}])
def test_cool_or_unknown_is_no_limit(now):
    assert judged(**now) is None


@pytest.mark.parametrize("temperature_c", [None, 20.0, 90.0])
def test_a_board_that_throttles_does_the_least_it_can(temperature_c):
    verdict = judged(temperature_c=temperature_c, throttled=True)
    assert not verdict.allowed.any() and verdict.excess.argmin() == 0
    assert verdict.why == "the board throttles"


def test_it_is_no_demand_but_a_wish():
    assert not Thermal().hard
