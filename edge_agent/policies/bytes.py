"""A data budget: what may still be sent today, over the frames that will still come. Hard:
all-local sends nothing, so something is always allowed."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.policies.base import Verdict, View


@dataclass(frozen=True, slots=True)
class ByteBudget:
    name: str = "bytes"
    hard: bool = True

    def judge(self, view: View) -> Verdict | None:
        state = view.state
        if state.budget_bytes is None or not state.budget_s:
            return None
        frames = max(state.frame_rate * state.budget_s, 1.0)
        allowed = max(state.budget_bytes, 0.0) / frames
        return Verdict(view.costs.nbytes <= allowed, view.costs.nbytes,
                       f"{allowed:.0f} bytes a frame are left")
