"""The least quality: predicted divergence from the whole model's answer, as calibrated.

What nobody calibrated has no known quality, so it is refused; only what loses nothing passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.policies.base import Verdict, View


@dataclass(frozen=True, slots=True)
class Quality:
    """``max_kl``: nats, at the coarsest step that the plan may take."""

    max_kl: float
    name: str = "quality"
    hard: bool = True

    def judge(self, view: View) -> Verdict:
        c = view.candidates
        worst = np.array([np.nan if o.coarsest_kl is None else o.coarsest_kl
                          for o in c.options])[c.option]
        # Predicted levels lie on a ladder of steps, a little below what was asked.
        allowed = np.nan_to_num(worst, nan=np.inf) <= self.max_kl * (1 + 1e-9)
        return Verdict(allowed | c.local, np.zeros(len(c)), f"at most {self.max_kl:g} nats")
