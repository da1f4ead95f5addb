"""A worker's pulse: rates, quantiles and the past, from made times."""

from __future__ import annotations

import pytest

from cloud_side.observers.vitals import Vitals


def test_the_rate_is_of_the_last_ten_whole_seconds():
    vitals = Vitals(0.0)
    for i in range(400):                                  # twenty a second for twenty seconds
        vitals.on_answered(0.01, 100.0 + i / 20)
    assert vitals.fps(120.0) == pytest.approx(20.0)
    assert vitals.fps(125.0) == pytest.approx(10.0)
    assert vitals.fps(131.0) == 0.0 and vitals.answered == 400


def test_a_worker_that_has_just_begun_is_not_slow():
    vitals = Vitals(100.0)
    for i in range(40):
        vitals.on_answered(0.01, 100.0 + i / 20)
    assert vitals.fps(102.0) == pytest.approx(20.0)


def test_quantiles_are_of_the_last_minute():
    vitals = Vitals(0.0)
    assert vitals.service_ms(0.5, 0.0) is None
    for i in range(1, 101):
        vitals.on_answered(1e-3 * i, 10.0)
    assert vitals.service_ms(0.5, 70.0) == pytest.approx(50.0)
    assert vitals.service_ms(0.95, 70.0) == pytest.approx(95.0)
    assert vitals.service_ms(0.95, 70.1) is None


def test_the_past_has_its_empty_steps():
    vitals = Vitals(1.0, history_s=60.0)
    vitals.on_answered(0.01, 5.0)
    vitals.on_answered(0.01, 6.0)
    vitals.on_refused("shed", 25.0)
    vitals.on_answered(0.01, 39.0)
    assert vitals.history(41.0) == {"step_s": 10.0, "answered": [2, 0, 0, 1, 0],
                                    "refused": [0, 0, 1, 0, 0]}
    assert vitals.refused == {"shed": 1}
    # Bounded: six steps, whatever was before.
    assert vitals.history(70.0)["answered"] == [0, 1, 0, 0, 0, 0]
