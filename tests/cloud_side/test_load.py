"""What a worker says of its load and when, with numbers worked out by hand."""

from __future__ import annotations

import pytest

from cloud_side.load import LEAST_INTERVAL_S, MOST_INTERVAL_S, WINDOW_S, LoadReport
from split_core.wire.records import WorkerLoad


def steady(report: LoadReport, queue_s: float, busy: float, begin_s: float, end_s: float,
           rtt_s: float = 0.0) -> list[tuple[float, WorkerLoad]]:
    """A sample a second; what was said, and when."""
    said, now_s = [], begin_s
    while now_s < end_s:
        report.add(queue_s, busy * now_s, now_s)
        load = report.due(rtt_s, now_s)
        if load is not None:
            said.append((now_s, load))
        now_s += 1.0
    return said


def test_before_the_first_sample_there_is_nothing_to_say():
    assert LoadReport().due(0.0, 100.0) is None


def test_the_first_sample_is_said_at_once():
    report = LoadReport()
    report.add(0.25, 7.0, 100.0)
    # One sample tells of a wait, but of no time.
    assert report.due(0.0123, 100.0) == WorkerLoad(0.25, 0.0, 0.0123)


def test_the_load_is_that_of_the_last_seconds():
    report = LoadReport()
    # 1 s of work in the first two of the last four seconds, 0.6 s since then; what is older than
    # the window has no part.
    for at_s, queue_s, busy_s in ((0.0, 9.0, 0.0), (8.0, 0.1, 3.0), (10.0, 0.2, 4.0),
                                  (12.0, 0.6, 4.6)):
        report.add(queue_s, busy_s, at_s)
    assert WINDOW_S == 4.0
    load = report.due(0.0, 12.0)
    assert load.queue_s == pytest.approx((0.1 + 0.2 + 0.6) / 3)
    assert load.busy_ratio == pytest.approx(1.6 / 4)


def test_what_is_said_is_short():
    report = LoadReport()
    report.add(0.0, 0.0, 0.0)
    report.add(0.1 / 3, 1 / 3, 1.0)
    assert report.due(1 / 3, 1.0) == WorkerLoad(0.0167, 0.33, 0.3333)


def test_a_load_that_does_not_change_is_said_from_time_to_time():
    said = steady(LoadReport(), 0.02, 0.5, 0.0, 61.0)
    # At 0 of one sample, which knows no ratio; at 2 that it is half; then as time goes by.
    assert [at_s for at_s, _ in said] == [0.0, 2.0, 32.0]
    assert LEAST_INTERVAL_S == 2.0 and MOST_INTERVAL_S == 30.0


def test_a_load_that_changes_is_said_but_not_more_often_than_that():
    report = LoadReport()
    steady(report, 0.0, 0.0, 0.0, 10.0)
    said = steady(report, 0.1, 0.0, 10.0, 20.0)
    # Means of 5 samples: 0.02 at 10, 0.06 at 12, 0.1 from 14 on, each more than half as much
    # again.
    assert said == [(10.0, WorkerLoad(0.02, 0.0)), (12.0, WorkerLoad(0.06, 0.0)),
                    (14.0, WorkerLoad(0.1, 0.0))]


@pytest.mark.parametrize("before, after, told", [
    ((0.010, 0.5, 0.02), (0.0149, 0.5, 0.02), False),
    ((0.010, 0.5, 0.02), (0.016, 0.5, 0.02), True),
    ((0.016, 0.5, 0.02), (0.010, 0.5, 0.02), True),
    ((0.100, 0.5, 0.02), (0.149, 0.5, 0.02), False), ((0.100, 0.5, 0.02), (0.151, 0.5, 0.02), True),
    ((0.0, 0.5, 0.02), (0.0049, 0.5, 0.02), False), ((0.0, 0.5, 0.02), (0.006, 0.5, 0.02), True),
    ((0.01, 0.50, 0.02), (0.01, 0.59, 0.02), False), ((0.01, 0.50, 0.02), (0.01, 0.39, 0.02), True),
    ((0.01, 0.5, 0.02), (0.01, 0.5, 0.029), False), ((0.01, 0.5, 0.02), (0.01, 0.5, 0.031), True),
])
def test_what_is_worth_saying(before, after, told):
    report = LoadReport()
    for (queue_s, busy, rtt_s), begin_s in ((before, 0.0), (after, 100.0)):
        # Longer apart than the window, and both ends of each in it.
        report.add(queue_s, begin_s * 10, begin_s)
        report.add(queue_s, begin_s * 10 + 3 * busy, begin_s + 3)
        if begin_s == 0.0:
            assert report.due(rtt_s, begin_s + 3) is not None
            report._said_s = 90.0
    assert (report.due(after[2], 103.0) is not None) == told


def test_after_another_connection_all_is_said_again():
    report = LoadReport()
    report.add(0.0, 0.0, 0.0)
    assert report.due(0.0, 0.0) is not None
    report.add(0.0, 0.0, 0.3)
    assert report.due(0.0, 0.3) is None
    report.renew()
    assert report.due(0.0, 0.3) is not None


def test_a_process_that_was_halted_says_what_it_knows():
    report = LoadReport()
    report.add(0.5, 1.0, 0.0)
    report.add(0.0, 1.0, 1000.0)
    assert report.due(0.0, 1000.0) == WorkerLoad(0.0, 0.0, 0.0)
