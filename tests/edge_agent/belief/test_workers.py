"""What is believed of workers: the nearer source is the better one."""

from __future__ import annotations

import pytest

from edge_agent.belief.workers import WorkerBeliefs

GUESS_S = (0.5, 0.3, 0.1)
PROFILE_S = (0.08, 0.04, 0.02)


@pytest.fixture
def workers() -> WorkerBeliefs:
    return WorkerBeliefs()


def test_of_an_unknown_worker_the_guess(workers):
    assert workers.service_s("w", GUESS_S) == GUESS_S
    assert (workers.queue_s("w", 0.0), workers.broker_rtt_s("w")) == (0.0, 0.0)


def test_a_profile_beats_the_guess(workers):
    workers.on_profile("w", PROFILE_S)
    assert workers.service_s("w", GUESS_S) == PROFILE_S
    assert workers.service_s("other", GUESS_S) == GUESS_S


def test_what_was_seen_at_a_cut_beats_the_profile(workers):
    workers.on_profile("w", PROFILE_S)
    workers.on_answer("w", 1, 0.0, 0.08, 1.0)
    # Twice its profile, believed by a fifth: 1.2 times at the cuts that never ran.
    assert workers.service_s("w", GUESS_S) == pytest.approx((0.096, 0.08, 0.024))


def test_and_the_guess_where_there_is_no_profile(workers):
    workers.on_answer("w", 1, 0.0, 0.08, 1.0)
    assert workers.service_s("w", GUESS_S) == pytest.approx((0.5, 0.08, 0.1))


def test_a_seen_time_moves_by_a_fifth(workers):
    for seconds in (0.08, 0.08, 0.03):
        workers.on_answer("w", 1, 0.0, seconds, 1.0)
    assert workers.service_s("w", GUESS_S)[1] == pytest.approx(0.07)


def test_a_worker_that_is_twice_as_slow_as_told_is_so_everywhere(workers):
    workers.on_profile("w", PROFILE_S)
    for i in range(40):
        workers.on_answer("w", 2, 0.0, 0.04, i)
    assert workers.service_s("w", GUESS_S) == pytest.approx((0.16, 0.08, 0.04), rel=0.001)


def test_a_profile_of_nothing_does_not_divide(workers):
    workers.on_profile("w", (0.1, 0.0, 0.0))
    workers.on_answer("w", 1, 0.0, 0.05, 1.0)
    assert workers.service_s("w", GUESS_S) == (0.1, 0.05, 0.0)


def test_a_queue_that_grows_is_believed_at_once_and_one_that_shrinks_over_several(workers):
    workers.on_answer("w", 0, 0.1, 0.01, 1.0)
    assert workers.queue_s("w", 1.0) == pytest.approx(0.1)
    workers.on_answer("w", 0, 0.5, 0.01, 2.0)
    assert workers.queue_s("w", 2.0) == pytest.approx(0.5)
    workers.on_answer("w", 0, 0.0, 0.01, 3.0)
    assert workers.queue_s("w", 3.0) == pytest.approx(0.4)


def test_the_published_load_counts_when_answers_are_old(workers):
    workers.on_load("w", 0.3, 0.02)
    assert workers.queue_s("w", 0.0) == 0.3 and workers.broker_rtt_s("w") == 0.02
    workers.on_answer("w", 0, 0.1, 0.01, 10.0)
    assert workers.queue_s("w", 12.9) == pytest.approx(0.1)
    assert workers.queue_s("w", 13.0) == 0.3


def test_a_first_answer_after_a_while_is_believed_whole(workers):
    workers.on_answer("w", 0, 0.5, 0.01, 10.0)
    workers.on_answer("w", 0, 0.0, 0.01, 20.0)
    assert workers.queue_s("w", 20.0) == 0.0


def test_of_too_many_those_that_are_not_there_are_forgotten():
    workers = WorkerBeliefs()
    for i in range(300):
        workers.on_load(f"w{i}", 0.1 + i, 0.02)
    workers.keep(("w0", "w299"))
    kept = [i for i in range(300) if workers.queue_s(f"w{i}", 0.0) > 0]
    assert len(kept) == 256 and kept[0] == 0 and kept[1:] == list(range(45, 300))


def test_few_are_all_kept_for_when_they_come_back(workers):
    for i in range(20):
        workers.on_profile(f"w{i}", PROFILE_S)
    workers.keep(())
    assert all(workers.service_s(f"w{i}", GUESS_S) == PROFILE_S for i in range(20))
