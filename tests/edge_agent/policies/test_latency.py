"""The aim "latency"."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.policies.latency import Latency
from tests.edge_agent.planner.making import AT_LATE, AT_MIDDLE, AT_MIDDLE_RACED, view


def scored(**columns) -> list[float]:
    return Latency().score(view(**columns)).tolist()


def test_the_mean_decides():
    scores = scored(mean_s=[0.3, 0.3, 0.2, 0.2, 0.5, 0.5, 0.6])
    assert scores == pytest.approx([0.3, 0.303, 0.2, 0.202, 0.5, 0.505, 0.6])
    assert np.argmin(scores) == AT_MIDDLE, "a race that wins nothing is not begun"


def test_a_race_is_begun_for_more_than_a_hundredth():
    scores = scored(mean_s=[9, 9, 0.2, 0.197, 9, 9, 9])
    assert np.argmin(scores) == AT_MIDDLE_RACED


def test_of_equals_the_one_on_time():
    scores = scored(mean_s=[0.5] * 7, on_time_ratio=[0, 0, 0.9, 0.9, 1.0, 1.0, 0.5])
    assert np.argmin(scores) == AT_LATE
    assert scores[0] == pytest.approx(0.75), "late for certain is half again as slow"


def test_a_score_is_above_nothing():
    assert min(scored(mean_s=[1e-9] * 7, on_time_ratio=[0.0] * 7)) > 0
