"""The day's bytes over the frames that will still come."""

from __future__ import annotations

import pytest

from edge_agent.policies.bytes import ByteBudget
from tests.edge_agent.planner.making import state, view

NBYTES = [3000.0, 3000.0, 2000.0, 2000.0, 1000.0, 1000.0, 0.0]


def judged(**now):
    return ByteBudget().judge(view(state(**now), nbytes=NBYTES))


@pytest.mark.parametrize("budget_bytes, allowed", [(399_999.0, 3), (400_000.0, 5), (6e5, 7)])
def test_each_frame_gets_its_share(budget_bytes, allowed):
    # Two frames a second for 100 s.
    verdict = judged(budget_bytes=budget_bytes, budget_s=100.0, frame_rate=2.0)
    assert verdict.allowed.tolist() == [False] * (7 - allowed) + [True] * allowed
    assert verdict.excess.tolist() == NBYTES
    assert verdict.why == f"{budget_bytes / 200:.0f} bytes a frame are left"


@pytest.mark.parametrize("left", [0.0, -5e6])
def test_when_all_is_spent_only_the_device_is_left(left):
    assert judged(budget_bytes=left, budget_s=100.0).allowed.tolist() == [False] * 6 + [True]


@pytest.mark.parametrize("now", [{}, {"budget_bytes": 5.0}, {"budget_bytes": 5.0,
                                                             "budget_s": 0.0}])
def test_without_a_budget_there_is_no_limit(now):
    assert judged(**now) is None


def test_a_source_that_stands_still_has_one_frame_to_come():
    verdict = judged(budget_bytes=2500.0, budget_s=100.0, frame_rate=0.0)
    assert verdict.allowed.tolist() == [False, False] + [True] * 5


def test_it_is_a_demand_that_all_local_always_keeps():
    assert ByteBudget().hard
    assert judged(budget_bytes=-1e9, budget_s=1e-9).allowed[-1]
