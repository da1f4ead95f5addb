"""The battery lasts until a given hour: what is left, over the time left, is the power allowed.

Judged anew with every decision, so that what was saved or overspent changes what comes after.
Without a battery reading nobody knows what is left: the least hungry plan is used, since unknown
is not full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.policies.base import Verdict, View

# Kept back: a pack gives less than its label in the cold and at its end.
RESERVE_RATIO = 0.03


@dataclass(frozen=True, slots=True)
class EnergyBudget:
    name: str = "energy"
    hard: bool = False

    def judge(self, view: View) -> Verdict | None:
        state, battery = view.state, view.state.battery
        if battery.mains or state.until_s is None or state.until_s <= 0:
            return None
        frames_w = state.frame_rate * view.costs.energy_j
        if battery.left_wh is None:
            return Verdict(np.zeros(len(frames_w), bool), frames_w, "battery unknown")
        allowed_w = battery.left_wh * (1 - RESERVE_RATIO) * 3600 / state.until_s
        return Verdict(state.energy.base_w + frames_w <= allowed_w, frames_w,
                       f"{battery.left_wh:.3g} Wh for {state.until_s / 3600:.3g} h is"
                       f" {allowed_w:.3g} W")
