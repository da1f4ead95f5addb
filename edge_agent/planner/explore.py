"""Looking at paths that are not used, so that a belief about them cannot stay wrong for ever.

All-local tells nothing about the link, and small messages little about large ones. So now and then
one frame goes another way, if that would be better on a perfect link; it races the device, so the
cost is its coding, its bytes and at most its own delay. Each probe that changes nothing doubles
the wait for the next (ANS, Zhang et al., WWW 2021, forces samples against the same trap). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from edge_agent.belief.transfers import Scenario
from edge_agent.planner.candidates import LOCAL, Candidates
from edge_agent.planner.decide import Decision, Rules, allowed_candidates
from edge_agent.planner.predict import predict
from edge_agent.planner.state import DeviceState
from edge_agent.policies.base import View

# A step up has to be used within 10 s; a frame in twenty at four frames a second.
FIRST_S = 4.0
LAST_S = 64.0
# A probe may be predicted to take this many times what the plan does, as now believed, where it
# cannot race: it must not cost a deadline to learn that the link is still bad.
_MOST_WORSE = 3.0
# As good as a link gets, relative to the best scenario.
_PERFECT = 1e-3


class Probe(msgspec.Struct, frozen=True):
    """One frame's other way."""

    index: int                       # the candidate
    reason: str


@dataclass(frozen=True, slots=True)
class Exploration:
    """When the last probe was, and how long to wait for the next."""

    probed_s: float = -1e9
    wait_s: float = FIRST_S

    def after(self, decision: Decision, now_s: float) -> Exploration:
        """A decision was made; one that switched proves that looking pays."""
        return Exploration(now_s, FIRST_S) if decision.switched else self

    def after_probe(self, now_s: float) -> Exploration:
        return Exploration(now_s, min(2 * self.wait_s, LAST_S))


def probe(state: DeviceState, c: Candidates, decision: Decision, rules: Rules,
          exploration: Exploration) -> Probe | None:
    """The candidate to try with the next frame; None when nothing is worth looking at."""
    if not state.link_up or state.now_s - exploration.probed_s < exploration.wait_s:
        return None
    view = View(state, c, predict(state, c, rules.prices))
    allowed, _ = allowed_candidates(view, rules.limits)
    # What races is covered, whatever the plan does.
    allowed &= c.race & (c.worker != LOCAL)
    if not allowed.any():
        return None
    best = min(s.s_per_byte for s in state.scenarios)
    perfect = msgspec.structs.replace(
        state, scenarios=(Scenario(best * _PERFECT, 1.0),), waiting_bytes=0)
    hoped = rules.aim.score(View(perfect, c, predict(perfect, c, rules.prices)))
    now = rules.aim.score(view)
    index = int(np.argmin(np.where(allowed, hoped, np.inf)))
    current = decision.chosen.score
    if hoped[index] >= (1 - rules.margin) * current or now[index] > _MOST_WORSE * current:
        return None
    return Probe(index, f"probe of {c.describe(index)}: on a perfect link"
                        f" {1 - hoped[index] / current:.0%} better")
