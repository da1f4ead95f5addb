"""The step of one frame: as fine as asked where there is time, coarser where there is not.

Plans are slow, the step is fast: it is chosen for each frame when its head has run, from the time
that is left and what the link last carried, within the bounds of the plan. One division and one
look at the cut's curve. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.frames import Plan
from edge_agent.planner.predict import STEP_SHARE
from split_core.model.bundle import Bundle
from split_core.wire.messages import Codec
from split_core.wire.quality import step_index


@dataclass(frozen=True, slots=True)
class StepBelief:
    """What the last decision believed of the way to the worker and back."""

    s_per_byte: float                # of twenty scenarios the link is better in nineteen
    fixed_s: float                   # coding, round trip, and the worker's part


@dataclass(frozen=True, slots=True)
class StepRange:
    """The bounds of one plan: steps of a calibrated cut, or a picture's qualities."""

    best: int                        # a step index or a quality, as asked for
    coarsest: int
    best_bytes: float
    for_bytes: Callable[[float], int]

    @classmethod
    def of(cls, plan: Plan, bundle: Bundle) -> StepRange | None:
        """None for a plan whose rung leaves nothing to choose."""
        if plan.coarsest is None:
            return None
        asked, coarsest = plan.rung, plan.coarsest
        if asked.codec is Codec.IMAGE:
            curve = bundle.picture_rate(asked.kind)
            return curve and cls(int(asked.level), int(coarsest.level),
                                 curve.bytes(int(asked.level)), curve.quality_for_bytes)
        rate = bundle.rate(plan.cut)
        if rate is None:
            return None
        index = step_index(asked, rate)
        return cls(index, step_index(coarsest, rate), rate.bytes(index), rate.index_for_bytes)

    def choose(self, left_s: float, waiting: tuple[int, float], belief: StepBelief) -> int:
        """The step index (the quality) for a frame with ``left_s`` to its deadline, behind so
        many bytes of ours that the link has had for so many seconds."""
        time_s = STEP_SHARE * left_s - belief.fixed_s
        waiting_bytes, waiting_s = waiting
        behind = max(0.0, waiting_bytes - waiting_s / belief.s_per_byte)
        fitting = time_s / belief.s_per_byte - behind
        if fitting >= self.best_bytes:
            return self.best
        if fitting <= 0:
            return self.coarsest
        low, high = sorted((self.best, self.coarsest))
        return min(max(self.for_bytes(fitting), low), high)
