"""The battery lasts: what is left over the time left is the power allowed."""

from __future__ import annotations

import pytest

from edge_agent.planner.state import Battery
from edge_agent.policies.energy import RESERVE_RATIO, EnergyBudget
from tests.edge_agent.planner.making import state, view

ENERGY_J = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.2]


def judged(battery: Battery, until_s: float | None, frame_rate: float = 2.0):
    now = state(battery=battery, until_s=until_s, frame_rate=frame_rate)
    return EnergyBudget().judge(view(now, energy_j=ENERGY_J))


def test_exactly_what_is_left_is_allowed():
    # 3 W of base and two frames a second: 3.6 W for 0.3 J. A tenth of an hour is 0.36 Wh.
    for more, allowed in ((1.001, 3), (0.999, 2)):
        left_wh = more * 0.36 / (1 - RESERVE_RATIO)
        verdict = judged(Battery(left_wh, False), 360.0)
        assert verdict.allowed.tolist() == [True] * allowed + [False] * (7 - allowed)
        assert verdict.excess == pytest.approx([2 * j for j in ENERGY_J]), (
            "of those that exceed it the base load is nobody's choice")
    assert "Wh for 0.1 h is 3.6 W" in verdict.why


def test_an_equal_is_no_more_than_is_left():
    # In numbers that a float has exactly: no reserve to divide by.
    now = state(battery=Battery(1.0), until_s=3600 * (1 - RESERVE_RATIO) / 4.0, frame_rate=2.0)
    verdict = EnergyBudget().judge(view(now, energy_j=[0.5 - 1e-9, 0.5 + 1e-9, *ENERGY_J[2:]]))
    assert verdict.allowed.tolist()[:2] == [True, False]


def test_on_the_mains_there_is_no_limit():
    assert judged(Battery(0.001, True), 36_000.0) is None
    assert judged(Battery(None, True), 36_000.0) is None


@pytest.mark.parametrize("until_s", [None, 0.0, -5.0])
def test_nor_without_an_hour_to_last_until(until_s):
    assert judged(Battery(0.001, False), until_s) is None


@pytest.mark.parametrize("mains", [None, False])
def test_an_unknown_battery_is_not_full(mains):
    verdict = judged(Battery(None, mains), 360.0)
    assert not verdict.allowed.any() and verdict.why == "battery unknown"
    assert verdict.excess.argmin() == 0, "the least hungry is the nearest"


def test_mains_that_nobody_reports_are_none():
    assert judged(Battery(0.36, None), 360.0) is not None


def test_an_empty_battery_allows_nothing():
    assert not judged(Battery(0.0, False), 360.0).allowed.any()


def test_fewer_frames_leave_more_for_each():
    left = Battery(0.36 / (1 - RESERVE_RATIO), False)
    assert judged(left, 360.0, frame_rate=0.1).allowed.all()
    assert judged(left, 360.0, frame_rate=100.0).allowed.sum() == 0


def test_it_is_no_demand_but_a_wish():
    assert not EnergyBudget().hard
