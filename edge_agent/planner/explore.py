"""Looking at paths that are not used, so that a belief about them cannot stay wrong for ever.

All-local tells nothing about the link, and small messages little about large ones. So now and then
one frame goes another way, if that would be better on a better link; it races the device, so the
cost is its coding, its bytes and at most its own delay. Each probe that changes nothing doubles
the wait for the next (ANS, Zhang et al., WWW 2021, forces samples against the same trap). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import numpy as np

from edge_agent.belief.transfers import Scenario
from edge_agent.planner.candidates import LOCAL, Candidates
from edge_agent.planner.decide import Decision, Rules, allowed_candidates
from edge_agent.planner.predict import predict
from edge_agent.planner.state import DeviceState
from edge_agent.policies.base import View

# A step up has to be used within 10 s, however long the link was bad.
FIRST_S = 4.0
LAST_S = 8.0
# What looking may cost: of the mean latency, over all frames. A probe that is predicted to cost
# half a frame's time is made every 25th frame.
COST_SHARE = 0.02
# A probe may be predicted to take this many times what the plan does, as now believed, where it
# cannot race: it must not cost a deadline to learn that the link is still bad.
_MOST_WORSE = 3.0
# As good as a link may have become, relative to the best scenario: while nothing is sent nobody
# knows, while something is it would show. Else the raw input would be looked at for ever, and
# block the link there is.
_HOPED_UNSEEN, _HOPED_SEEN = 1e-3, 0.1


class Probe(msgspec.Struct, frozen=True):
    """One frame's other way."""

    index: int                       # the candidate
    reason: str


@dataclass(frozen=True, slots=True)
class Exploration:
    """When and where the last probe was, and how long to wait for the next."""

    probed_s: float = -1e9
    wait_s: float = FIRST_S
    probed: tuple[int, str] | None = None        # cut and rung

    def after(self, decision: Decision) -> Exploration:
        """A decision was made; one that takes the way of the last probe proves that looking
        pays."""
        chosen = decision.chosen
        if decision.switched and (chosen.cut, chosen.rung) == self.probed:
            return replace(self, wait_s=FIRST_S)
        return self

    def after_probe(self, c: Candidates, found: Probe, now_s: float) -> Exploration:
        option = c.options[c.option[found.index]]
        return Exploration(now_s, min(2 * self.wait_s, LAST_S), (option.cut, option.rung))


def probe(state: DeviceState, c: Candidates, decision: Decision, rules: Rules,
          exploration: Exploration) -> Probe | None:
    """The candidate to try with the next frame; None when nothing is worth looking at."""
    since_s = state.now_s - exploration.probed_s
    if not state.link_up or since_s < exploration.wait_s:
        return None
    costs = predict(state, c, rules.prices)
    view = View(state, c, costs)
    # Soft limits are about every frame; a belief that nobody tests would keep them crossed.
    hard = [limit for limit in rules.limits if limit.hard]
    allowed, _ = allowed_candidates(view, hard)
    # What races is covered, whatever the plan does.
    allowed &= c.race & (c.worker != LOCAL)
    if not allowed.any():
        return None
    chosen = decision.chosen
    hope = _HOPED_UNSEEN if chosen.worker is None else _HOPED_SEEN
    best = min(s.s_per_byte for s in state.scenarios)
    better = msgspec.structs.replace(
        state, scenarios=(Scenario(best * hope, 1.0),), waiting_bytes=0, waiting_s=0.0)
    hoped_costs = predict(better, c, rules.prices)
    hoped = rules.aim.score(View(better, c, hoped_costs))
    current, mean_s = chosen.score, 1e-3 * chosen.costs["mean_ms"]
    extra_s = np.maximum(costs.mean_s - mean_s, 0.0)
    allowed &= extra_s <= COST_SHARE * mean_s * state.frame_rate * since_s
    allowed &= rules.aim.score(view) <= _MOST_WORSE * current
    # Another way than the plan's, and worth it. The smallest message tells enough, and costs least.
    other = np.array([(o.cut, o.rung) != (chosen.cut, chosen.rung) for o in c.options])[c.option]
    other |= np.array([w != chosen.worker for w in (*c.workers, None)])[c.worker]
    allowed &= other & (hoped < (1 - rules.margin) * current)
    if not allowed.any():
        return None
    index = int(np.argmin(np.where(allowed, hoped_costs.nbytes, np.inf)))
    return Probe(index, f"probe of {c.describe(index)}: on a better link"
                        f" {1 - hoped[index] / current:.0%} better")
