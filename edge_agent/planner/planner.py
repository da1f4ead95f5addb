"""The planner: a state in, a decision out, and now and then a probe. Pure but for what it holds:
the plan in force, and when it last looked elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge_agent.planner.candidates import Candidates, Option, candidates_of
from edge_agent.planner.decide import Choice, Current, Decision, Rules, decide
from edge_agent.planner.explore import Exploration, Probe, probe
from edge_agent.planner.state import DeviceState


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a state led to."""

    decision: Decision
    probe: Probe | None
    candidates: Candidates


class Memory(msgspec.Struct, frozen=True):
    """What a planner remembers from one state to the next."""

    current: Current | None = None
    exploration: Exploration = Exploration()


class Planner:
    """One agent's. Same memory and same states in the same order, same rulings."""

    def __init__(self, options: tuple[Option, ...], rules: Rules, memory: Memory = Memory()):
        self.options, self.rules = options, rules
        self.current, self.exploration = memory.current, memory.exploration
        self._candidates: Candidates | None = None

    @property
    def memory(self) -> Memory:
        """For another to go on from here."""
        return Memory(self.current, self.exploration)

    def candidates(self, workers: tuple[str, ...]) -> Candidates:
        """For these workers; kept as long as they stay the same."""
        if self._candidates is None or self._candidates.workers != workers:
            self._candidates = candidates_of(self.options, workers)
        return self._candidates

    def rule(self, state: DeviceState) -> Ruling:
        """Decide, and remember it."""
        candidates = self.candidates(tuple(w.worker for w in state.workers))
        decision = decide(state, candidates, self.current, self.rules)
        self.current = decision.current
        self.exploration = self.exploration.after(decision)
        found = probe(state, candidates, decision, self.rules, self.exploration)
        if found is not None:
            self.exploration = self.exploration.after_probe(candidates, found,
                                                             state.now_s)
        return Ruling(decision, found, candidates)

    def option(self, choice: Choice) -> Option:
        """The option that a choice names."""
        return next(o for o in self.options if (o.cut, o.rung) == (choice.cut, choice.rung))
