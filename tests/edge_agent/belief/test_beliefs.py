"""Everything believed, as one state: what goes in comes out where it belongs."""

from __future__ import annotations

import pytest

from edge_agent.belief.beliefs import MESSAGE_BYTES, Beliefs, Outlook, payload_bytes
from edge_agent.belief.energy import EnergyModel
from edge_agent.belief.transfers import OUTAGE_RATIO, OUTAGE_S_PER_BYTE, Scenario
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.planner.candidates import Option, options_of
from edge_agent.planner.state import Battery, DeviceState, WorkerState
from split_core.cost.round_trip import PRIOR_S
from tests.edge_agent.planner.making import JPEG, paper_bundle

SEGMENT_S = (0.1, 0.2, 0.3)
ENERGY = EnergyModel(2.0, 3e-6, 1.5)
BUNDLE = paper_bundle(pictures=JPEG)
OPTIONS = options_of(BUNDLE, 0.02, 0.08)
(PICTURE,), (MIDDLE,), (Q4, RAW), (HERE,) = (
    [o for o in OPTIONS if o.cut == cut and o.rung != "raw" or o.cut == cut and cut >= 2]
    for cut in range(4))


@pytest.fixture
def beliefs() -> Beliefs:
    return Beliefs(BUNDLE, OPTIONS, SegmentTimes(3, SEGMENT_S), deadline_s=1.0,
                   encode_s={(1, "kl0.02"): 0.02}, energy=ENERGY)


def state(beliefs: Beliefs, now_s: float = 10.0, *workers: str, waiting_bytes: int = 0,
          outlook: Outlook = Outlook()) -> DeviceState:
    return beliefs.state(workers, link_up=True, waiting_bytes=waiting_bytes, outlook=outlook,
                         now_s=now_s)


def outage(now: DeviceState) -> float:
    """The weight of the outage that is always thought of; the share of what is lost."""
    (weight,) = [s.weight for s in now.scenarios if s.s_per_byte == OUTAGE_S_PER_BYTE]
    return weight


def coding(beliefs: Beliefs, option: Option):
    return state(beliefs).codings[OPTIONS.index(option)]


# -- at the start


def test_at_the_start_it_is_what_profile_and_curves_say(beliefs):
    now = state(beliefs, 10.0, "w")
    assert now.segment_s == pytest.approx(SEGMENT_S) == now.careful_s
    assert (now.deadline_s, now.frame_rate, now.rtt_s) == (1.0, 0.0, PRIOR_S)
    assert (now.energy.j_per_cpu_s, now.energy.j_per_byte, now.energy.base_w) == (2.0, 3e-6, 1.5)
    assert now.workers == (WorkerState("w", 0.0, pytest.approx((0.6, 0.5, 0.3, 0.0))),), (
        "a worker that told nothing is no faster than this device")
    assert len(now.codings) == len(OPTIONS)


@pytest.mark.parametrize("option, nbytes, coarsest_bytes, encode_s", [
    (PICTURE, 2000, 1000, 0.0), (MIDDLE, 2000, 1000, 0.02), (Q4, 120, 120, 0.0),
    (RAW, 1000, 1000, 0.0)])
def test_a_message_is_a_payload_and_what_goes_with_it(beliefs, option, nbytes, coarsest_bytes,
                                                      encode_s):
    found = coding(beliefs, option)
    assert found.nbytes == pytest.approx(nbytes + MESSAGE_BYTES)
    assert found.coarsest_bytes == pytest.approx(coarsest_bytes + MESSAGE_BYTES)
    assert found.encode_s == encode_s


def test_what_stays_here_sends_nothing(beliefs):
    found = coding(beliefs, HERE)
    assert (found.nbytes, found.coarsest_bytes, found.encode_s) == (0, 0, 0)


def test_a_picture_that_nobody_measured_is_a_quarter_of_the_input():
    assert payload_bytes(paper_bundle(), 0, "jpeg90") == pytest.approx(3072 / 4)


# -- what coding teaches


def test_the_first_time_of_coding_is_believed_and_then_a_fifth(beliefs):
    beliefs.on_encoded(2, "q4", 0.05, 120, as_asked=True)
    beliefs.on_encoded(1, "kl0.02", 0.12, 2000, as_asked=True)
    assert coding(beliefs, Q4).encode_s == pytest.approx(0.05)
    assert coding(beliefs, MIDDLE).encode_s == pytest.approx(0.04)


def test_a_size_teaches_where_the_step_was_the_rungs_own(beliefs):
    beliefs.on_encoded(1, "kl0.02", 0.02, 500, as_asked=False)
    assert coding(beliefs, MIDDLE).nbytes == pytest.approx(2000 + MESSAGE_BYTES)
    beliefs.on_encoded(1, "kl0.02", 0.02, 4000, as_asked=True)
    assert coding(beliefs, MIDDLE).nbytes == pytest.approx(1.05 * 2000 + MESSAGE_BYTES)
    assert coding(beliefs, MIDDLE).coarsest_bytes == pytest.approx(1.05 * 1000 + MESSAGE_BYTES)
    assert coding(beliefs, RAW).nbytes == pytest.approx(1000 + MESSAGE_BYTES)


# -- what answers teach


def test_an_answer_tells_of_the_link_and_of_the_worker(beliefs):
    beliefs.round_trip.add(0.04, 1.0)
    beliefs.workers.on_load("w", 0.0, 0.01)       # 10 ms of its own to the broker
    beliefs.on_sent(5, "w", 1, 2000 - MESSAGE_BYTES, 1.0)
    assert state(beliefs, 1.0).waiting_bytes == 2000
    beliefs.on_answer(5, queue_s=0.2, service_s=0.07, now_s=2.32)
    # 1.32 less 0.27 at the worker and 0.05 on the way: a second for 2000 bytes.
    now = state(beliefs, 2.32, "w")
    assert [s.s_per_byte for s in now.scenarios] == [pytest.approx(5e-4), 0.01]
    assert now.waiting_bytes == 0
    assert now.workers == (WorkerState("w", pytest.approx(0.2), pytest.approx(
        (0.6, 0.07, 0.3, 0.0)), pytest.approx(0.01)),)


def test_a_worker_that_is_gone_is_not_a_slow_link(beliefs):
    beliefs.on_sent(5, "gone", 1, 2000, 1.0)
    beliefs.on_sent(6, "there", 1, 3000 - MESSAGE_BYTES, 1.0)
    beliefs.on_worker_gone("gone")
    after = state(beliefs, 9.0)
    assert after.waiting_bytes == 3000 and outage(after) == OUTAGE_RATIO
    beliefs.on_answer(5, 0.0, 0.1, 9.5)           # from beyond
    assert state(beliefs, 9.5).waiting_bytes == 3000


def test_an_answer_to_nothing_teaches_nothing(beliefs):
    before = state(beliefs, 5.0, "w")
    beliefs.on_answer(99, 0.2, 0.07, 5.0)
    beliefs.on_turned_away(99)
    assert state(beliefs, 5.0, "w") == before


def test_a_refusal_says_nothing_of_the_link(beliefs):
    before = state(beliefs, 5.0).scenarios
    beliefs.on_sent(5, "w", 1, 2000, 1.0)
    beliefs.on_turned_away(5)
    beliefs.on_answer(5, 0.2, 0.07, 5.0)
    after = state(beliefs, 5.0, "w")
    assert after.scenarios == before and after.waiting_bytes == 0
    assert after.workers[0].queue_s == 0.0


def test_a_message_that_was_stopped_half_way_tells_of_the_link_alone(beliefs):
    beliefs.on_sent(5, "w", 1, 2000 - MESSAGE_BYTES, 1.0)
    beliefs.on_given_up(5, 3.0)
    now = state(beliefs, 3.0)
    assert max(s.s_per_byte for s in now.scenarios[:-1]) == pytest.approx((2 - PRIOR_S) / 2000)
    assert now.waiting_bytes == 0
    beliefs.on_answer(5, 0.2, 0.07, 4.0)
    assert state(beliefs, 4.0, "w").workers[0].queue_s == 0.0


def test_the_rate_for_people_is_the_middle_one(beliefs):
    assert beliefs.bps(0.0) == pytest.approx(1e6)


def test_the_larger_count_of_waiting_bytes_is_the_truth(beliefs):
    beliefs.on_sent(5, "w", 1, 1000 - MESSAGE_BYTES, 9.0)
    assert state(beliefs, 9.0, waiting_bytes=400).waiting_bytes == 1000
    assert state(beliefs, 9.0, waiting_bytes=4000).waiting_bytes == 4000


def test_and_the_link_has_them_until_the_next_frame_comes(beliefs):
    for i in range(5):
        beliefs.on_frame(8.0 + 0.5 * i)
    beliefs.on_sent(5, "w", 1, 1000, 9.5)
    assert state(beliefs, 10.0).waiting_s == pytest.approx(0.5 + 0.5)
    assert state(beliefs, 10.2).waiting_s == pytest.approx(0.7 + 0.3)


@pytest.mark.parametrize("free_s, waiting_since_s, wait_s", [
    (0.0, None, 0.0), (10.3, None, 0.0), (10.7, None, 0.2), (10.7, 9.9, 0.8)])
def test_the_next_frame_waits_until_the_interpreter_is_free(beliefs, free_s, waiting_since_s,
                                                            wait_s):
    for i in range(5):
        beliefs.on_frame(8.0 + 0.5 * i)           # the next one comes at 10.5
    now = beliefs.state((), link_up=True, waiting_bytes=0, outlook=Outlook(), now_s=10.0,
                        free_s=free_s, waiting_since_s=waiting_since_s)
    assert now.wait_s == pytest.approx(wait_s)


def test_what_is_open_too_long_is_given_up_as_a_state_is_made(beliefs):
    beliefs.on_sent(5, "w", 1, 1000, 1.0)
    assert state(beliefs, 15.9).waiting_bytes > 0
    assert state(beliefs, 16.1).waiting_bytes == 0
    assert outage(state(beliefs, 16.1)) == pytest.approx(0.1)


def test_another_connection_is_another_path(beliefs):
    beliefs.round_trip.add(0.01, 1.0)
    beliefs.on_sent(5, "w", 1, 1000, 1.0)
    beliefs.on_down(3.0)
    now = state(beliefs, 3.0)
    assert (now.rtt_s, now.waiting_bytes, outage(now)) == (PRIOR_S, 0, pytest.approx(0.1))
    beliefs.on_answer(5, 0.0, 0.0, 4.0)           # of the connection that is gone
    assert state(beliefs, 4.0).scenarios == now.scenarios


def test_the_rate_of_frames_is_the_sources(beliefs):
    for i in range(20):
        beliefs.on_frame(0.5 * i)
    assert state(beliefs, 9.5).frame_rate == pytest.approx(2.0)


def test_settings_and_sensors_are_handed_on(beliefs):
    outlook = Outlook(Battery(3.0, False), 7.0, 8.0, 9.0, 55.0, True)
    now = state(beliefs, outlook=outlook)
    assert (now.battery, now.until_s, now.budget_bytes, now.budget_s, now.temperature_c,
            now.throttled) == (Battery(3.0, False), 7.0, 8.0, 9.0, 55.0, True)


# -- what a step is chosen by


def believed(beliefs: Beliefs, scenarios, worker: str | None = "w", option: Option = MIDDLE):
    from msgspec.structs import replace

    beliefs.workers.on_profile("w", (0.08, 0.05, 0.03, 0.0))
    beliefs.workers.on_load("w", 0.2, 0.01)
    now = replace(state(beliefs, 10.0, "w"), scenarios=tuple(Scenario(*s) for s in scenarios))
    return beliefs.step_belief(now, worker, option)


@pytest.mark.parametrize("weights, s_per_byte", [
    ((0.5, 0.48, 0.02), 2e-4), ((0.5, 0.4, 0.1), 1e-2), ((0.96, 0.02, 0.02), 1e-4)])
def test_of_twenty_seconds_the_link_is_better_in_nineteen(beliefs, weights, s_per_byte):
    found = believed(beliefs, zip((1e-4, 2e-4, 1e-2), weights))
    assert found.s_per_byte == s_per_byte


def test_the_rest_of_the_way_is_coding_round_trip_and_worker(beliefs):
    found = believed(beliefs, [(1e-4, 1.0)])
    assert found.fixed_s == pytest.approx(0.02 + PRIOR_S + 0.2 + 0.01 + 0.05)
    assert believed(beliefs, [(1e-4, 1.0)], "gone").fixed_s == pytest.approx(0.02 + PRIOR_S)
