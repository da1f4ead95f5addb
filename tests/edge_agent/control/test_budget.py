"""A day's bytes."""

from __future__ import annotations

import pytest

from edge_agent.control.budget import DAY_S, DailyBytes, seconds_until

NOON = 20_000 * DAY_S + DAY_S / 2


def test_what_is_left_and_for_how_long():
    budget = DailyBytes(1000.0)
    assert budget.left(NOON) == (1000.0, DAY_S / 2)
    budget.add(300, NOON)
    budget.add(200, NOON + 3600)
    assert budget.left(NOON + 3600) == (500.0, DAY_S / 2 - 3600)
    budget.add(700, NOON + 7200)
    assert budget.left(NOON + 7200)[0] == -200.0, "overspent is known"


def test_a_new_day_begins_at_nothing():
    budget = DailyBytes(1000.0)
    budget.add(900, NOON)
    midnight = NOON + DAY_S / 2
    assert budget.left(midnight - 1) == (100.0, 1.0)
    assert budget.left(midnight) == (1000.0, DAY_S)
    budget.add(5, midnight + 1)
    assert (budget.day, budget.used) == (20_001, 5)


def test_what_is_sent_after_midnight_is_the_new_days():
    budget = DailyBytes(1000.0)
    budget.add(900, NOON)
    budget.add(50, NOON + DAY_S)
    assert budget.left(NOON + DAY_S)[0] == 950.0


@pytest.mark.parametrize("later_s, left", [(60.0, 100.0), (DAY_S, 1000.0)])
def test_a_restart_on_the_same_day_forgets_nothing(later_s, left):
    before = DailyBytes(1000.0)
    before.add(900, NOON)
    after = DailyBytes(1000.0, before.day, before.used)
    assert after.left(NOON + later_s)[0] == left


@pytest.mark.parametrize("minutes, wall_s, wait_s", [
    (18 * 60, NOON, 6 * 3600), (6 * 60, NOON, 18 * 3600), (12 * 60, NOON, 0.0),
    (12 * 60, NOON + 1, DAY_S - 1), (0, NOON, DAY_S / 2), (1439, 0.0, DAY_S - 60)])
def test_until_the_next_time_of_day(minutes, wall_s, wait_s):
    assert seconds_until(minutes, wall_s) == wait_s


def test_a_clock_that_is_put_right_gives_no_budget_back():
    budget = DailyBytes(1000.0, day=20, used=900)
    # Started on yesterday, as a board without a clock does; then the time service came.
    assert budget.left(19 * DAY_S + 5.0)[0] == 100.0
    budget.add(50, 20 * DAY_S)
    assert budget.left(20 * DAY_S + 1.0)[0] == 50.0
    # A clock that was years ahead once must not keep the budget spent for years.
    ahead = DailyBytes(1000.0, day=29_000, used=900)
    assert ahead.left(20_600 * DAY_S)[0] == 1000.0


def test_a_clock_that_was_never_set_gives_no_budget_back_either():
    """A board without one begins in 1970, or when its systemd was built."""
    for first_day in (0, 20_300):
        budget = DailyBytes(1000.0, day=20_800, used=900)
        assert budget.left(first_day * DAY_S + 30.0)[0] == 100.0
        budget.add(50, first_day * DAY_S + 40.0)
        assert budget.left(20_800 * DAY_S)[0] == 50.0
