"""Which frames a worker takes, with numbers worked out by hand."""

from __future__ import annotations

import pytest

from cloud_side.admission import Admission, Job
from split_core.wire.messages import Codec, Frame, Reason

BUNDLE, OTHER = b"a" * 32, b"b" * 32


def job(frame_id: int = 1, *, first_s: float = 10.0, budget_s: float = 1.0, cut: int = 3,
        bundle: bytes = BUNDLE) -> Job:
    frame = Frame(bundle, 1, frame_id, 1, round(budget_s * 1e6), cut, Codec.RAW, 1, b"")
    return Job("device", frame, first_s, first_s)


@pytest.fixture
def admission() -> Admission:
    return Admission(max_queue=4)


def test_the_budget_runs_from_the_first_chunk():
    assert job(first_s=10.0, budget_s=0.25).deadline_s == pytest.approx(10.25)


def test_oldest_first(admission):
    for i in (1, 2, 3):
        assert admission.offer(job(i), 10.0) is None
    assert len(admission) == 3
    assert [admission.take(10.0)[0].frame.frame_id for _ in range(3)] == [1, 2, 3]
    assert admission.take(10.0) == (None, [])


def test_a_frame_that_is_late_already_is_turned_away(admission):
    assert admission.offer(job(budget_s=1.0), 11.0) is None
    turned = admission.offer(job(budget_s=1.0), 11.001)
    assert (turned.reason, turned.retry_after_s) == (Reason.EXPIRED, 0.0)


def test_service_times_are_a_mean_of_about_the_last_eight(admission):
    admission.on_served(job(), 0.1)
    admission.offer(job(), 10.0)
    assert admission.wait_s(10.0) == pytest.approx(0.1)
    admission.on_served(job(), 0.2)   # 0.1 + a fifth of the rest
    assert admission.wait_s(10.0) == pytest.approx(0.12)


def test_bundles_and_cuts_are_timed_apart(admission):
    admission.on_served(job(), 0.1)
    admission.on_served(job(cut=5), 0.3)
    for waiting in (job(), job(cut=5), job(bundle=OTHER)):
        admission.offer(waiting, 10.0)
    assert admission.wait_s(10.0) == pytest.approx(0.1 + 0.3 + 0.0)
    admission.forget(BUNDLE)
    assert admission.wait_s(10.0) == 0.0


def test_a_frame_that_would_be_late_behind_the_others_is_shed(admission):
    admission.on_served(job(), 0.4)
    assert admission.offer(job(1), 10.0) is None
    # 0.4 s of waiting and 0.4 s of work end at 10.8.
    assert admission.offer(job(2, budget_s=0.81), 10.0) is None
    turned = admission.offer(job(3, budget_s=1.19), 10.0)
    assert (turned.reason, turned.retry_after_s) == (Reason.SHED, pytest.approx(0.8))
    assert turned.job.frame.frame_id == 3 and len(admission) == 2


def test_the_job_under_way_is_waited_for_too(admission):
    admission.on_served(job(), 0.4)
    admission.offer(job(1), 10.0)
    assert admission.take(10.0)[0] is not None
    admission.offer(job(2), 10.0)
    # 0.3 s of the one that is served are left, and the other takes 0.4 s.
    assert admission.wait_s(10.1) == pytest.approx(0.7)
    # One that takes longer than expected does not make the wait shorter than the queue.
    assert admission.wait_s(11.0) == pytest.approx(0.4)
    admission.on_ended(11.0)
    assert admission.wait_s(11.0) == pytest.approx(0.4)


def test_of_a_job_under_way_that_was_never_timed_nothing_is_expected(admission):
    admission.offer(job(), 10.0)
    admission.take(10.0)
    assert admission.wait_s(10.1) == 0.0


def test_who_waits_behind_the_job_under_way_is_shed_when_that_makes_it_late(admission):
    admission.on_served(job(), 0.4)
    admission.offer(job(1), 10.0)
    admission.take(10.0)
    # Nothing is queued: it is tried, however long the one under way takes.
    assert admission.offer(job(2, budget_s=0.41), 10.0) is None
    # 0.4 s for each before it, and 0.4 s of its own, end at 11.2.
    turned = admission.offer(job(3, budget_s=1.19), 10.0)
    assert (turned.reason, turned.retry_after_s) == (Reason.SHED, pytest.approx(0.8))
    assert admission.offer(job(4, budget_s=1.21), 10.0) is None


def test_busy_time_is_that_of_jobs(admission):
    assert admission.busy_s(10.0) == 0.0
    for begin_s, end_s in ((10.0, 10.3), (11.0, 11.1)):
        admission.offer(job(first_s=begin_s), begin_s)
        admission.take(begin_s)
        admission.on_ended(end_s)
    assert admission.busy_s(20.0) == pytest.approx(0.4)
    admission.offer(job(first_s=20.0), 20.0)
    admission.take(20.0)
    assert admission.busy_s(20.5) == pytest.approx(0.9)


def test_an_end_without_a_job_is_none(admission):
    admission.on_ended(10.0)
    assert admission.busy_s(11.0) == 0.0 and admission.wait_s(11.0) == 0.0


def test_a_slow_past_does_not_keep_itself_alive(admission):
    admission.on_served(job(), 5.0)   # longer than any budget here
    assert admission.offer(job(), 10.0) is None, "the queue is empty: try"
    assert admission.offer(job(), 10.0).reason == Reason.SHED


def test_the_queue_is_bounded(admission):
    for i in range(4):
        assert admission.offer(job(i), 10.0) is None
    assert admission.offer(job(9), 10.0).reason == Reason.SHED
    admission.take(10.0)
    assert admission.offer(job(9), 10.0) is None


def test_what_got_late_while_waiting_is_dropped_on_the_way_to_the_next(admission):
    admission.offer(job(1, budget_s=0.1), 10.0)
    admission.offer(job(2, budget_s=0.2), 10.0)
    admission.offer(job(3, budget_s=1.0), 10.0)
    found, late = admission.take(10.5)
    assert found.frame.frame_id == 3
    assert [(t.job.frame.frame_id, t.reason) for t in late] == [
        (1, Reason.EXPIRED), (2, Reason.EXPIRED)]


def test_a_queue_of_late_frames_gives_none(admission):
    admission.offer(job(1, budget_s=0.1), 10.0)
    found, late = admission.take(10.5)
    assert found is None and len(late) == 1 and len(admission) == 0
