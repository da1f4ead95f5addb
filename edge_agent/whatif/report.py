"""What `edge-agent plan` prints: a few lines, a table of every candidate, or JSON. Pure."""

from __future__ import annotations

import math

import msgspec

from edge_agent.belief.transfers import OUTAGE_S_PER_BYTE
from edge_agent.planner.decide import Choice, Decision
from edge_agent.planner.listing import Judged, finite
from edge_agent.planner.state import DeviceState
from edge_agent.whatif.situation import Outcome

_LABEL, _WIDTH = 13, 99
_LABELLED = "    {:<" + str(_LABEL) + "}{}"


def as_dict(outcome: Outcome) -> dict:
    """Plain values: every number is finite or None."""
    return _finite(msgspec.to_builtins({
        "decision": outcome.decision, "candidates": outcome.candidates, "state": outcome.state}))


def as_json(outcome: Outcome) -> str:
    return msgspec.json.encode(as_dict(outcome)).decode()


def to_draw(outcome: Outcome) -> tuple[list[dict], dict, dict | None]:
    """Candidates, the chosen one and the runner-up, as plain values."""
    candidates, decision = as_dict(outcome)["candidates"], outcome.decision
    by_name = {c["what"]: c for c in candidates}
    runner_up = decision.runner_up and by_name[decision.runner_up.what]
    return candidates, by_name[decision.chosen.what], runner_up


def _finite(value):
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return finite(value) if isinstance(value, float) else value


def render(outcome: Outcome, *, explain: bool = False, notes: list[str] = ()) -> str:
    """For people."""
    decision, state = outcome.decision, outcome.state
    chosen = decision.chosen
    local = next(c for c in outcome.candidates if c.worker is None)
    lines = [chosen.what]
    lines += _labelled("predicted", _costs(chosen.costs))
    lines += _labelled("because", _why(outcome, local))
    if decision.runner_up is not None:
        lines += _labelled("runner-up", _other(decision.runner_up))
    shown = {chosen.what, decision.runner_up and decision.runner_up.what}
    if local.what not in shown:
        lines += _labelled("all local", _other(local).removeprefix("all local: "))
    for said in decision.limits:
        name = said.split(":")[0]
        taken = sum(c.forbidden_by == name for c in outcome.candidates)
        if taken:
            said += f" (forbids {taken} of {len(outcome.candidates)})"
        lines += _labelled("limit", said)
    lines += _labelled("given", _given(state))
    for note in notes:
        lines += _labelled("note", note)
    if explain:
        lines += ["", *table(outcome)]
    return "\n".join(lines)


def _labelled(label: str, text: str) -> list[str]:
    """Broken at spaces, so that no line is too long."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > _WIDTH - 4 - _LABEL:
            lines, line = [*lines, line], word
        else:
            line = f"{line} {word}" if line else word
    return [_LABELLED.format(label if i == 0 else "", text)
            for i, text in enumerate([*lines, line])]


def _why(outcome: Outcome, local: Judged) -> str:
    decision: Decision = outcome.decision
    allowed = sum(c.allowed for c in outcome.candidates)
    what = {"latency": "the least latency", "deadline": "the least cost"}.get(
        decision.aim, f"the least by {decision.aim}")
    why = f"{what} of the {allowed} that are allowed"
    if allowed == 1:
        why = "nothing else is allowed"
    gains = []
    if decision.runner_up is not None:
        gains.append(_better(decision.chosen, decision.runner_up, "the runner-up"))
    if decision.chosen.worker is not None and getattr(decision.runner_up, "worker", True):
        gains.append(_better(decision.chosen, local, "all local"))
    return ", ".join([why, *filter(None, gains)])


def _better(chosen: Choice, other: Choice | Judged, name: str) -> str | None:
    """How much; None where what is forbidden would be better."""
    gain = 1 - chosen.score / other.score if other.score else 0.0
    if abs(gain) < 0.005:
        return f"level with {name}"
    return f"{gain:.0%} better than {name}" if gain > 0 else None


def _other(c: Choice | Judged) -> str:
    by = f", forbidden by {c.forbidden_by}" if isinstance(c, Judged) and c.forbidden_by else ""
    return f"{c.what}: {_costs(c.costs)}{by}"


def _costs(costs: dict[str, float | None]) -> str:
    kl = costs["kl"]
    if kl is None:
        loss = "loss unknown"
    else:
        loss = f"{kl:.3f} nats off" if kl else "no loss"
    return (f"{ms(costs['mean_ms'])} mean, {ms(costs['p95_ms'])} p95,"
            f" {costs['on_time_ratio']:.0%} on time, {size(costs['bytes'])},"
            f" {joules(costs['energy_j'])}, {loss}")


def _given(state: DeviceState) -> str:
    words = []
    if state.link_up:
        rates = [8 / s.s_per_byte for s in state.scenarios]
        outage = next((i for i, s in enumerate(state.scenarios)
                       if s.s_per_byte == OUTAGE_S_PER_BYTE), None)
        less = ""
        if outage is not None and len(rates) > 1:
            del rates[outage]
            less = f" but for {state.scenarios[outage].weight:.0%} of outages"
        words += [f"uplink {_rates(rates)}{less}", f"round trip {ms(1e3 * state.rtt_s)}"]
    else:
        words.append("link down")
    words.append(f"whole model here {ms(1e3 * sum(state.segment_s))}")
    words += [f"{w.worker} {ms(1e3 * w.service_s[0])} with coding"
              + (f" after waiting {ms(1e3 * w.queue_s)}" if w.queue_s else "")
              for w in state.workers[:3]]
    if len(state.workers) > 3:
        words.append(f"and {len(state.workers) - 3} workers more")
    words.append(f"deadline {ms(1e3 * state.deadline_s)}")
    words.append(f"{state.frame_rate:g} frame{'s' * (state.frame_rate != 1)} a second")
    return ", ".join(words)


def _rates(found: list[float]) -> str:
    if len(found) > 4:
        return f"{rate(min(found))} to {rate(max(found))}"
    return " or ".join(map(rate, found))


def table(outcome: Outcome) -> list[str]:
    """Every candidate, the best score first."""
    decision = outcome.decision
    runner_up = decision.runner_up.what if decision.runner_up else None
    rows = sorted(outcome.candidates,
                  key=lambda c: math.inf if c.score is None else c.score)
    wide = min(max(len(c.what) for c in rows), 33)
    lines = [f"   {'candidate':<{wide}} {'score':>9} {'mean':>7} {'p95':>7} {'on t.':>5}"
             f" {'bytes':>7} {'energy':>7} {'nats':>6}"]
    for c in rows:
        mark = "->" if c.what == decision.chosen.what else " 2" if c.what == runner_up else ""
        mark = mark or (" x" if not c.allowed else "")
        costs = c.costs
        kl = "?" if costs["kl"] is None else f"{costs['kl']:.4f}" if costs["kl"] else "0"
        line = (f"{mark:<2} {c.what if len(c.what) <= wide else c.what[:wide - 1] + '~':<{wide}}"
                f" {_score(c.score):>9} {ms(costs['mean_ms']):>7} {ms(costs['p95_ms']):>7}"
                f" {costs['on_time_ratio']:>5.0%} {size(costs['bytes']):>7}"
                f" {joules(costs['energy_j']):>7} {kl:>6} {c.forbidden_by or ''}")
        lines.append(line.rstrip())
    unit = {"latency": "mean seconds, late and raced frames weighted",
            "deadline": "money a frame"}.get(decision.aim, decision.aim)
    return [*lines, "", "-> chosen, 2 runner-up, x forbidden by the limit in the last column;",
            f"score: {unit}"]


def _score(score: float | None) -> str:
    return "?" if score is None else f"{score:.4g}"


def ms(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "?"
    return f"{1e-3 * value:.3g} s" if value >= 9999.5 else (
        f"{value:.0f} ms" if value >= 99.5 else f"{value:.3g} ms")


def size(nbytes: float) -> str:
    if nbytes < 999.5:
        return f"{nbytes:.0f} B"
    return f"{1e-3 * nbytes:.3g} kB" if nbytes < 999_500 else f"{1e-6 * nbytes:.3g} MB"


def joules(value: float) -> str:
    return f"{1e3 * value:.3g} mJ" if value < 0.9995 else f"{value:.3g} J"


def rate(bps: float) -> str:
    return f"{1e-6 * bps:.3g} Mbit/s" if bps >= 999_500 else f"{1e-3 * bps:.3g} kbit/s"
