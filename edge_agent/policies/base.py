"""What a policy is: a limit that says which candidates are allowed, or an aim that orders them.

A policy sees the state, the candidates and their predicted costs, and answers with arrays; it
neither remembers nor acts. Limits compose: a *hard* one is never crossed; of a *soft* one that
leaves nothing, what exceeds it least is kept, and the decision says so. One aim orders what is
left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge_agent.planner.candidates import Candidates
from edge_agent.planner.predict import Costs
from edge_agent.planner.state import DeviceState


@dataclass(frozen=True, slots=True)
class View:
    """What there is to judge by."""

    state: DeviceState
    candidates: Candidates
    costs: Costs


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which candidates a limit allows, how far each exceeds it, and why, in a few words."""

    allowed: np.ndarray              # bool [n]
    excess: np.ndarray               # float [n], more is worse; for soft limits
    why: str


class Limit(Protocol):
    name: str
    hard: bool

    def judge(self, view: View) -> Verdict | None:
        """None: no limit at the moment."""


class Aim(Protocol):
    name: str

    def score(self, view: View) -> np.ndarray:
        """Less is better; all positive, so that a gain is a ratio."""
