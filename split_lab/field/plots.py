"""The plots of a field test over time: latency by stage, cuts and quality, the link, the battery.

A long run is thinned before it is drawn: neighbouring frames become one column, which shows their
mean and the slowest of them, so that a plot stays a page's worth. `plots` gives all, those by arm
(`arm_plots`) too.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from split_lab.field import arm_plots
from split_lab.field.canvas import inline_svg, log_axis, plain, time_axis
from split_lab.field.colours import OUTCOME_COLOURS
from split_lab.field.records import DecisionRow, FieldRun, FrameRow
from split_lab.field.summary import (
    GROUPS, byte_size, chunks, deadline_ms, is_answered, stage_groups, subject_of,
)

# Columns across a plot of 10 inches; two pixels each on a wide screen.
COLUMNS = 400
# More marks than this of one kind would be a solid bar.
MOST_MARKS = 400
_WIDTH_IN = 10.0
# The same for all, so that what happened together stands above each other.
_LEFT_IN, _RIGHT_IN, _BOTTOM_IN = 1.0, 0.15, 0.48
# Above the axes: the faults' numbers, and these many lines of a legend.
_TOP_IN = (0.22, 0.42, 0.58, 0.76)
# Set apart from the arms' colours, by lightness too, for those who see no hues.
_STAGE_COLOURS = {"device": "#1b4f72", "link": "#e59866", "worker": "#7fb3a8",
                  "fallback": "#b03a5b", "other": "#d5d8dc"}
_STAGE_NAMES = {"device": "device: wait, head, encode", "link": "link",
                "worker": "worker: queue, decode, tail, reply", "fallback": "fallback",
                "other": "other, as waiting for an answer"}
_STAGE_ORDER = {_STAGE_NAMES[g]: i for i, g in enumerate(GROUPS)}
# Behind any model's last op.
_HERE = 1 << 30
_LATE, _LOST, _SWITCH, _PROBE, _FAULT = "#c0392b", "#111827", "#1b4f72", "#b7791f", "#7b2d8b"
_HERE_COLOUR = OUTCOME_COLOURS["local"]
_RUNG_COLOURS = ("#4a3b8f", "#c9a227", "#b8a9d9", "#2f6f6f", "#8a5a44", "#e3a6b5", "#d5d8dc")


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure of the report."""

    name: str
    title: str
    caption: str
    svg: str
    kind: str                        # "wide", "narrow", or "tall": narrow, beside two others


def plots(run: FieldRun) -> list[Plot]:
    """Those for which the run has data."""
    subject = subject_of(run)
    if subject is None:
        return []
    rows = sorted((f for f in run.frames if f.arm == subject), key=lambda f: f.offered_s)
    who, found = plain(subject), []
    if any(is_answered(r) for r in rows):
        found.append(_plot(
            "latency", f"Where {who}'s time went", 3.9, 3, lambda f: _latency(f, run, rows),
            "Each column is a frame, or the mean of a few neighbours; its height is the time from"
            " offer to answer. The thin line is the slowest of each column. Colours that grow say"
            " what held frames up; triangles are frames past the deadline, crosses frames without"
            " an answer, numbered lines the faults listed below."))
        found.append(_plot(
            "plan", f"What {who} chose", 4.2, 1, lambda f: _plan(f, run, rows),
            "Above, where the model was cut and how the boundary was coded; rows further down do"
            " less work on the device. Below, what that coding was predicted to cost in quality,"
            " or in bytes where no divergence is predicted. A plan that follows the link changes"
            " with the next plot; one that flutters changes without it."))
    if run.link:
        truth = any(r.true_bps is not None for r in run.link)
        found.append(_plot(
            "link", "What the agent believed of the link", 3.0, 1, lambda f: _link(f, run),
            ("The belief should follow the truth down at once and up within seconds; the band is"
             " what the link did within a column, shaded where it carried nothing."
             if truth else "On a real link the truth is not known: only the belief is drawn.")))
    found += [_given(*p) for p in arm_plots.arm_plots(run)]
    charge = [(d.at_s, d.battery_wh) for d in run.decisions
              if d.battery_wh is not None and math.isfinite(d.battery_wh)]
    if charge:
        found.append(_plot("battery", "Battery left", 2.2, 0, lambda f: _battery(f, run, charge),
                           "What the agent was told at each of its decisions."))
    return found


def _plot(name: str, title: str, height_in: float, legend_lines: int, draw, caption: str) -> Plot:
    margins_in = _LEFT_IN, _RIGHT_IN, _TOP_IN[legend_lines], _BOTTOM_IN
    svg = inline_svg(name, f"{title}. {caption}", _WIDTH_IN, height_in, draw, margins_in)
    return Plot(name, title, caption, svg, "wide")


def _given(name: str, title: str, width_in: float, height_in: float, draw, caption: str) -> Plot:
    svg = inline_svg(name, f"{title}. {caption}", width_in, height_in, draw)
    return Plot(name, title, caption, svg, "tall" if name == "cdf" else "narrow")


def _span_s(run: FieldRun) -> tuple[float, float]:
    """All of the plots over time begin and end together."""
    ends = [f.offered_s for f in run.frames]
    ends += [d.at_s for d in run.decisions] + [r.at_s for r in run.link]
    ends = [t for t in ends if math.isfinite(t)] or [0.0]
    return min(0.0, min(ends)), max(ends)


def _columns(rows: list[FrameRow]) -> tuple[np.ndarray, list]:
    """Edges in seconds, and the frames between them."""
    columns = chunks(rows, COLUMNS)
    starts = [c[0].offered_s for c in columns]
    width = (rows[-1].offered_s - rows[0].offered_s) / max(1, len(rows) - 1) or 1.0
    return np.array([*starts, rows[-1].offered_s + width]), columns


def _latency(figure, run: FieldRun, rows: list[FrameRow]) -> None:
    axes = figure.subplots()
    edges, columns = _columns(rows)
    answered = [[r for r in c if is_answered(r)] for c in columns]
    slowest = np.array([max((r.total_ms for r in c), default=math.nan) for c in answered])
    limit_ms = deadline_ms(run)
    # A few frames of many seconds must not press all others flat.
    top = max(1.15 * float(np.nanpercentile(slowest, 99)), 1.35 * (limit_ms or 0.0), 1.0)
    spent = [[list(stage_groups(r).values()) for r in c] for c in answered]      # as in GROUPS
    tops = np.cumsum([np.mean(c, axis=0) if c else np.zeros(len(GROUPS)) for c in spent],
                     axis=1).T
    # From zero up, the tallest first: between stacked areas the page would show through.
    areas = {g: axes.fill_between(edges, 0.0, np.append(t, t[-1]), step="post",
                                  color=_STAGE_COLOURS[g], lw=0, zorder=1.5)
             for g, t in reversed(list(zip(GROUPS, tops)))
             if g == GROUPS[0] or (t > tops[GROUPS.index(g) - 1] + 1e-6).any()}
    for group, area in areas.items():
        area.set_label(_STAGE_NAMES[group])
    if len(rows) > len(columns):
        axes.plot(edges, np.append(np.minimum(slowest, top), slowest[-1]), drawstyle="steps-post",
                  color="#374151", lw=0.5, alpha=0.8, label="slowest of the column")
    if limit_ms:
        axes.axhline(limit_ms, color=_LATE, lw=1.1, ls=(0, (5, 3)), label="deadline")
    late = [max((r for r in c if r.late), key=lambda r: r.total_ms, default=None)
            for c in answered]
    _marks(axes, [(r.offered_s, min(r.total_ms, 0.985 * top)) for r in late if r], "^", _LATE,
           "late")
    lost = [c[0].offered_s for c in columns if any(not is_answered(r) for r in c)]
    _marks(axes, [(t, 0.965 * top) for t in lost], "x", _LOST, "no answer")
    axes.set(ylim=(0, top), ylabel="latency (ms)")
    axes.grid(False, axis="x")
    _finish(axes, run)
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: _STAGE_ORDER.get(names[i], len(GROUPS)))
    axes.legend([handles[i] for i in order], [names[i] for i in order],
                ncols=4, handlelength=1.4, columnspacing=1.4, **_above(figure))


def _plan(figure, run: FieldRun, rows: list[FrameRow]) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    edges, columns = _columns(rows)
    answered = [[r for r in c if is_answered(r)] for c in columns]
    kind_of = _kinds(r for c in answered for r in c)
    shown = [Counter((_where(r), kind_of[_rung_kind(r)]) for r in c).most_common(1)
             for c in answered]
    where = sorted({_where(r) for c in answered for r in c})
    kinds = sorted(dict.fromkeys(kind_of.values()), key=_kind_order)
    colours = dict(zip(kinds, _RUNG_COLOURS)) | {"here": _HERE_COLOUR}
    for kind in kinds:
        for place in where:
            spans = _spans(edges, [bool(s) and s[0][0] == (place, kind) for s in shown])
            if spans:
                upper.broken_barh(spans, (where.index(place) - 0.36, 0.72), lw=0,
                                  color=colours[kind])
    handles = [upper.barh(0, 0, color=colours[k]) for k in kinds]
    ticks, names = list(range(len(where))), [_place_name(*w) for w in where]
    below = -1.0
    for label, what, marker, colour in (
            ("switched", [d.at_s for d in run.decisions if d.switched], "v", _SWITCH),
            ("probed", [d.at_s for d in run.decisions if is_probe(d)], "D", _PROBE)):
        if what:
            _marks(upper, [(t, below) for t in what], marker, colour, "")
            ticks.append(below)
            names.append(label)
            below -= 0.8
    upper.set_yticks(ticks, names)
    upper.set_ylim(below + 0.3, len(where) - 0.4)
    upper.tick_params(axis="y", length=0)
    upper.grid(False, axis="y")
    _quality(lower, edges, columns)
    _finish(upper, run)
    _finish(lower, run, numbers=False)
    upper.set_xlabel("")
    upper.tick_params(axis="x", labelbottom=False)
    upper.legend(handles, [plain(k, 16) if k != "here" else "nothing sent" for k in kinds],
                 ncols=8, handlelength=1.2, **_above(figure))


def _quality(axes, edges: np.ndarray, columns: list) -> None:
    """Divergence where it is predicted, else bytes."""
    kls = [[r.kl for r in c if r.kl is not None and r.kl > 0 and math.isfinite(r.kl)]
           for c in columns]
    if any(kls):
        values, write, label = kls, lambda v: f"{v:g}", "divergence\n(nats)"
    else:
        values = [[r.nbytes for r in c if r.nbytes > 0] for c in columns]
        write, label = byte_size, "bytes a frame"
    at = [0.5 * (a + b) for a, b in zip(edges, edges[1:])]
    points = [(t, float(np.exp(np.mean(np.log(v))))) for t, v in zip(at, values) if v]
    axes.set_ylabel(label)
    if not points:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing was sent", transform=axes.transAxes, ha="center",
                  va="center", color="#6b7280")
        return
    axes.plot(*zip(*points), ".", ms=3.5, color=_RUNG_COLOURS[0], mew=0)
    _log_scale(axes, [v for _, v in points], write)


def _link(figure, run: FieldRun) -> None:
    axes = figure.subplots()
    rows = chunks(sorted(run.link, key=lambda r: r.at_s), COLUMNS)
    at = [c[0].at_s for c in rows]
    believed = _each(rows, lambda r: r.believed_bps, np.mean)
    drawn = [believed]
    if any(r.true_bps is not None for c in rows for r in c):
        low, high, mean = (_each(rows, lambda r: r.true_bps, f) for f in (np.min, np.max, np.mean))
        axes.fill_between(at, low, high, step="post", color="#9ca3af", alpha=0.45, lw=0)
        axes.plot(at, mean, drawstyle="steps-post", color="#6b7280", lw=2.6, alpha=0.75,
                  label="truth")
        dead = [any(r.true_bps is not None and r.true_bps <= 0 for r in c) for c in rows]
        spans = _spans(np.array([*at, at[-1] + (at[-1] - at[0]) / max(1, len(at) - 1)]), dead)
        for i, (t, width) in enumerate(spans[:MOST_MARKS]):
            axes.axvspan(t, t + width, color="#fca5a5", alpha=0.45, lw=0,
                         label="" if i else "carried nothing")
        drawn += [low, high]
    axes.plot(at, believed, drawstyle="steps-post", color="#0072b2", lw=1.3, label="belief")
    values = np.concatenate(drawn)
    axes.set_ylabel("link, up")
    _log_scale(axes, values[np.isfinite(values)], _bit_rate)
    _finish(axes, run)
    axes.legend(ncols=4, **_above(figure))


def _battery(figure, run: FieldRun, charge: list[tuple[float, float]]) -> None:
    axes = figure.subplots()
    axes.plot(*zip(*(c[0] for c in chunks(charge, COLUMNS))), color="#0072b2", lw=1.5,
              marker="o" if len(charge) == 1 else "")
    axes.set_ylabel("left (Wh)")
    axes.margins(y=0.15)
    axes.ticklabel_format(axis="y", useOffset=False)
    _finish(axes, run)


# -- pieces

def is_probe(decision: DecisionRow) -> bool:
    """A frame sent another way to learn of the link (`edge_agent.planner.explore`)."""
    return not decision.switched and decision.reason.startswith("probe")


def _finish(axes, run: FieldRun, numbers: bool = True) -> None:
    """The time axis, and the faults."""
    begin_s, end_s = _span_s(run)
    time_axis(axes, begin_s, end_s)
    for number, (at_s, _) in enumerate(run.faults[:MOST_MARKS], 1):
        axes.axvline(at_s, color=_FAULT, lw=0.9, ls=":", zorder=3)
        if numbers and len(run.faults) <= 40:
            axes.annotate(str(number), (at_s, 1), xycoords=("data", "axes fraction"),
                          textcoords="offset points", xytext=(0, 1.5), ha="center", va="bottom",
                          fontsize=7.5, color=_FAULT, annotation_clip=True)


def _above(figure) -> dict:
    """Where a legend stands: over the axes, under the figure's edge."""
    width_in, height_in = figure.get_size_inches()
    return {"loc": "upper left", "borderaxespad": 0, "bbox_transform": figure.transFigure,
            "bbox_to_anchor": (_LEFT_IN / width_in, 1 - 0.05 / height_in)}


def _marks(axes, points: list[tuple[float, float]], marker: str, colour: str, label: str) -> None:
    if points:
        kept = [c[0] for c in chunks(points, MOST_MARKS)]
        axes.plot(*zip(*kept), marker, ms=3.6, color=colour, mew=0.8 if marker == "x" else 0,
                  label=label, zorder=4, clip_on=False)


def _spans(edges: np.ndarray, on: list[bool]) -> list[tuple[float, float]]:
    """Neighbouring columns that are on, as (begin, width)."""
    spans, begin = [], None
    for i, held in enumerate([*on, False]):
        if held and begin is None:
            begin = i
        elif not held and begin is not None:
            spans.append((float(edges[begin]), float(edges[i] - edges[begin])))
            begin = None
    return spans


def _each(rows: list, value, fold) -> np.ndarray:
    """One number a column; a logarithmic axis has no place for nothing."""
    found = ([v for v in map(value, c) if v is not None and v > 0 and math.isfinite(v)]
             for c in rows)
    return np.array([fold(f) if f else math.nan for f in found], dtype=float)


def _log_scale(axes, values, write) -> None:
    axes.set_yscale("log")
    if len(values):
        low, high = float(min(values)), float(max(values))
        # At least a factor of three, or noise would look like change.
        middle = math.sqrt(low * high)
        low, high = min(low / 1.15, middle / 1.75), max(high * 1.15, middle * 1.75)
        axes.set_ylim(low, high)
        log_axis(axes.yaxis, low, high, write)


def _where(row: FrameRow) -> tuple[int, bool]:
    """The cut; all frames finished here as planned, or in a race, are in one place."""
    return (_HERE, True) if row.outcome == "local" else (row.cut, False)


def _place_name(cut: int, here: bool) -> str:
    return "all here" if here else "the input" if cut == 0 else f"cut {cut}"


def _kinds(rows) -> dict[str, str]:
    """What each kind of coding is called; the rarest share a name, and so the last colour."""
    order = [k for k, _ in Counter(map(_rung_kind, rows)).most_common()]
    most = len(_RUNG_COLOURS)
    return {k: k if i < most - 1 or len(order) <= most or k == "here" else "others"
            for i, k in enumerate(order)}


def _kind_order(kind: str) -> tuple[bool, bool]:
    """So that the bundle's own coding has the same colour in every report."""
    return kind == "here", not kind.startswith("calibrated")


def _rung_kind(row: FrameRow) -> str:
    """Calibrated rungs differ frame by frame in their number: one kind."""
    if row.outcome == "local":
        return "here"
    for prefix, kind in (("kl", "calibrated"), ("b", "calibrated")):
        if row.rung.startswith(prefix) and row.rung[len(prefix):len(prefix) + 1].isdigit():
            return kind + (", refined" if row.rung.endswith("+refine") else "")
    return row.rung


def _bit_rate(value: float) -> str:
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} bit/s"
