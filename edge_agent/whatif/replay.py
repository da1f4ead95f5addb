"""The command `replay`: every decision of a journal made again, as it was or by other rules.

By the same rules the same bytes come out, or the first difference is shown; for other rules see
`open_loop`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import msgspec

from edge_agent.control.decisions import read_moments
from edge_agent.planner.planner import Memory, Planner
from edge_agent.policies.config import rules_of
from edge_agent.whatif.open_loop import Change, render_comparison, what_if
from split_core.errors import JournalError
from split_core.version import VERSION

_MISSING = object()


def run(path: str, change: Change, *, as_json: bool) -> int:
    """Print what came out; 1 where a decision came out otherwise by the same rules."""
    if change.given:
        comparison = what_if(path, change)
        print(json.dumps({"change": change.given, **asdict(comparison)}) if as_json
              else render_comparison(comparison, change))
        return 0
    found = check(path)
    if as_json:
        d = found.difference
        print(json.dumps({
            "decisions": found.decisions, "starts": found.starts, "same": d is None,
            "difference": d and {
                "line": d.line, "part": d.part, "version": d.version,
                "fields": [{"field": n, "recorded": a, "now": b} for n, a, b in d.fields]}}))
    elif found.difference is None:
        print(f"{found.decisions} decision{'s' * (found.decisions != 1)}, all the same")
    else:
        print(render_difference(path, found))
    return 0 if found.difference is None else 1


def render_difference(path: str, found: Check) -> str:
    d = found.difference
    lines = [f"{path}, line {d.line}: the {d.part} differs; {found.decisions} before it are the"
             " same"]
    wide = max(len(name) for name, _, _ in d.fields)
    for name, recorded, now in d.fields:
        lines.append(f"  {name:<{wide}}  recorded {json.dumps(recorded)}")
        lines.append(f"  {'':<{wide}}  now      {json.dumps(now)}")
    if d.version != VERSION:
        lines.append(f"It was recorded by version {d.version}, and this is {VERSION}: only the"
                     " same version promises the same decisions.")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first decision that came out otherwise: (field, recorded, now)."""

    line: int
    part: str                        # "decision" or "probe"
    version: str                     # that wrote it
    fields: tuple[tuple[str, object, object], ...]


@dataclass(frozen=True, slots=True)
class Check:
    """What a replay by the same rules found."""

    decisions: int                   # made again, up to the difference
    starts: int
    difference: Difference | None


def check(path: str) -> Check:
    """Make every decision again, and compare bytes. Raises JournalError, InputError."""
    planner, made, start = None, 0, -1
    for moment in read_moments(path):
        if moment.start != start:
            start, settings = moment.start, moment.settings
            planner = Planner(settings.options, rules_of(settings.policy, settings.cost),
                              settings.memory or Memory())
        ruling = planner.rule(moment.state)
        for part, recorded, now in (
                ("decision", moment.entry.decision, ruling.decision.to_json()),
                ("probe", moment.entry.probe, msgspec.json.encode(ruling.probe))):
            if bytes(recorded) != now:
                return Check(made, start + 1, Difference(
                    moment.line, part, moment.settings.version, differing(recorded, now)))
        made += 1
    if not made:
        raise JournalError(f"{path}: there is no decision in it")
    return Check(made, start + 1, None)


def differing(recorded: bytes, now: bytes) -> tuple[tuple[str, object, object], ...]:
    """Field by field; the whole of it where only the way of writing differs."""
    before, after = (dict(_flat(msgspec.json.decode(text), "")) for text in (recorded, now))
    found = tuple((name, before.get(name, _MISSING), after.get(name, _MISSING))
                  for name in {**before, **after}
                  if before.get(name, _MISSING) != after.get(name, _MISSING))
    found = tuple((name, *("(none)" if v is _MISSING else v for v in pair))
                  for name, *pair in found)
    return found or (("(the same values, written otherwise)", bytes(recorded).decode(),
                      now.decode()),)


def _flat(value: object, name: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{name}[{index}]")
    else:
        yield name, value
