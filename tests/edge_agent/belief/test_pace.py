"""Frames a second."""

from __future__ import annotations

import pytest

from edge_agent.belief.pace import Pace


def paced(period_s: float, count: int, first_s: float = 0.0) -> Pace:
    pace = Pace()
    for i in range(count):
        pace.add(first_s + i * period_s)
    return pace


def test_none_yet():
    assert Pace().rate(0.0) == 0.0


def test_one_is_one_a_minute():
    assert paced(1.0, 1).rate(0.0) == pytest.approx(1 / 60)


@pytest.mark.parametrize("period_s", [0.02, 0.25, 2.0])
def test_a_steady_source(period_s):
    pace = paced(period_s, 100, first_s=1000.0)
    last_s = 1000.0 + 99 * period_s
    assert pace.rate(last_s) == pytest.approx(1 / period_s)
    assert pace.rate(last_s + period_s) == pytest.approx(1 / period_s), "when the next is due"


def test_a_change_is_known_after_twenty_frames():
    pace = paced(1.0, 50)
    for i in range(20):
        pace.add(49.0 + 0.1 * (i + 1))
    assert pace.rate(51.0) == pytest.approx(10.0)


def test_a_source_that_stops_slows_down_and_ends_at_nothing():
    pace = paced(0.1, 20)             # the last at 1.9
    assert pace.rate(1.9) == pytest.approx(10.0)
    # 20 frames in 4 s and then nothing is 5 a second at the most.
    assert pace.rate(4.0) == pytest.approx(5.0)
    rates = [pace.rate(2.0 + t) for t in range(70)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0.0


def test_when_the_next_may_come():
    pace = paced(0.5, 20)             # the last at 9.5
    assert [pace.next_in_s(t) for t in (9.5, 9.8, 10.0)] == pytest.approx([0.5, 0.2, 0.0])
    assert pace.next_in_s(10.2) < 0.1, "overdue: any moment"
    assert Pace().next_in_s(5.0) == 0.0


def test_many_at_one_moment_do_not_divide_by_nothing():
    assert paced(0.0, 20).rate(0.0) == pytest.approx(19 / 1e-3)
