"""Send, wait, or finish here: each rule with numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.inference.gate import MAX_WINDOW, MIN_EXPECTED_S, PROBE_S, Gate, Situation, Verdict

QUIET = Situation(link_up=True, worker_ready=True, bundle_there=True, in_flight=0, path_s=0.0,
                  oldest_sent_s=None, backlog_bytes=0, head_s=0.01, latest_local_s=100.0,
                  stateful=False)


@pytest.fixture
def gate() -> Gate:
    return Gate(first_expected_s=0.5)


def verdict(gate: Gate, now_s: float, **changes) -> tuple[Verdict, str]:
    ruling = gate.rule(replace(QUIET, **changes), now_s)
    return ruling.verdict, ruling.reason


def test_nothing_in_the_way_means_send(gate):
    assert verdict(gate, 1.0) == (Verdict.SEND, "")


@pytest.mark.parametrize("change, reason", [
    ({"link_up": False}, "link down"),
    ({"worker_ready": False}, "no worker"),
    ({"bundle_there": False}, "worker lacks the bundle"),
])
def test_what_is_missing_makes_it_local_at_once(gate, change, reason):
    assert verdict(gate, 1.0, **change) == (Verdict.LOCAL, reason)


# -- what is expected of an answer


def test_an_answer_is_expected_within_twice_rfc_6298(gate):
    assert gate.expected_s() == 0.5
    gate.on_answer(0.1, 1000)         # smoothed 0.1, deviation 0.05
    assert gate.expected_s() == pytest.approx(2 * (0.1 + 4 * 0.05))
    gate.on_answer(0.1, 1000)         # deviation 3/4 of that
    assert gate.expected_s() == pytest.approx(2 * (0.1 + 4 * 0.0375))
    gate.on_answer(0.3, 1000)         # 0.2 off: deviation + 1/4 of the rest, mean + 1/8
    assert gate.expected_s() == pytest.approx(2 * (0.125 + 4 * (0.0375 + 0.25 * 0.1625)))


def test_a_fast_link_does_not_make_a_sleepy_thread_look_like_an_outage(gate):
    for _ in range(50):
        gate.on_answer(0.002, 1000)
    assert gate.expected_s() == MIN_EXPECTED_S


def test_an_overdue_answer_makes_the_link_suspect(gate):
    assert verdict(gate, 10.5, in_flight=1, oldest_sent_s=10.0) == (Verdict.SEND, "")
    assert verdict(gate, 10.5) == (Verdict.SEND, ""), "it is not, yet"
    assert verdict(gate, 10.51, in_flight=1, oldest_sent_s=10.0) == (Verdict.SEND, "probe")
    assert verdict(gate, 10.52) == (Verdict.LOCAL, "link suspect")


# -- suspicion and probes


def test_a_suspect_link_gets_one_probe_an_interval(gate):
    gate.on_loss()
    assert verdict(gate, 10.0) == (Verdict.SEND, "probe")
    assert verdict(gate, 10.0 + 0.99 * PROBE_S) == (Verdict.LOCAL, "link suspect")
    assert verdict(gate, 10.0 + PROBE_S) == (Verdict.SEND, "probe")
    assert verdict(gate, 10.0 + 1.5 * PROBE_S) == (Verdict.LOCAL, "link suspect")


def test_probes_without_answers_are_bounded(gate):
    gate.on_loss()
    assert verdict(gate, 10.0, in_flight=MAX_WINDOW) == (Verdict.LOCAL, "link suspect")
    assert verdict(gate, 10.0, in_flight=MAX_WINDOW - 1) == (Verdict.SEND, "probe")


def test_a_probe_never_starts_from_a_state_that_is_in_flight(gate):
    gate.on_loss()
    assert verdict(gate, 10.0, in_flight=1, stateful=True) == (Verdict.LOCAL, "link suspect")
    assert verdict(gate, 10.0, in_flight=0, stateful=True) == (Verdict.SEND, "probe")


def test_one_answer_ends_the_suspicion(gate):
    gate.on_loss()
    gate.on_answer(0.1, 1000)
    assert verdict(gate, 10.0) == (Verdict.SEND, "")


def test_a_new_connection_is_a_new_beginning(gate):
    gate.on_answer(0.1, 1000)
    gate.on_loss()
    gate.on_shed(5.0, 10.0)
    gate.reset()
    assert (gate.window, gate.expected_s()) == (2.0, 0.5)
    assert verdict(gate, 10.0) == (Verdict.SEND, "")


# -- the window


def test_the_window_grows_by_one_a_window_while_answers_are_prompt(gate):
    gate.on_answer(0.1, 1000)
    assert gate.window == pytest.approx(2.5)              # + 1/2
    gate.on_answer(0.14, 1000)                            # below 1.5 times the base + 2 ms
    assert gate.window == pytest.approx(2.9)              # + 1/2.5
    for _ in range(100):
        gate.on_answer(0.1, 1000)
    assert gate.window == MAX_WINDOW


def test_the_window_stays_where_answers_are_a_little_slow(gate):
    gate.on_answer(0.1, 1000)
    gate.on_answer(0.18, 1000)        # between 0.1535 and 0.204: the base has crept to 0.101
    assert gate.window == pytest.approx(2.5)


def test_the_window_narrows_when_a_queue_builds_somewhere(gate):
    gate.on_answer(0.1, 1000)
    gate.on_answer(0.21, 1000)        # above 2 * 0.101 + 0.002
    assert gate.window == pytest.approx(2.5 * 0.7)
    for _ in range(20):
        gate.on_answer(0.5, 1000)
        gate._base_s = 0.1
    assert gate.window == 1.0, "one frame may always be under way"


def test_two_milliseconds_more_or_less_are_no_queue(gate):
    gate.on_answer(0.001, 1000)
    gate.on_answer(0.0034, 1000)      # below 1.5 * 0.00101 + 0.002: on a fast link this is noise
    assert gate.window == pytest.approx(2.9)
    gate.on_answer(0.0040, 1000)      # neither below that nor above 2 * 0.00102 + 0.002
    assert gate.window == pytest.approx(2.9)


def test_one_lucky_answer_is_not_the_measure_for_ever(gate):
    gate.on_answer(0.05, 1000)
    for _ in range(10):               # three times the base: a queue
        gate.on_answer(0.15, 1000)
    assert gate.window == 1.0
    for _ in range(62):               # 1.01 ** 72 is just over 2, so the base is 0.1 now
        gate.on_answer(0.15, 1000)
    assert gate.window > 1.0


def test_a_loss_halves_the_window_and_a_shed_takes_three_tenths(gate):
    gate.window = 6.0
    gate.on_loss()
    assert gate.window == 3.0
    gate.on_shed(0.0, 10.0)
    assert gate.window == pytest.approx(2.1)


def test_a_full_window_waits_until_the_device_must_begin(gate):
    gate.on_answer(0.3, 1000)
    gate.window = 2.0
    assert verdict(gate, 10.0, in_flight=1) == (Verdict.SEND, "")
    full = {"in_flight": 2, "oldest_sent_s": 10.0, "latest_local_s": 10.3}
    assert verdict(gate, 10.29, **full) == (Verdict.WAIT, "window full")
    assert verdict(gate, 10.3, **full) == (Verdict.LOCAL, "window full")


def test_before_the_first_answer_nothing_waits_that_can_be_done_here(gate):
    full = {"in_flight": 2, "oldest_sent_s": 10.0}
    assert verdict(gate, 10.1, **full) == (Verdict.LOCAL, "window full")
    assert verdict(gate, 10.1, **full, stateful=True)[0] == Verdict.WAIT


def test_a_window_and_a_half_is_one_frame(gate):
    gate.on_answer(0.3, 1000)
    gate.window = 1.9
    assert verdict(gate, 10.0, in_flight=1, oldest_sent_s=10.0) == (Verdict.WAIT, "window full")


# -- the first hop


def test_the_head_starts_when_the_first_hop_will_be_empty_at_its_end(gate):
    gate.on_answer(0.1, 30_000)       # 300 kB/s: 3000 bytes leave in a head of 10 ms
    assert verdict(gate, 10.0, backlog_bytes=3000 + 2048) == (Verdict.SEND, "")
    assert verdict(gate, 10.0, backlog_bytes=3000 + 2049) == (Verdict.WAIT, "link busy")
    assert verdict(gate, 10.0, backlog_bytes=5049, latest_local_s=9.0) == (
        Verdict.LOCAL, "link busy")


def test_what_is_on_the_way_for_less_than_a_round_trip_is_not_waiting(gate):
    gate.on_answer(0.1, 30_000)       # 300 kB/s: 60 kB are under way on a path of 200 ms
    busy = 3000 + 60_000 + 2048
    assert verdict(gate, 10.0, backlog_bytes=busy, path_s=0.2) == (Verdict.SEND, "")
    assert verdict(gate, 10.0, backlog_bytes=busy + 1, path_s=0.2) == (Verdict.WAIT, "link busy")


def test_the_rate_moves_a_quarter_of_the_way(gate):
    gate.on_answer(0.1, 30_000)
    gate.on_answer(0.1, 70_000)       # 300 and 700 kB/s: 400
    assert verdict(gate, 10.0, backlog_bytes=4000 + 2048) == (Verdict.SEND, "")
    assert verdict(gate, 10.0, backlog_bytes=4000 + 2049) == (Verdict.WAIT, "link busy")


# -- state and load


def test_the_next_frame_of_a_stateful_model_waits_for_this_ones_answer(gate):
    assert verdict(gate, 10.0, in_flight=1, stateful=True) == (
        Verdict.WAIT, "state of the last frame not back")
    assert verdict(gate, 10.0, in_flight=0, stateful=True) == (Verdict.SEND, "")


@pytest.mark.parametrize("asked_s, kept_s", [(0.0, PROBE_S), (1.0, 1.0), (60.0, 5.0)])
def test_a_crowded_worker_is_left_alone_for_a_while(gate, asked_s, kept_s):
    gate.on_shed(asked_s, 10.0)
    assert verdict(gate, 10.0 + 0.99 * kept_s) == (Verdict.LOCAL, "worker busy")
    assert verdict(gate, 10.0 + kept_s) == (Verdict.SEND, "")


# -- another plan, and answers nobody waits for


def test_another_plans_answers_take_their_own_time(gate):
    for _ in range(20):
        gate.on_answer(0.1, 1000)
    gate.on_switch(0.4)
    assert gate.expected_s() == pytest.approx(0.8), "twice what the plan promises"
    gate.on_answer(0.3, 1000)         # the first of its own: 2 * (0.3 + 4 * 0.15)
    assert gate.expected_s() == pytest.approx(1.8)


def test_a_plan_that_promises_little_is_given_the_least_all_the_same(gate):
    gate.on_switch(0.001)
    assert gate.expected_s() == MIN_EXPECTED_S


def test_the_last_plans_shortest_answer_is_no_measure_for_the_next(gate):
    gate.on_answer(0.05, 1000)
    gate.on_switch(0.4)
    gate.window = 4.0
    gate.on_answer(0.4, 1000)         # eight times as long as the old base: not a queue
    assert gate.window == pytest.approx(4.25)


def test_the_window_the_rate_and_doubts_outlive_a_switch(gate):
    gate.on_answer(0.1, 30_000)
    gate.window = 5.0
    gate.on_loss()
    gate.on_shed(1.0, 10.0)
    gate.on_switch(0.2)
    assert gate.window == pytest.approx(5.0 / 2 * 0.7)
    assert verdict(gate, 10.9) == (Verdict.LOCAL, "worker busy")
    assert verdict(gate, 11.0) == (Verdict.SEND, "probe")
    gate.on_late_answer()
    # 300 kB/s: 3000 bytes leave in a head of 10 ms.
    assert verdict(gate, 11.0, backlog_bytes=5048) == (Verdict.SEND, "")
    assert verdict(gate, 11.0, backlog_bytes=5049) == (Verdict.LOCAL, "link busy")


def test_a_late_answer_opens_the_way_and_teaches_no_time(gate):
    gate.on_answer(0.1, 1000)
    gate.on_loss()
    before = gate.expected_s(), gate.window
    gate.on_late_answer()
    assert (gate.expected_s(), gate.window) == before
    assert verdict(gate, 10.0) == (Verdict.SEND, "")
