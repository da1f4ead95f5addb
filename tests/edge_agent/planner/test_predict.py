"""Predictions, worked out by hand for a link that is fast three times in four.

Here the segments take 100, 200 and 300 ms. At cut 1, waited for: launched at 120 ms, and 40 of
round trip and 50 at the worker make 210 without the bytes.
"""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from edge_agent.belief.transfers import Scenario
from edge_agent.planner.candidates import candidates_of
from edge_agent.planner.predict import Costs, Prices, predict
from edge_agent.planner.state import Coding, DeviceState, Energy
from tests.edge_agent.planner.making import (
    AT_HERE, AT_INPUT, AT_INPUT_RACED, AT_LATE, AT_LATE_RACED, AT_MIDDLE, AT_MIDDLE_RACED, FAST,
    OPTIONS, SLOW, state, worker,
)

FREE = Prices(0.0, 0.0, 0.0)


def predicted(now: DeviceState, prices: Prices = Prices()) -> Costs:
    return predict(now, candidates_of(OPTIONS, tuple(w.worker for w in now.workers)), prices)


def row(costs: Costs, index: int, *names: str) -> list[float]:
    return [float(getattr(costs, name)[index]) for name in names]


def test_a_frame_that_is_waited_for_and_coded_coarser_where_it_would_be_late():
    costs = predicted(state())
    # Fast: 210 + 20. Slow: 590 ms to 80 % of the deadline are 1475 bytes, not 2000.
    assert row(costs, AT_MIDDLE, "mean_s", "p95_s", "on_time_ratio", "slack_s") == pytest.approx(
        [0.75 * 0.23 + 0.25 * 0.8, 0.8, 1.0, 0.0])
    nbytes = 0.75 * 2000 + 0.25 * 1475
    # 131 of the 1000 bytes that the step may save, so 13 % of the way in divergence.
    assert row(costs, AT_MIDDLE, "nbytes", "cpu_s", "kl") == pytest.approx(
        [nbytes, 0.12, 0.02 + (2000 - nbytes) / 1000 * 0.06])
    energy_j = 2.0 * 0.12 + 1e-6 * nbytes
    assert row(costs, AT_MIDDLE, "energy_j") == pytest.approx([energy_j])
    assert row(costs, AT_MIDDLE, "money") == pytest.approx(
        [nbytes / 1e9 + 0.05 * 0.05 / 3600 + 0.3 * energy_j / 3.6e6])


def test_a_race_ends_with_the_first_and_costs_what_the_device_did_until_then():
    costs = predicted(state())
    # The device is done 500 ms after the launch: 620.
    mean_s = 0.75 * 0.23 + 0.25 * 0.62
    assert row(costs, AT_MIDDLE_RACED, "mean_s", "p95_s", "cpu_s", "on_time_ratio") == (
        pytest.approx([mean_s, 0.62, mean_s, 1.0]))


def test_a_fallback_is_as_late_as_is_on_time_and_costs_where_it_runs():
    costs = predicted(state())
    # 10 + 40 + 60 and 3000 bytes: 140 or 1310; the device has the latter done at 1000.
    assert row(costs, AT_INPUT, "mean_s", "p95_s", "on_time_ratio", "slack_s", "cpu_s") == (
        pytest.approx([0.75 * 0.14 + 0.25 * 1.0, 1.0, 0.75, 0.0, 0.01 + 0.25 * 0.6]))
    assert row(costs, AT_INPUT_RACED, "mean_s", "on_time_ratio") == pytest.approx(
        [0.75 * 0.14 + 0.25 * 0.61, 1.0])
    assert row(costs, AT_INPUT_RACED, "energy_j") > row(costs, AT_INPUT, "energy_j")


def test_all_local_has_no_link_in_it():
    costs = predicted(state(rtt_s=9.0, waiting_bytes=10**9))
    assert row(costs, AT_HERE, "mean_s", "p95_s", "cpu_s", "nbytes", "energy_j", "kl") == (
        pytest.approx([0.6, 0.6, 0.6, 0.0, 1.2, 0.0]))
    assert row(costs, AT_HERE, "money") == pytest.approx([0.3 * 1.2 / 3.6e6])


def test_without_a_worker_only_the_device_is_left():
    costs = predicted(state(workers=()))
    assert len(costs.mean_s) == 1 and costs.mean_s[0] == pytest.approx(0.6)


def test_a_step_ends_at_the_coarsest_that_the_plan_allows():
    costs = predicted(state(scenarios=(Scenario(1e-3, 1.0),)))
    # 590 bytes would fit; 1000 are the least: 210 + 1000 ms, past the fallback's 1000.
    assert row(costs, AT_MIDDLE, "nbytes", "mean_s", "cpu_s", "kl") == pytest.approx(
        [1000, 1.0, 0.12 + 0.5, 0.08])


def test_divergence_that_nobody_knows_is_no_number():
    costs = predicted(state())
    assert np.isnan(costs.kl[AT_INPUT]) and costs.at(AT_INPUT)["kl"] is None
    assert costs.at(AT_LATE)["kl"] == 0.0
    assert costs.at(AT_LATE)["mean_ms"] == pytest.approx(1e3 * costs.mean_s[AT_LATE])


@pytest.mark.parametrize("waiting_bytes, waiting_s, wait_s", [
    (12_000, 0.0, 0.0), (30_000, 0.0, 0.18), (30_000, 0.1, 0.08), (30_000, 5.0, 0.0)])
def test_what_waits_on_the_link_drains_while_the_head_runs(waiting_bytes, waiting_s, wait_s):
    costs = predicted(state(scenarios=(Scenario(FAST, 1.0),), waiting_bytes=waiting_bytes,
                            waiting_s=waiting_s))
    # 30 kB take 300 ms, of which 120 pass before this frame's is there, after what has passed.
    assert row(costs, AT_MIDDLE, "mean_s") == pytest.approx([0.23 + wait_s])


def test_every_way_waits_until_the_interpreter_is_free():
    now = state(scenarios=(Scenario(FAST, 1.0),))
    costs, later = predicted(now), predicted(msgspec.structs.replace(now, wait_s=0.1))
    assert later.mean_s == pytest.approx(costs.mean_s + 0.1)
    assert later.cpu_s == pytest.approx(costs.cpu_s), "waiting is no work"
    assert later.energy_j == pytest.approx(costs.energy_j)
    # And what waits on the link drains meanwhile: 300 ms of it, 220 before this frame's is there.
    behind = predicted(msgspec.structs.replace(now, wait_s=0.1, waiting_bytes=30_000))
    assert row(behind, AT_MIDDLE, "mean_s") == pytest.approx([0.1 + 0.23 + 0.08])


def test_a_queue_and_a_longer_way_at_the_worker_are_added():
    both = (worker("near"), worker("far", queue_s=0.1, extra_s=0.02))
    costs = predicted(state(workers=both, scenarios=(Scenario(FAST, 1.0),)))
    assert row(costs, AT_MIDDLE, "mean_s") == pytest.approx([0.23])
    assert row(costs, 6 + AT_MIDDLE, "mean_s") == pytest.approx([0.35])
    assert row(costs, 6 + AT_MIDDLE, "money") > row(costs, AT_MIDDLE, "money"), (
        "a worker is paid while the frame is there")


def test_care_is_taken_where_a_deadline_is_but_not_in_the_mean():
    careful = state(careful_s=(0.15, 0.2, 0.3))
    plain, costs = predicted(state()), predicted(careful)
    assert costs.mean_s == pytest.approx(plain.mean_s)
    # 50 ms for the head, and so for all-local.
    assert row(costs, AT_MIDDLE, "p95_s", "on_time_ratio") == pytest.approx([0.85, 1.0])
    assert row(costs, AT_HERE, "p95_s") == pytest.approx([0.65])
    tight = predicted(msgspec.structs.replace(careful, deadline_s=0.62))
    assert tight.slack_s[AT_HERE] == pytest.approx(0.03) and tight.on_time_ratio[AT_HERE] == 0


def test_a_fallback_is_on_time_only_with_the_longest_segment_in_hand():
    # At cut 1 the device would be done at 620 ms; 300 and 5 before a deadline of 0.925 s at most.
    slow = (Scenario(1.0, 1.0),)
    late, in_time = (predicted(state(scenarios=slow, deadline_s=s)) for s in (0.92, 0.93))
    assert row(in_time, AT_MIDDLE, "mean_s") == pytest.approx([0.93])
    assert row(late, AT_MIDDLE, "mean_s") == pytest.approx([0.92 + 0.5])


def test_what_would_leave_too_late_is_not_sent():
    costs = predicted(state(wait_s=1.0))
    assert row(costs, AT_INPUT, "nbytes") == pytest.approx([0.0])


# -- deadlines that the device cannot keep


def test_a_hopeless_fallback_begins_at_the_deadline():
    costs = predicted(state(deadline_s=0.5, scenarios=(Scenario(1.0, 1.0),)))
    # Launched at 120 and 300 ms; 500 and 300 are left to do.
    assert costs.mean_s[[AT_MIDDLE, AT_LATE]] == pytest.approx([1.0, 0.8])
    assert costs.mean_s[[AT_MIDDLE_RACED, AT_LATE_RACED]] == pytest.approx([0.62, 0.6])


@pytest.mark.parametrize("deadline_s", [0.05, 0.1, 0.2, 0.29])
def test_and_never_before_its_own_head_has_run(deadline_s):
    costs = predicted(state(deadline_s=deadline_s, scenarios=(Scenario(1.0, 1.0),)))
    assert costs.mean_s[AT_LATE] == pytest.approx(0.6)
    assert all(costs.mean_s >= 0.6 - 1e-9), "nobody is faster than the whole model"


def test_nothing_is_answered_that_could_not_be_sent_before_its_deadline():
    costs = predicted(state(deadline_s=0.2, scenarios=(Scenario(FAST, 1.0),)))
    assert costs.mean_s[AT_MIDDLE] == pytest.approx(0.22), "launched at 120 ms: in time"
    assert costs.mean_s[AT_LATE] == pytest.approx(0.6), "at 300 ms: the device ends it"


# -- of any state


def random_state(rng: random.Random) -> DeviceState:
    segments = tuple(rng.uniform(0.001, 0.5) for _ in range(3))
    careful = tuple(s * rng.uniform(1, 1.3) for s in segments)
    weights = [rng.uniform(0.01, 1) for _ in range(rng.randint(1, 8))]
    rates = sorted(10 ** rng.uniform(-7, -2) for _ in weights)
    codings = []
    for _ in range(3):
        nbytes = rng.uniform(200, 1e5)
        codings.append(Coding(nbytes, nbytes * rng.uniform(0.2, 1), rng.uniform(0, 0.05)))
    workers = tuple(msgspec.structs.replace(
        worker(str(i), queue_s=rng.uniform(0, 0.3)),
        service_s=tuple(rng.uniform(0.001, 0.2) for _ in range(4))) for i in range(2))
    return state(
        deadline_s=rng.uniform(0.05, 3), segment_s=segments, careful_s=careful,
        codings=(*codings, Coding(0.0, 0.0, 0.0)), rtt_s=rng.uniform(0, 0.3), workers=workers,
        scenarios=tuple(Scenario(s, w / sum(weights)) for s, w in zip(rates, weights)),
        waiting_bytes=rng.choice((0, rng.randint(0, 10**5))), waiting_s=rng.uniform(0, 1),
        wait_s=rng.choice((0.0, rng.uniform(0, 0.3))), energy=Energy(1.0, 1e-6, 2.0))


@pytest.mark.parametrize("_", range(60))
def test_a_worse_link_never_predicts_a_faster_frame(_):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    now = random_state(rng)
    factor = rng.uniform(1.01, 20)
    worse = rng.choice((
        {"scenarios": tuple(Scenario(factor * s.s_per_byte, s.weight) for s in now.scenarios)},
        {"rtt_s": factor * now.rtt_s}, {"waiting_bytes": round(factor * now.waiting_bytes)}))
    before, after = predicted(now), predicted(msgspec.structs.replace(now, **worse))
    assert (after.mean_s >= before.mean_s - 1e-9).all()
    assert (after.p95_s >= before.p95_s - 1e-9).all()
    assert (after.slack_s >= before.slack_s - 1e-9).all()
    assert (after.on_time_ratio <= before.on_time_ratio + 1e-9).all()


@pytest.mark.parametrize("_", range(30))
def test_every_prediction_is_a_number_within_bounds(_):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    now = random_state(random.Random(seed))
    costs = predicted(now, FREE)
    for name in ("mean_s", "p95_s", "slack_s", "cpu_s", "energy_j", "nbytes"):
        values = getattr(costs, name)
        assert np.isfinite(values).all() and (values >= 0).all(), name
    assert (costs.money == 0).all()
    assert ((costs.on_time_ratio >= 0) & (costs.on_time_ratio <= 1 + 1e-9)).all()
    # A race is never slower than waiting, and the device never works longer than for the whole
    # model and the coding.
    race = candidates_of(OPTIONS, tuple(w.worker for w in now.workers)).race
    assert (costs.mean_s[race] <= costs.mean_s[:-1][~race[:-1]] + 1e-9).all()
    assert (costs.cpu_s <= sum(now.segment_s) + max(k.encode_s for k in now.codings) + 1e-9).all()


def test_slow_is_the_same_link_for_every_candidate():
    costs = predicted(state(scenarios=(Scenario(SLOW, 1.0),)))
    assert costs.mean_s[[AT_INPUT, AT_MIDDLE, AT_LATE]] == pytest.approx(
        [1.0, 0.8, 0.3 + 0.04 + 0.03 + 0.4])
