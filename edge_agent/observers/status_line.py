"""One line on how an agent is doing, for `systemctl status`.

    cut 25 kl0.02 at w1, 4.8/s, p95 212 ms
    no broker (cannot reach b:8883: Connection refused); all here, 4.8/s, p95 390 ms, 12 late
"""

from __future__ import annotations

from edge_agent.frames import Plan
from edge_agent.observers.recent import RecentSummary


def status_line(plan: Plan, last_cut: int, worker: str | None, recent: RecentSummary, *,
                missing: str | None = None, results_waiting: int = 0,
                results_lost: int = 0) -> str:
    """``missing`` is what a remote answer waits for. Degraded things come first, in words."""
    troubles = [missing] if missing else []
    if results_lost:
        troubles.append(f"{results_lost} results lost: too many for the spool")
    elif results_waiting > 1 and missing:
        troubles.append(f"{results_waiting} results kept for the broker")
    frames = [f"{_rate(recent.fps)}/s"]
    if recent.p95_ms is None:
        frames = [f"no answers in {recent.window_s:.0f} s"]
    else:
        frames.append(f"p95 {recent.p95_ms:.0f} ms")
    failed = recent.outcomes.get("failed", 0)
    frames += [f"{count} {what}" for count, what in ((recent.late, "late"), (failed, "failed"))
               if count]
    return "; ".join([*troubles, ", ".join([_where(plan, last_cut, worker), *frames])])


def _where(plan: Plan, last_cut: int, worker: str | None) -> str:
    if plan.cut == last_cut:
        return "all here"
    return f"cut {plan.cut} {plan.rung.name} at {worker or 'no worker'}"


def _rate(fps: float) -> str:
    return f"{fps:.1f}" if fps < 10 else f"{fps:.0f}"
