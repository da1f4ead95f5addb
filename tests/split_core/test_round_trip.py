"""The least round trip of two windows."""

from __future__ import annotations

import pytest

from split_core.cost.round_trip import PRIOR_S, WINDOW_S, LeastRoundTrip


@pytest.fixture
def rtt() -> LeastRoundTrip:
    return LeastRoundTrip()


def test_a_stated_guess_until_the_first(rtt):
    assert (rtt.known, rtt.least_s) == (False, PRIOR_S)
    assert LeastRoundTrip(0.2).least_s == 0.2
    rtt.add(0.5, 0.0)
    assert (rtt.known, rtt.least_s) == (True, 0.5), "a slow path is no faster than it was seen"


def test_the_least_counts_and_a_shorter_path_at_once(rtt):
    for seconds in (0.3, 0.1, 0.2):
        rtt.add(seconds, 1.0)
    assert rtt.least_s == 0.1
    rtt.add(0.01, 1.1)
    assert rtt.least_s == 0.01


def test_a_longer_path_is_believed_after_two_windows_and_not_before(rtt):
    rtt.add(0.1, 0.0)
    rtt.add(0.4, WINDOW_S)                        # the same window still
    rtt.add(0.4, WINDOW_S + 1)                    # the second one
    rtt.add(0.4, 2 * WINDOW_S + 1)
    assert rtt.least_s == 0.1
    rtt.add(0.4, 2 * WINDOW_S + 1.1)              # the third: the first is forgotten
    assert rtt.least_s == 0.4


def test_a_first_measurement_late_in_life_begins_a_window(rtt):
    rtt.add(0.2, 1e6)
    rtt.add(0.3, 1e6 + WINDOW_S)
    assert rtt.least_s == 0.2


def test_a_quiet_hour_leaves_the_last_window(rtt):
    rtt.add(0.2, 0.0)
    rtt.add(0.3, 3600.0)
    assert rtt.least_s == 0.2
    rtt.add(0.3, 3600.0 + WINDOW_S + 1)
    assert rtt.least_s == 0.3


def test_another_connection_is_another_path(rtt):
    rtt.add(0.01, 0.0)
    rtt.reset()
    assert (rtt.known, rtt.least_s) == (False, PRIOR_S)
    rtt.add(0.4, 1.0)
    assert rtt.least_s == 0.4


def test_a_clock_that_jumped_gives_no_negative_time(rtt):
    rtt.add(-0.1, 0.0)
    assert rtt.least_s == 0.0
