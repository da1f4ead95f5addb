"""The numbers of a field test, and what they say in words.

A frame without an answer (dropped, failed) has no latency: it counts as not meeting the deadline
and stays out of means and percentiles. An arm that answers little can look fast that way, so arms
are compared in latency only if they answered about as many frames as the best did. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from split_lab.field.records import FieldRun, FrameRow

OUTCOMES = ("remote", "local", "fallback", "dropped", "failed")
# Which stages of a frame are spent where; "other" is what no stage accounts for, as the waiting
# for an answer before a fallback.
STAGE_GROUPS = {"device": ("wait", "head", "encode"), "link": ("link",),
                "worker": ("queue", "decode", "tail", "reply"), "fallback": ("fallback",)}
GROUPS = (*STAGE_GROUPS, "other")
SUBJECT, ORACLE = "adaptive", "oracle"
# Of the frames answered by the arm that answered most. A fiftieth of unanswered frames can hide
# no more than a fiftieth of slow ones; below, a mean says more about what was left out.
COMPARABLE = 0.98
# Means closer than this are called equal: field runs repeat to about 1 %.
LEVEL = 0.01


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """What one arm did. Latencies are of answered frames, None without any; all else is of all
    frames offered."""

    arm: str
    frames: int
    answered: int
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    deadline_met_ratio: float
    bytes_per_frame: float
    energy_j_per_frame: float
    outcomes: dict[str, int]
    switches: int
    stages_ms: dict[str, float]      # mean of each group of `GROUPS`, of answered frames
    cuts: dict[int, float]           # share of answered frames, by cut; all-local ones left out

    @property
    def answered_ratio(self) -> float:
        return self.answered / self.frames if self.frames else 0.0

    @property
    def outcome_shares(self) -> dict[str, float]:
        return {k: n / self.frames for k, n in self.outcomes.items()}


def summarize(run: FieldRun) -> dict:
    """The run as ``summary.json`` has it; every number is finite.

    Frames without an answer (dropped, failed) count as not meeting the deadline and are left out
    of the latencies, which are null for an arm that answered nothing. Bytes and energy are per
    frame offered: what was spent in vain was spent.
    """
    arms = {}
    for f in figures(run).values():
        arms[f.arm] = {
            "frames": f.frames, "mean_ms": f.mean_ms, "p50_ms": f.p50_ms, "p95_ms": f.p95_ms,
            "deadline_met_ratio": f.deadline_met_ratio, "bytes_per_frame": f.bytes_per_frame,
            "energy_j_per_frame": f.energy_j_per_frame, "outcomes": dict(f.outcomes),
            "switches": f.switches}
    return {"arms": arms, "settings": as_json(run.settings)}


def figures(run: FieldRun) -> dict[str, ArmFigures]:
    """By arm, in the order of the run."""
    rows: dict[str, list[FrameRow]] = {}
    for row in run.frames:
        rows.setdefault(row.arm, []).append(row)
    return {arm: _of_arm(arm, found, run.switches.get(arm, 0)) for arm, found in rows.items()}


def _of_arm(arm: str, rows: Sequence[FrameRow], switches: int) -> ArmFigures:
    found = [r for r in rows if is_answered(r)]
    ms = np.array([r.total_ms for r in found], dtype=float)
    points = [None] * 3 if not found else [float(v) for v in np.percentile(ms, (50, 95, 99))]
    counts = Counter(r.outcome for r in rows)
    groups = [stage_groups(r) for r in found]
    cuts = Counter(r.cut for r in found if r.outcome != "local")
    return ArmFigures(
        arm, len(rows), len(found), float(ms.mean()) if found else None, *points,
        sum(not r.late for r in found) / len(rows),
        _mean(r.nbytes for r in rows), _mean(r.energy_j for r in rows),
        {k: counts[k] for k in (*OUTCOMES, *sorted(set(counts) - set(OUTCOMES)))}, int(switches),
        {k: _mean(g[k] for g in groups) for k in GROUPS},
        {cut: cuts[cut] / len(found) for cut in sorted(cuts)})


def is_answered(row: FrameRow) -> bool:
    """Whether there is an answer, and with it a latency."""
    return row.outcome not in ("dropped", "failed") and math.isfinite(row.total_ms)


def stage_groups(row: FrameRow) -> dict[str, float]:
    """Milliseconds by `GROUPS`; together no less than the frame's latency."""
    spent = {group: sum(_or_zero(row.stages_ms.get(s)) for s in stages)
             for group, stages in STAGE_GROUPS.items()}
    return spent | {"other": max(0.0, _or_zero(row.total_ms) - sum(spent.values()))}


def oracle_ratios(found: Mapping[str, ArmFigures]) -> dict[str, float]:
    """Each arm's mean latency as a multiple of the oracle's; empty without an oracle."""
    bound = found[ORACLE].mean_ms if ORACLE in found else None
    return {} if not bound else {arm: f.mean_ms / bound for arm, f in found.items()
                                 if f.mean_ms is not None}


def subject_of(run: FieldRun) -> str | None:
    """The arm the report is about: the adaptive one, or the first."""
    return SUBJECT if SUBJECT in run.arms else next(iter(run.arms), None)


def comparable(found: Mapping[str, ArmFigures]) -> list[ArmFigures]:
    """The arms whose latencies may be compared; the oracle, which is a bound, is none of them."""
    rivals = [f for f in found.values() if f.arm != ORACLE]
    most = max((f.answered_ratio for f in rivals), default=0.0)
    return [f for f in rivals if f.answered and f.answered_ratio >= COMPARABLE * most]


def deadline_ms(run: FieldRun) -> float | None:
    """From the settings ``deadline_ms`` or ``deadline_s``; None when they do not say."""
    for key, factor in (("deadline_ms", 1.0), ("deadline_s", 1000.0)):
        value = run.settings.get(key)
        if isinstance(value, (int, float)) and math.isfinite(value) and value > 0:
            return factor * float(value)
    return None


def chunks(rows: Sequence, most: int) -> list[Sequence]:
    """Neighbours together, so that there are at most ``most`` groups."""
    size = max(1, math.ceil(len(rows) / most))
    return [rows[i:i + size] for i in range(0, len(rows), size)]


def as_json(value):
    """As JSON has it: what is not finite becomes null, what JSON does not know a string."""
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(v) for v in (sorted(value, key=str)
                                     if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


# -- in words

def verdict(run: FieldRun) -> str:
    """One sentence: who answered how fast, measured against the bound and the best rival."""
    found, subject = figures(run), subject_of(run)
    if subject is None:
        return "No frames were recorded."
    me = found[subject]
    if me.mean_ms is None:
        return (f"{_name(subject)} answered none of its {me.frames} frames"
                + _and_the_best(found, subject) + ".")
    order = sorted(comparable(found), key=lambda f: f.mean_ms)
    rivals = [f for f in order if f.arm != subject]
    if me not in order:
        return (f"{_name(subject)} answered only {percent(me.answered_ratio)} of its frames, those"
                f" in {milliseconds(me.mean_ms)} in the mean, too few to be compared"
                + _and_the_best(found, subject) + ".")
    against = _against_oracle(found, subject)
    mine = f"{milliseconds(me.mean_ms)} in the mean"
    if not rivals:
        return f"{_name(subject)} answered in {mine}" + (f", {against}" if against else "") + "."
    best = rivals[0]
    ratio = best.mean_ms / me.mean_ms
    if ratio < 1 - LEVEL:
        return (f"{_name(best.arm)} was fastest, with {milliseconds(best.mean_ms)} in the mean;"
                f" {subject} took {milliseconds(me.mean_ms)}, {percent(1 / ratio - 1)} more"
                + (f", and was {against}" if against else "") + ".")
    if ratio <= 1 + LEVEL:
        rival = f"level with the best other arm, {best.arm}, with {milliseconds(best.mean_ms)}"
    elif ratio < 1.2:
        rival = (f"{percent(1 - 1 / ratio)} below the best other arm, {best.arm}, with"
                 f" {milliseconds(best.mean_ms)}")
    else:
        rival = (f"{ratio:.1f} times as fast as the best other arm, {best.arm}, with"
                 f" {milliseconds(best.mean_ms)}")
    return (f"{_name(subject)} answered in {mine}, " + (f"{against} and " if against else "")
            + rival + ".")


def remarks(run: FieldRun) -> list[str]:
    """What the sentence leaves out: deadlines met, and arms too silent to be compared."""
    found, subject = figures(run), subject_of(run)
    if subject is None:
        return []
    said, me, limit = [], found[subject], deadline_ms(run)
    rivals = [f for f in found.values() if f.arm not in (subject, ORACLE)]
    text = (f"{_name(subject)} met the deadline" + (f" of {milliseconds(limit)}" if limit else "")
            + f" with {percent(me.deadline_met_ratio)} of its frames")
    if rivals:
        best = max(rivals, key=lambda f: f.deadline_met_ratio)
        text += f"; of the others {best.arm} was best, with {percent(best.deadline_met_ratio)}"
    said.append(text + ".")
    may = {f.arm for f in comparable(found)}
    silent = [f for f in rivals if f.arm not in may]
    if silent:
        said.append("Not compared in latency, for they left frames without an answer: " + ", ".join(
            f"{f.arm} (answered {percent(f.answered_ratio)})" for f in silent) + ".")
    return said


def milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if abs(value) < 10 else f"{value:.0f} ms"


def percent(ratio: float) -> str:
    """Never rounds something to nothing, or nearly all to all."""
    if 0 < ratio < 0.02 or 0.98 < ratio < 1:
        return f"{min(max(100 * ratio, 0.1), 99.9):.1f} %"
    return f"{100 * ratio:.0f} %"


def byte_size(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{_three_digits(value / size)} {unit}"
    return f"{value:.0f} B"


def joules(value: float) -> str:
    return f"{_three_digits(value)} J" if value >= 1 else f"{_three_digits(1000 * value)} mJ"


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def clock(at_s: float) -> str:
    """1:05.2, or 2:03:04 from an hour on."""
    tenths = round(10 * at_s)
    minutes, rest = divmod(tenths, 600)
    if minutes < 60:
        return f"{minutes}:{rest // 10:02d}.{rest % 10}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 10:02d}"


def _name(arm: str) -> str:
    return arm[:1].upper() + arm[1:]


def _against_oracle(found: Mapping[str, ArmFigures], arm: str) -> str:
    ratio = oracle_ratios(found).get(arm)
    if ratio is None or arm == ORACLE:
        return ""
    if abs(ratio - 1) <= LEVEL:
        return "level with the clairvoyant oracle"
    return (f"{percent(abs(ratio - 1))} {'above' if ratio > 1 else 'below'}"
            " the clairvoyant oracle")


def _and_the_best(found: Mapping[str, ArmFigures], subject: str) -> str:
    order = sorted((f for f in comparable(found) if f.arm != subject), key=lambda f: f.mean_ms)
    if not order:
        return ""
    return (f"; {order[0].arm} was fastest, with {milliseconds(order[0].mean_ms)} in the mean of"
            f" the {percent(order[0].answered_ratio)} it answered")


def _or_zero(value) -> float:
    return float(value) if value is not None and math.isfinite(value) else 0.0


def _mean(values) -> float:
    finite = [float(v) for v in values if math.isfinite(v)]
    return math.fsum(finite) / len(finite) if finite else 0.0
