"""Health: unknown is not a value, merging, what cannot be true."""

from __future__ import annotations

import pytest

from edge_agent.sensors import Health, merge
from edge_agent.sensors.health import PLAUSIBLE


def test_a_later_reading_overrides_only_what_it_knows():
    kernel = Health.of("kernel", battery_ratio=0.5, mains=True)
    board = Health.of("board", battery_ratio=0.4, power_w=None)
    both = merge([kernel, board])
    assert (both.battery_ratio, both.mains, both.power_w) == (0.4, True, None)
    assert both.sources == {"battery_ratio": "board", "mains": "kernel"}
    assert merge([]) == Health()


def test_false_and_zero_are_known():
    health = merge([Health.of("a", mains=True, load1=3.0), Health.of("b", mains=False, load1=0.0)])
    assert (health.mains, health.load1) == (False, 0.0)


@pytest.mark.parametrize(("name", "value"), [
    (name, value) for name, (low, high) in PLAUSIBLE.items()
    for value in (low - 1, 2 * high + 1000, float("nan"), float("inf"))])
def test_what_cannot_be_true_is_unknown(name, value):
    assert Health.of("a", **{name: value}) == Health()


@pytest.mark.parametrize(("name", "value"), [
    (name, value) for name, bounds in PLAUSIBLE.items() for value in bounds])
def test_the_bounds_themselves_can_be_true(name, value):
    assert getattr(Health.of("a", **{name: value}), name) == value


def test_it_is_frozen_and_can_be_hashed():
    with pytest.raises(AttributeError):
        Health().mains = True
    assert len({Health(), Health.of("a", mains=True)}) == 2
