"""The plots of a field test that set its arms side by side: latencies, outcomes, bytes, energy.

An arm has the same colour, line and place in all of them.
"""

from __future__ import annotations

import numpy as np

from split_lab.field.canvas import log_axis, plain
from split_lab.field.colours import OTHER_OUTCOME, OUTCOME_COLOURS, arm_colours
from split_lab.field.records import FieldRun
from split_lab.field.summary import (
    OUTCOMES, ArmFigures, byte_size, deadline_ms, figures, is_answered, joules,
)

# Points of a distribution; two pixels apart in height on a wide screen.
_POINTS = 160
_LINES = ("-", (0, (4, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 2)))
_DEADLINE = "#c0392b"


def arm_plots(run: FieldRun) -> list[tuple]:
    """(name, title, width, height, what draws it, caption) of each."""
    found = figures(run)
    rows_in = 0.9 + 0.24 * max(2, len(found))
    made = []
    if any(f.answered for f in found.values()):
        made.append(("cdf", "How often an answer came in time", 5.2, 4.7,
                     lambda f: _distribution(f, run, found),
                     "How much of all frames was answered within the time below. Further left and"
                     " higher is better; a curve that ends below 100 % left frames without an"
                     " answer. Where a curve crosses the dashed line is its share in time."))
    made.append(("outcomes", "How frames ended", 5.2, rows_in + 0.1,
                 lambda f: _outcomes(f, found),
                 "Remote: the worker answered. Local: all on the device, as planned. Fallback:"
                 " finished on the device because the answer would have been late. Dropped and"
                 " failed frames have no answer."))
    made.append(("costs", "What a frame cost", 5.2, rows_in - 0.2, lambda f: _costs(f, found),
                 "Energy of the device above its base load, and payload bytes sent, in the mean"
                 " of all frames offered. Shorter is better."))
    return made


def _distribution(figure, run: FieldRun, found: dict[str, ArmFigures]) -> None:
    axes = figure.subplots()
    colours, handles, names = arm_colours(found), [], []
    low, high = np.inf, 0.0
    for number, (arm, f) in enumerate(found.items()):
        if not f.answered:
            continue
        ms = np.sort([max(r.total_ms, 1e-3) for r in run.frames if r.arm == arm and is_answered(r)])
        # The k-th of n is reached by k/n: a staircase, thinned to its shape.
        k = np.unique(np.linspace(0, len(ms) - 1, min(_POINTS, len(ms))).round().astype(int))
        share = 100.0 * (k + 1) / f.frames
        line = axes.plot([ms[0], *ms[k]], [0.0, *share], drawstyle="steps-post",
                         color=colours[arm], lw=2.4 if number == 0 else 1.5,
                         ls="-" if number == 0 else _LINES[number % len(_LINES)],
                         zorder=3 if number == 0 else 2)
        handles += line
        names.append(plain(arm, 24))
        low = min(low, float(np.percentile(ms, 0.5)))
        high = max(high, float(np.percentile(ms, 99.5)))
    limit_ms = deadline_ms(run)
    if limit_ms:
        handles.append(axes.axvline(limit_ms, color=_DEADLINE, lw=1.1, ls=(0, (5, 3))))
        names.append("deadline")
        low, high = min(low, limit_ms), max(high, limit_ms)
    axes.set_xscale("log")
    low, high = low / 1.15, high * 1.15
    axes.set_xlim(low, high)
    log_axis(axes.xaxis, low, high, lambda ms: f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:g} s")
    axes.set_ylim(0, 101)
    axes.set_yticks(range(0, 101, 20), [f"{p} %" for p in range(0, 101, 20)])
    axes.set(xlabel="latency", ylabel="of all frames")
    longest = max(map(len, names))
    figure.legend(handles, names, loc="outside upper left", handlelength=2.6, columnspacing=1.4,
                  ncols=4 if longest <= 9 else 3 if longest <= 14 else 2)


def _outcomes(figure, found: dict[str, ArmFigures]) -> None:
    axes = figure.subplots()
    base, at = np.zeros(len(found)), range(len(found))
    handles, names = [], []
    for outcome in dict.fromkeys([*OUTCOMES, *(o for f in found.values() for o in f.outcomes)]):
        share = np.array([100.0 * f.outcome_shares.get(outcome, 0.0) for f in found.values()])
        if not share.any():
            continue
        bars = axes.barh(at, share, left=base, height=0.66,
                         color=OUTCOME_COLOURS.get(outcome, OTHER_OUTCOME), lw=0)
        handles.append(bars)
        names.append(plain(outcome, 16))
        base += share
    axes.set_xlim(0, 100)
    axes.set_xticks(range(0, 101, 20), [f"{p} %" for p in range(0, 101, 20)])
    _arm_rows(axes, found)
    figure.legend(handles, names, loc="outside upper left", ncols=5, handlelength=1.2,
                  columnspacing=1.4)


def _costs(figure, found: dict[str, ArmFigures]) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, found, [f.energy_j_per_frame for f in found.values()], joules, "energy a frame")
    _bars(right, found, [f.bytes_per_frame for f in found.values()], byte_size, "bytes a frame")
    right.tick_params(axis="y", length=0)


def _bars(axes, found: dict[str, ArmFigures], values: list[float], write, title: str) -> None:
    colours = arm_colours(found)
    axes.barh(range(len(values)), values, height=0.66, lw=0, color=[colours[a] for a in found])
    most = max(values) or 1.0
    for i, value in enumerate(values):
        axes.annotate(write(value) if value else "none", (value, i), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize=8.5)
    # Room for the longest number behind the longest bar.
    axes.set_xlim(0, 1.38 * most)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title(title, loc="left", fontsize=9)
    _arm_rows(axes, found)


def _arm_rows(axes, found: dict[str, ArmFigures]) -> None:
    """The first arm on top."""
    axes.set_yticks(range(len(found)), [plain(a, 18) for a in found])
    axes.set_ylim(len(found) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
