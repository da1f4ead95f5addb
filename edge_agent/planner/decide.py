"""The decision: which candidate is in force from now on, and why.

Limits first, in order, then the aim, then margin and dwell: a plan changes only for a gain that is
worth it, and not before the last change has had its time, unless things got worse. Same state,
same decision: no clock, no chance, no log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from edge_agent.planner.candidates import LOCAL, Candidates
from edge_agent.planner.predict import Costs, Prices, predict
from edge_agent.planner.state import DeviceState
from edge_agent.policies.base import Aim, Limit, View


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides."""

    aim: Aim
    limits: tuple[Limit, ...] = ()
    prices: Prices = Prices()
    # A plan changes for a gain of at least this. Without it plans change almost three times as
    # often, for 0.4 % of latency; at 0.1 a cell is up to 1.5 % slower (bench.beliefs).
    margin: float = 0.05
    # ... and lasts at least this long, unless it became worse than it promised.
    dwell_s: float = 2.0
    # Worse news needs less proof: a plan that now scores this many times what it promised may be
    # left at once.
    worse_ratio: float = 1.3


class Current(msgspec.Struct, frozen=True):
    """The plan in force, as the next decision has to know it."""

    cut: int
    rung: str
    worker: str | None
    race: bool
    since_s: float
    promised: float                  # its score when it was chosen


class Choice(msgspec.Struct, frozen=True):
    """A candidate with what it is predicted to cost, for the record."""

    what: str
    cut: int
    rung: str
    worker: str | None
    race: bool
    score: float
    costs: dict[str, float | None]


class Decision(msgspec.Struct, frozen=True):
    """What is in force from now on."""

    switched: bool
    reason: str                      # "gain 31%", "gain 31%, held 0.8 s of 2 s", "privacy: ..."
    chosen: Choice
    runner_up: Choice | None
    aim: str
    limits: tuple[str, ...]          # what the limits said, those that took something away
    current: Current

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)


def decide(state: DeviceState, candidates: Candidates, current: Current | None,
           rules: Rules) -> Decision:
    """The candidate in force from ``state.now_s`` on. ``candidates`` are for the state's workers
    and its options."""
    view = View(state, candidates, predict(state, candidates, rules.prices))
    allowed, said = allowed_candidates(view, rules.limits)
    score = rules.aim.score(view)
    order = np.lexsort((np.arange(len(score)), np.where(allowed, score, np.inf)))
    best = int(order[0])
    held = _index_of(candidates, current)
    if current is None:
        index, switched, reason = best, True, _first(view, allowed, best, rules.aim, said)
    else:
        index, switched, reason = _settle(state, score, allowed, best, held, current, rules, said)
    others = [int(i) for i in order[:2] if i != index and allowed[i]]
    chosen = choice_of(candidates, view.costs, score, index)
    return Decision(
        switched, reason, chosen,
        choice_of(candidates, view.costs, score, others[0]) if others else None,
        rules.aim.name, tuple(_limits(said)),
        Current(chosen.cut, chosen.rung, chosen.worker, chosen.race, state.now_s, chosen.score)
        if switched or current is None else current)


def allowed_candidates(view: View, limits: Sequence[Limit]
                       ) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Which candidates are left, and what the limits that took some away said."""
    left, said = np.ones(len(view.candidates), bool), []
    for name, why, left in narrowings(view, limits):
        said.append((name, why))
    return left, said


def narrowings(view: View, limits: Sequence[Limit]) -> Iterator[tuple[str, str, np.ndarray]]:
    """What takes candidates away, one after another: its name, why, and which are left then."""
    left = np.ones(len(view.candidates), bool)
    if not view.state.link_up:
        left = view.candidates.local.copy()
        yield "link", "down", left
    elif not view.candidates.workers:
        yield "workers", "none that holds the bundle", left
    for limit in sorted(limits, key=lambda limit: not limit.hard):
        verdict = limit.judge(view)
        if verdict is None or verdict.allowed[left].all():
            continue
        narrowed = left & verdict.allowed
        why = verdict.why
        if not narrowed.any():
            least = verdict.excess[left].min()
            narrowed = left & (verdict.excess <= least * 1.01)
            why += ", which nothing keeps: the nearest"
        left = narrowed
        yield limit.name, why, left


def _index_of(c: Candidates, current: Current | None) -> int | None:
    """Where the plan in force stands; None when it is no candidate any more."""
    if current is None:
        return None
    worker = LOCAL if current.worker is None else (
        c.workers.index(current.worker) if current.worker in c.workers else None)
    for i in np.flatnonzero(c.cut == current.cut):
        if (c.worker[i] == worker and c.race[i] == current.race
                and c.options[c.option[i]].rung == current.rung):
            return int(i)
    return None


def _first(view: View, allowed: np.ndarray, best: int, aim: Aim,
           said: list[tuple[str, str]]) -> str:
    """What the first plan rests on, which has none before it to be better than: the limits that
    took something away, and the aim where it had a choice."""
    words, left = ["the first", *_limits(said)], int(allowed.sum())
    if left > 1 or not said:
        words.append(f"{aim.name}: the best of {left},"
                     f" {1e3 * view.costs.mean_s[best]:.0f} ms predicted")
    return "; ".join(words)


def _limits(said: list[tuple[str, str]]) -> list[str]:
    return [f"{name}: {why}" for name, why in said]


def _settle(state: DeviceState, score: np.ndarray, allowed: np.ndarray, best: int,
            held: int | None, current: Current, rules: Rules,
            said: list[tuple[str, str]]) -> tuple[int, bool, str]:
    """The index in force after another, whether that is a change, and the reason."""
    limits = _limits(said)
    if held is None:
        return best, True, "; ".join(["what was in force is not there any more", *limits])
    if not allowed[held]:
        return best, True, "; ".join(limits)
    if best == held:
        return held, False, "still the best"
    # Where everything is free, nothing is gained.
    gain = 1.0 - score[best] / score[held] if score[held] > 0 else 0.0
    if gain < rules.margin:
        return held, False, f"gain {gain:.0%} under {rules.margin:.0%}"
    age_s = state.now_s - current.since_s
    worse = score[held] > rules.worse_ratio * current.promised
    if age_s < rules.dwell_s and not worse:
        return held, False, f"gain {gain:.0%}, held {age_s:.1f} s of {rules.dwell_s:g} s"
    return best, True, f"gain {gain:.0%}" + (
        f", {score[held] / current.promised:.1f} times what it promised"
        if worse and current.promised > 0 else "")


def choice_of(c: Candidates, costs: Costs, score: np.ndarray, index: int) -> Choice:
    """A candidate by its index."""
    option, worker = c.options[c.option[index]], int(c.worker[index])
    return Choice(c.describe(index), option.cut, option.rung,
                  None if worker == LOCAL else c.workers[worker], bool(c.race[index]),
                  float(score[index]), costs.at(index))
