"""The line that `systemctl status` shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.frames import Plan
from edge_agent.observers.recent import RecentSummary
from edge_agent.observers.status_line import status_line
from split_core.wire.rungs import Rung

PLAN = Plan(3, 25, Rung.parse("kl0.02"))
FINE = RecentSummary(60.0, {"remote": 288, "failed": 0}, 0, 4.8, 150.0, 212.4, {}, 2000.0)
SILENT = RecentSummary(60.0, {}, 0, 0.0, None, None, {}, None)


@pytest.mark.parametrize("plan, worker, recent, more, expected", [
    (PLAN, "w1", FINE, {}, "cut 25 kl0.02 at w1, 4.8/s, p95 212 ms"),
    (replace(PLAN, cut=66), None, replace(FINE, fps=30.2), {}, "all here, 30/s, p95 212 ms"),
    (PLAN, None, replace(FINE, late=12, outcomes={"failed": 2}),
     {"missing": "no broker (Connection refused)", "results_waiting": 40},
     "no broker (Connection refused); 40 results kept for the broker;"
     " cut 25 kl0.02 at no worker, 4.8/s, p95 212 ms, 12 late, 2 failed"),
    (PLAN, "w1", SILENT, {}, "cut 25 kl0.02 at w1, no answers in 60 s"),
    (PLAN, "w1", FINE, {"results_waiting": 3}, "cut 25 kl0.02 at w1, 4.8/s, p95 212 ms"),
    (PLAN, "w1", FINE, {"results_lost": 7},
     "7 results lost: too many for the spool; cut 25 kl0.02 at w1, 4.8/s, p95 212 ms"),
])
def test_a_status(plan, worker, recent, more, expected):
    assert status_line(plan, 66, worker, recent, **more) == expected
