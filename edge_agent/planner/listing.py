"""Every candidate as the decision saw it, for people and records: what it would cost, and which
limit forbids it. From the same limits, aim and predictions as the decision. Pure.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from edge_agent.planner.candidates import Candidates
from edge_agent.planner.decide import Rules, choice_of, narrowings
from edge_agent.planner.predict import predict
from edge_agent.planner.state import DeviceState
from edge_agent.policies.base import View


class Judged(msgspec.Struct, frozen=True):
    """One candidate. None: no finite number, or unknown."""

    what: str
    cut: int
    rung: str
    worker: str | None
    race: bool
    allowed: bool
    forbidden_by: str | None         # the first limit that took it away
    score: float | None              # of the aim; less is better
    device_ms: float | None          # computing here: head and coding, and what is expected
    #                                  of the race or the fallback
    costs: dict[str, float | None]


def list_candidates(state: DeviceState, candidates: Candidates,
                    rules: Rules) -> tuple[Judged, ...]:
    """All of them, in their order. ``candidates`` are for the state's workers and its options."""
    view = View(state, candidates, predict(state, candidates, rules.prices))
    score, by = rules.aim.score(view), forbidden_by(view, rules)
    listed = []
    for index, device_s in enumerate(view.costs.cpu_s):
        choice = choice_of(candidates, view.costs, score, index)
        listed.append(Judged(
            choice.what, choice.cut, choice.rung, choice.worker, choice.race, by[index] is None,
            by[index], finite(choice.score), finite(1e3 * float(device_s)),
            {name: finite(value) for name, value in choice.costs.items()}))
    return tuple(listed)


def forbidden_by(view: View, rules: Rules) -> list[str | None]:
    """The limit that took each candidate away; None for what is left."""
    by: list[str | None] = [None] * len(view.candidates)
    before = np.ones(len(by), bool)
    for name, _, left in narrowings(view, rules.limits):
        for index in np.flatnonzero(before & ~left):
            by[index] = name
        before = left
    return by


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
