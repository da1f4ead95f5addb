"""Keep the board cool: the hotter it is, the smaller the share of time it may compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.policies.base import Verdict, View


@dataclass(frozen=True, slots=True)
class Thermal:
    """From ``soft_c`` on the duty allowed falls, to nothing at ``hard_c`` or when the board
    throttles itself. A Pi slows down at 80 to 85 degrees."""

    soft_c: float = 70.0
    hard_c: float = 80.0
    name: str = "thermal"
    hard: bool = False

    def judge(self, view: View) -> Verdict | None:
        state = view.state
        duty = np.minimum(view.costs.cpu_s * state.frame_rate, 1.0)
        if state.throttled:
            return Verdict(np.zeros(len(duty), bool), duty, "the board throttles")
        if state.temperature_c is None or state.temperature_c < self.soft_c:
            return None
        allowed = max(0.0, (self.hard_c - state.temperature_c) / (self.hard_c - self.soft_c))
        return Verdict(duty <= allowed, duty,
                       f"{state.temperature_c:.0f} C allow a duty of {allowed:.2f}")
