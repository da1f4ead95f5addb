"""Meet the deadline at the least cost.

Cost plus a price on mean lateness: the soft service level of Asgar, Nguyen and Katti
(arXiv 2507.19635: sum of costs + lambda times the slack). An endless price is a hard deadline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.policies.base import View

# Frames that may be late before lateness is priced.
TOLERATED_RATIO = 0.02


@dataclass(frozen=True, slots=True)
class Deadline:
    """``slack_price``: money for a second of mean lateness, and for one late frame."""

    slack_price: float = 1.0
    name: str = "deadline"

    def score(self, view: View) -> np.ndarray:
        """Money for a frame."""
        costs = view.costs
        # The outage that is always thought of weighs just that much: rounding must not tip it.
        late = np.maximum(0.0, 1.0 - costs.on_time_ratio - TOLERATED_RATIO - 1e-9)
        slack = np.where(late > 0, costs.slack_s + late, 0.0)
        priced = np.multiply(self.slack_price, slack, out=np.zeros_like(slack), where=slack > 0)
        return costs.money + priced
