"""A journal's decisions made again by other rules, beside those that were recorded.

Open loop: other plans would have met other states (another cut sends other bytes), but these are
the ones that were recorded. What it says of a rule is a first look, not a trial of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log

import msgspec

from edge_agent.belief.beliefs import MESSAGE_BYTES
from edge_agent.control.decisions import Moment, read_moments
from edge_agent.planner.candidates import Option
from edge_agent.planner.decide import Decision
from edge_agent.planner.planner import Planner
from edge_agent.planner.state import Coding, DeviceState
from edge_agent.policies.config import PolicyConfig, rules_of
from edge_agent.whatif.report import joules, ms, size
from split_core.errors import ConfigError, JournalError, UsageError


@dataclass(frozen=True, slots=True)
class Change:
    """Rules other than the recorded ones; None: as recorded."""

    aim: str | None = None
    margin: float | None = None
    dwell_s: float | None = None
    max_kl: float | None = None
    min_cut: int | None = None
    slack_price: float | None = None
    trusted_workers: tuple[str, ...] | None = None

    @property
    def given(self) -> dict[str, object]:
        return {name: value for name in self.__slots__
                if (value := getattr(self, name)) is not None}

    def policy(self, recorded: PolicyConfig) -> PolicyConfig:
        """Raises UsageError for what cannot be, or cannot be told from a journal."""
        changed = msgspec.structs.replace(recorded, **self.given)
        try:
            changed.check()
        except ConfigError as e:
            raise UsageError(str(e)) from None
        if changed.max_kl > recorded.max_kl:
            raise UsageError(f"--max-kl {changed.max_kl:g}: the journal knows what frames cost up"
                             f" to {recorded.max_kl:g}; wanted at most that")
        return changed


@dataclass(slots=True)
class Tally:
    """Predicted costs of one row of decisions, each weighted by how long it was in force."""

    switches: int = 0
    probes: int = 0
    spans: list[float] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    costs: list[dict[str, float | None]] = field(default_factory=list)

    def add(self, decision: Decision, probed: bool, first: bool) -> None:
        self.switches += decision.switched and not first
        self.probes += probed
        self.plans.append(decision.chosen.what)
        self.costs.append(decision.chosen.costs)
        self.spans.append(0.0)           # until the next says how long

    def figures(self) -> dict:
        """Means, and the share of time of each plan."""
        weights = self.spans if sum(self.spans) > 0 else [1.0] * len(self.spans)
        shares: dict[str, float] = {}
        for plan, weight in zip(self.plans, weights):
            shares[plan] = shares.get(plan, 0.0) + weight / sum(weights)
        means = {name: _mean([c[name] for c in self.costs], weights)
                 for name in ("mean_ms", "p95_ms", "on_time_ratio", "energy_j", "bytes", "money",
                              "kl")}
        return {"switches": self.switches, "probes": self.probes, **means,
                "plans": dict(sorted(shares.items(), key=lambda item: -item[1]))}


def _mean(values: list[float | None], weights: list[float]) -> float | None:
    """Of those that are known."""
    known = [(v, w) for v, w in zip(values, weights) if v is not None]
    total = sum(w for _, w in known)
    return sum(v * w for v, w in known) / total if total > 0 else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The recorded decisions beside those by other rules."""

    decisions: int
    starts: int
    seconds: float
    differing: int                   # decisions with another plan in force
    recorded: dict
    changed: dict


def what_if(path: str, change: Change) -> Comparison:
    """Make every decision by other rules, on the recorded states. Raises JournalError, UsageError,
    InputError."""
    recorded, changed, differ = Tally(), Tally(), 0
    planner = last = None
    for moment in read_moments(path):
        first = last is None or moment.start != last.start
        if first:
            policy = change.policy(moment.settings.policy)
            held_back = HeldBack(moment.settings.options, policy)
            planner = Planner(held_back.options, rules_of(policy, moment.settings.cost))
        else:
            for tally in (recorded, changed):
                tally.spans[-1] = max(moment.state.now_s - last.state.now_s, 0.0)
        before = _recorded(path, moment)
        ruling = planner.rule(held_back.state(moment.state))
        recorded.add(before, bytes(moment.entry.probe) != b"null", first)
        changed.add(ruling.decision, ruling.probe is not None, first)
        differ += before.chosen.what != ruling.decision.chosen.what
        last = moment
    if last is None:
        raise JournalError(f"{path}: there is no decision in it")
    return Comparison(len(recorded.plans), last.start + 1, sum(recorded.spans), differ,
                      recorded.figures(), changed.figures())


def _recorded(path: str, moment: Moment) -> Decision:
    try:
        return msgspec.json.decode(moment.entry.decision, type=Decision)
    except msgspec.MsgspecError as e:
        raise JournalError(f"{path}, line {moment.line}: decision: {e}") from None


class HeldBack:
    """Options that may not become as coarse as they were recorded: their least bytes lie between
    the recorded ones, as powers of the divergence (`split_core.model.rate`)."""

    def __init__(self, options: tuple[Option, ...], policy: PolicyConfig):
        self._recorded, self._policy = options, policy
        self._kept = [i for i, o in enumerate(options) if o.kl is None or o.kl <= policy.max_kl]
        self.options = tuple(self._option(options[i]) for i in self._kept)

    def state(self, state: DeviceState) -> DeviceState:
        """The state for these options."""
        codings = tuple(self._coding(self._recorded[i], state.codings[i]) for i in self._kept)
        return msgspec.structs.replace(state, codings=codings)

    def _beyond(self, option: Option) -> bool:
        return option.coarsest_kl is not None and option.coarsest_kl > self._policy.max_kl

    def _option(self, option: Option) -> Option:
        if not self._beyond(option):
            return option
        return msgspec.structs.replace(option, coarsest_kl=max(self._policy.max_kl, option.kl))

    def _coding(self, option: Option, coding: Coding) -> Coding:
        if not self._beyond(option) or option.kl <= 0:
            return coding
        share = log(self._policy.max_kl / option.kl) / log(option.coarsest_kl / option.kl)
        asked, coarsest = (log(max(n - MESSAGE_BYTES, 1.0))
                           for n in (coding.nbytes, coding.coarsest_bytes))
        least = MESSAGE_BYTES + exp(asked + share * (coarsest - asked))
        return msgspec.structs.replace(coding, coarsest_bytes=least)


def render_comparison(c: Comparison, change: Change) -> str:
    def share(value: float) -> str:
        return f"{value:.0%}"

    rows = [("mean latency", "mean_ms", ms), ("p95 latency", "p95_ms", ms),
            ("on time", "on_time_ratio", share), ("energy a frame", "energy_j", joules),
            ("bytes a frame", "bytes", size), ("money a million frames", "money", _money),
            ("divergence, nats", "kl", "{:.4f}".format), ("switches", "switches", str),
            ("probes", "probes", str)]
    plans = list({**c.recorded["plans"], **c.changed["plans"]})
    wide = max(22, *map(len, plans))
    rules = ", ".join(f"{name} {value}" for name, value in change.given.items())
    lines = [f"{c.decisions} decisions in {c.seconds:.0f} s,"
             f" {c.starts} start{'s' * (c.starts != 1)};"
             f" with {rules} {c.differing} of them differ",
             "", f"{'predicted, by time':<{wide}} {'recorded':>10} {'what if':>10}"]
    for label, name, shown in rows:
        pair = ("?" if v is None else shown(v) for v in (c.recorded[name], c.changed[name]))
        lines.append(f"{label:<{wide}} " + " ".join(f"{v:>10}" for v in pair))
    lines += ["", f"{'share of time':<{wide}} {'recorded':>10} {'what if':>10}"]
    for plan in plans:
        pair = (f"{c_['plans'].get(plan, 0.0):.1%}" for c_ in (c.recorded, c.changed))
        lines.append(f"{plan:<{wide}} " + " ".join(f"{v:>10}" for v in pair))
    return "\n".join([*lines, "", "open loop: other plans would have met other states"])


def _money(value: float) -> str:
    return f"{1e6 * value:.3g}"
