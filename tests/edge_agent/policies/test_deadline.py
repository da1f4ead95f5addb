"""The aim "deadline", on the example of Asgar, Nguyen and Katti (arXiv 2507.19635, Table 3).

Prefill takes 80 ms for $0.08 on the fast machine or 130 ms for $0.05 on the cheap one, decoding
25 ms for $0.03 or 30 ms for $0.01, and a transfer between them 10 ms for $0.005.
"""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.policies.deadline import Deadline
from tests.edge_agent.planner.making import view

FAST_THEN_FAST, FAST_THEN_CHEAP, CHEAP_THEN_CHEAP = range(3)
TOTAL_MS = (80 + 25, 80 + 10 + 30, 130 + 30)
MONEY = (0.08 + 0.03, 0.08 + 0.005 + 0.01, 0.05 + 0.01)
WORST = [1e3] * 4                     # the other four candidates of a view
HARD = 1e9


def chosen(limit_ms: float, slack_price: float = HARD) -> int:
    on_time = [float(ms <= limit_ms) for ms in TOTAL_MS]
    slack_s = [max(0.0, ms - limit_ms) / 1e3 for ms in TOTAL_MS]
    scores = Deadline(slack_price).score(view(
        mean_s=[1e-3 * ms for ms in TOTAL_MS] + WORST, money=[*MONEY, *WORST],
        on_time_ratio=on_time + [0.0] * 4, slack_s=slack_s + WORST))
    return int(np.argmin(scores))


@pytest.mark.parametrize("limit_ms, plan, total_ms, money", [
    (105, FAST_THEN_FAST, 105, 0.11),
    (119, FAST_THEN_FAST, 105, 0.11),
    (120, FAST_THEN_CHEAP, 120, 0.095),
    (159, FAST_THEN_CHEAP, 120, 0.095),
    (160, CHEAP_THEN_CHEAP, 160, 0.06),
    (1000, CHEAP_THEN_CHEAP, 160, 0.06),
])
def test_the_cheapest_that_keeps_a_hard_deadline(limit_ms, plan, total_ms, money):
    assert chosen(limit_ms) == plan
    assert (TOTAL_MS[plan], MONEY[plan]) == (total_ms, pytest.approx(money))


@pytest.mark.parametrize("limit_ms", [50, 100])
def test_what_nobody_can_keep_is_missed_by_the_least(limit_ms):
    assert chosen(limit_ms) == FAST_THEN_FAST


def test_a_cheap_deadline_is_missed_where_that_saves_more():
    # 55 ms late and one late frame at 2 cents, for 5 cents less; at 10 cents it is not worth it.
    assert chosen(105, 0.02) == CHEAP_THEN_CHEAP
    assert chosen(105, 0.1) == FAST_THEN_FAST
    assert chosen(105, 0.0) == CHEAP_THEN_CHEAP


def test_lateness_is_its_time_and_its_frames_beyond_two_in_a_hundred():
    scores = Deadline(10.0).score(view(
        money=[0.5] * 7, slack_s=[0.0, 0.1, 0.1, 0.1, 0.0, 0.0, 0.0],
        on_time_ratio=[1.0, 0.9, 0.99, 0.98, 0.98, 0.5, 0.97]))
    assert scores == pytest.approx([0.5, 0.5 + 10 * (0.1 + 0.08), 0.5, 0.5, 0.5,
                                    0.5 + 10 * 0.48, 0.5 + 10 * 0.01])


def test_among_those_on_time_money_alone_decides():
    scores = Deadline(HARD).score(view(mean_s=[9, 1, 5, 1, 1, 1, 1], money=[3, 3, 1, 2, 3, 3, 3]))
    assert int(np.argmin(scores)) == 2
