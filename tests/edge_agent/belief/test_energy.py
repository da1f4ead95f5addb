"""The board's three numbers: stated, and learned from what a power sensor says."""

from __future__ import annotations

import random

import pytest

from edge_agent.belief.energy import EnergyBelief, EnergyModel

STATED = EnergyModel(j_per_cpu_s=1.2, j_per_byte=1e-6, base_w=2.7)
INTERVAL_S = 2.0


def fed(true: EnergyModel, intervals: int, noise_w: float = 0.0, *, cpu: bool = True,
        nbytes: bool = True) -> EnergyBelief:
    """A belief after seeded readings of a board that is as ``true`` says."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, belief = random.Random(seed), EnergyBelief(STATED)
    for _ in range(intervals):
        cpu_s = rng.uniform(0, 4 * INTERVAL_S) if cpu else 0.0
        sent = rng.uniform(0, 2e6) if nbytes else 0.0
        power_w = true.base_w + true.frame_j(cpu_s, sent) / INTERVAL_S + rng.gauss(0, noise_w)
        belief.add(power_w, cpu_s, sent, INTERVAL_S)
    return belief


def as_tuple(model: EnergyModel) -> tuple[float, float, float]:
    return model.base_w, model.j_per_cpu_s, model.j_per_byte


def test_a_frame_draws_for_its_work_and_its_bytes():
    assert STATED.frame_j(0.5, 200_000) == pytest.approx(0.6 + 0.2)


def test_without_readings_it_stays_as_stated():
    assert EnergyBelief(STATED).model == STATED


def test_readings_that_agree_change_nothing():
    assert as_tuple(fed(STATED, 200).model) == pytest.approx(as_tuple(STATED), rel=1e-6)


def test_three_numbers_are_learned_through_noise():
    true = EnergyModel(j_per_cpu_s=2.0, j_per_byte=3e-6, base_w=1.5)
    belief = fed(true, 300, noise_w=0.1)
    # Half of the weight is in the last 150 readings: deviations of some 0.02 W, 0.01 and 1e-8.
    assert belief.model.base_w == pytest.approx(1.5, abs=0.1)
    assert belief.model.j_per_cpu_s == pytest.approx(2.0, rel=0.05)
    assert belief.model.j_per_byte == pytest.approx(3e-6, rel=0.1)


def test_what_the_readings_leave_open_stays_as_stated():
    belief = fed(EnergyModel(2.0, 3e-6, 1.5), 300, nbytes=False)
    assert belief.model.j_per_byte == pytest.approx(1e-6)
    assert belief.model.j_per_cpu_s == pytest.approx(2.0, rel=0.01)
    idle = fed(EnergyModel(2.0, 3e-6, 1.5), 300, cpu=False, nbytes=False)
    assert idle.model.base_w == pytest.approx(1.5, rel=0.01)
    assert idle.model.j_per_cpu_s == pytest.approx(1.2)


def test_a_single_reading_is_not_the_truth():
    belief = EnergyBelief(STATED)
    belief.add(30.0, 2.0, 0.0, INTERVAL_S)
    # 26 W too much, explained by all three: none alone takes it all.
    assert 2.7 < belief.model.base_w < 30 and 1.2 < belief.model.j_per_cpu_s < 27


def test_old_readings_are_forgotten():
    belief = EnergyBelief(STATED)
    for base_w in (5.0, 1.0):
        for _ in range(900):          # half an hour each: six half-lives
            belief.add(base_w, 0.0, 0.0, INTERVAL_S)
    # 1/64 of the weight is left to the first half: 4 W / 65.
    assert belief.model.base_w == pytest.approx(1.0, abs=0.08)


def test_nothing_becomes_negative_however_odd_the_sensor():
    belief = EnergyBelief(STATED)
    for i in range(100):              # less power the more it works
        belief.add(5.0 - 0.04 * i, 0.08 * i, 2e4 * i, INTERVAL_S)
    assert all(value > 0 for value in as_tuple(belief.model))
    assert belief.model.j_per_cpu_s >= 0.05 * 1.2 - 1e-12


@pytest.mark.parametrize("power_w, interval_s", [
    (float("nan"), 2.0), (float("inf"), 2.0), (0.0, 2.0), (-3.0, 2.0), (3.0, 0.0), (3.0, -1.0)])
def test_what_is_no_reading_is_left_out(power_w, interval_s):
    belief = EnergyBelief(STATED)
    belief.add(power_w, 1.0, 0.0, interval_s)
    assert belief.model == STATED
