"""The plan in force, and the one frame that goes another way to look. Switching is one assignment.

Every message says what it is, so old and new plans may be in flight together; a frame is run under
the plan it was begun with. The caller holds the lock, but for `next_id`.
"""

from __future__ import annotations

import itertools

from edge_agent.control.step import StepBelief, StepRange
from edge_agent.frames import Plan
from split_core.model.bundle import Bundle


class Plans:
    """What the head thread asks for each frame."""

    def __init__(self, bundle: Bundle, first: Plan, before: Plans | None = None):
        """``before``: those of the deployment that this one follows. Both go on for a moment, so
        they number their plans together."""
        self._bundle, self.current = bundle, first
        self._probe: Plan | None = None
        self._ids = itertools.count(first.plan_id + 1) if before is None else before._ids
        self._ranges: dict[Plan, StepRange | None] = {}
        # Of the plan in force and of the probe; None until the first decision.
        self._beliefs: dict[int, StepBelief] = {}
        self.expected_s: float | None = None     # what the plan in force promised
        self.switches = 0

    def next_id(self) -> int:
        """Of a plan to be. From any thread."""
        return next(self._ids)

    def switch(self, plan: Plan, expected_s: float | None = None) -> None:
        """From the next frame on."""
        self.current, self.expected_s = plan, expected_s
        self._probe = None
        self._ranges.clear()
        self._beliefs.clear()
        self.switches += 1

    def probe(self, plan: Plan) -> None:
        """For one frame. Of the probe before nothing is kept: a plan may be in force for months,
        with a probe a minute."""
        self._ranges = {p: r for p, r in self._ranges.items() if p == self.current}
        self._beliefs = {i: b for i, b in self._beliefs.items() if i == self.current.plan_id}
        self._probe = plan

    def believe(self, plan: Plan, belief: StepBelief) -> None:
        """What the step of a plan's frames is chosen by from now on."""
        self._beliefs[plan.plan_id] = belief

    def peek(self) -> Plan:
        """The plan for the next frame."""
        return self._probe or self.current

    def used(self, plan: Plan) -> None:
        """A frame was begun with it."""
        if plan is self._probe:
            self._probe = None

    def step(self, plan: Plan, left_s: float, waiting: tuple[int, float]) -> int | None:
        """The step (of a picture: the quality) for a frame of a plan; None: as its rung says."""
        belief = self._beliefs.get(plan.plan_id)
        if belief is None or plan.coarsest is None:
            return None
        steps = self._range(plan)
        return None if steps is None else steps.choose(left_s, waiting, belief)

    def asked(self, plan: Plan) -> int | None:
        """The step that a plan's rung asks for, where there is something to choose."""
        steps = self._range(plan)
        return None if steps is None else steps.best

    def _range(self, plan: Plan) -> StepRange | None:
        if plan not in self._ranges:
            self._ranges[plan] = StepRange.of(plan, self._bundle)
        return self._ranges[plan]
