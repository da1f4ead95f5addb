"""Nothing leaves the device before a given op, and only to workers that are trusted.

Refuses, never warns: with no worker trusted, or no cut deep enough, everything runs here. It
judges by cut and worker alone, so that probes and races are under it too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.policies.base import Verdict, View


@dataclass(frozen=True, slots=True)
class Privacy:
    """``trusted``: workers' ids; None: all that the broker lets in."""

    min_cut: int = 0
    trusted: tuple[str, ...] | None = None
    name: str = "privacy"
    hard: bool = True

    def judge(self, view: View) -> Verdict:
        c = view.candidates
        allowed = c.cut >= self.min_cut
        why = f"no cut before op {self.min_cut}"
        if self.trusted is not None:
            known = np.array([w in self.trusted for w in c.workers] + [False])
            allowed = allowed & known[c.worker]        # LOCAL is the last
            why += f", trusted {', '.join(self.trusted) or 'nobody'}"
        return Verdict(allowed | c.local, np.zeros(len(c)), why)
