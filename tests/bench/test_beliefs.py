"""The memories that `bench.beliefs` compares: their numbers are cited, so they must be right."""

from __future__ import annotations

import math

import pytest

from bench.beliefs import VARIANTS, Average, LogNormal, Variant, one_memory
from edge_agent.belief.transfers import Ended, TwoMemories
from edge_agent.control import step
from edge_agent.planner import predict

# A second apart: 1000 bytes in a second, then 3000 in one.
ENDED = (Ended(10.0, 1.1, 1000), Ended(11.0, 1.1, 3000))
RTT_S = 0.1


def test_an_average_is_seconds_over_bytes_and_fades():
    # With a half-life of a second the first counts half: 1.5 s for 3500 bytes.
    assert Average((1.0,))(ENDED, RTT_S) == [(pytest.approx(1.5 / 3500), 1.0)]
    # For ever: 2 s for 4000 bytes; of both the slower link.
    assert Average((1.0, 1e9))(ENDED, RTT_S) == [(pytest.approx(5e-4), 1.0)]


def test_a_distribution_has_the_mean_and_deviation_of_the_logarithm():
    found = LogNormal(1e9)(ENDED, RTT_S)
    logs = [math.log(s) for s, _ in found]
    wanted = [math.log(1e-3), math.log(1 / 3000)]
    assert sum(w for _, w in found) == pytest.approx(1.0)
    assert sum(logs) / 9 == pytest.approx(sum(wanted) / 2)
    deviation = math.sqrt(sum((v - sum(logs) / 9) ** 2 for v in logs) / 9)
    # Half of the distance of the two; nine middles have 0.931 of a normal deviation.
    assert deviation == pytest.approx(0.931 * 0.5 * math.log(3), rel=0.001)


@pytest.mark.parametrize("memory", [Average((3.0,)), LogNormal(3.0), one_memory(2.5),
                                    TwoMemories()])
def test_of_nothing_nothing_is_remembered(memory):
    assert memory((), RTT_S) == []


def test_one_memory_is_the_agents_without_the_slow_one():
    # 1000 and 3000 bytes, the first a half-life old: 500 to 3000.
    assert one_memory(1.0)(ENDED, RTT_S) == [
        (pytest.approx(1e-3), pytest.approx(1 / 7)),
        (pytest.approx(1 / 3000), pytest.approx(6 / 7))]


def test_constants_are_in_force_for_a_while():
    before = step.STEP_SHARE, predict.STEP_SHARE
    variant = Variant("x", constants=((step, "STEP_SHARE", 0.5), (predict, "STEP_SHARE", 0.5)))
    with variant.in_force():
        assert (step.STEP_SHARE, predict.STEP_SHARE) == (0.5, 0.5)
    assert (step.STEP_SHARE, predict.STEP_SHARE) == before
    for variants in VARIANTS.values():            # what is varied is there
        for variant in variants:
            with variant.in_force():
                pass
