"""What the planner may choose from, as a picture: bytes on the link against time on the device.

The front of these two is what split computing trades along (Shao and Zhang, IEEE Communications
Magazine 2020): nothing on it can be had with fewer bytes without more computing here. Where on it
the fastest plan lies depends on the link; so colour is the predicted latency.
"""

from __future__ import annotations

import math
from pathlib import Path

from split_core.errors import UsageError
from split_lab.field.summary import byte_size, milliseconds

# Names on the picture besides the chosen; more would stand on each other.
_MOST_NAMES = 9
# Where a name may stand, in points from its mark: beside it, then over and under it, then further.
_PLACES = [(dx * far, dy * far, ha) for far in (1, 1.8, 3, 5) for dx, dy, ha in (
    (7, 5, "left"), (7, -11, "left"), (-7, 5, "right"), (-7, -11, "right"),
    (0, 11, "center"), (0, -17, "center"))]


def plot_plan(candidates: list[dict], chosen: dict, path: str | Path,
              runner_up: dict | None = None) -> None:
    """Draw the candidates to a file, ``.png`` or ``.svg``. Raises UsageError without matplotlib,
    without candidates, or where the file cannot be written."""
    try:
        from split_lab.field import canvas
    except ImportError as e:
        raise UsageError(f"--plot needs matplotlib: pip install 'edge-agent[plot]' ({e})") from None
    drawable = [c for c in candidates if _point(c) is not None]
    if not drawable:
        raise UsageError(f"there is nothing to draw: none of {len(candidates)} candidates has a"
                         " predicted time on the device and a number of bytes")
    canvas.save(path, 9.0, 5.6, lambda figure: _draw(figure, drawable, chosen, runner_up,
                                                     canvas.log_axis, canvas.plain))


def front(candidates: list[dict]) -> list[dict]:
    """Those allowed of which none is better in bytes and in time on the device, by time; of equal
    ones the one predicted to answer first."""
    order = sorted((c for c in candidates if c["allowed"] and _point(c) is not None),
                   key=lambda c: (*_point(c), _mean_ms(c)))
    kept, fewest = [], math.inf
    for c in order:
        if _point(c)[1] < fewest:
            fewest = _point(c)[1]
            kept.append(c)
    return kept


def _point(c: dict) -> tuple[float, float] | None:
    """(ms on the device, bytes)."""
    ms, nbytes = c.get("device_ms"), (c.get("costs") or {}).get("bytes")
    if ms is None or nbytes is None or not math.isfinite(ms) or not math.isfinite(nbytes):
        return None
    return float(ms), max(0.0, float(nbytes))


def _mean_ms(c: dict) -> float:
    """Infinite where the link is down or nothing is predicted."""
    ms = (c.get("costs") or {}).get("mean_ms")
    return math.inf if ms is None or not math.isfinite(ms) else float(ms)


def _draw(figure, candidates: list[dict], chosen: dict, runner_up: dict | None, log_axis,
          plain) -> None:
    axes = figure.subplots()
    sent = [_point(c)[1] for c in candidates if _point(c)[1] > 0] or [1000.0]
    low, high = min(sent) / 1.6, max(sent) * 1.6
    nothing = low / (high / low) ** 0.09           # a place of its own under the axis
    where = {id(c): (_point(c)[0], _point(c)[1] or nothing) for c in [
        *candidates, *(x for x in (chosen, runner_up) if x and _point(x))]}

    axes.set_yscale("log")
    axes.set_ylim(nothing / (high / low) ** 0.05, high)
    log_axis(axes.yaxis, low, high, byte_size)
    axes.set_yticks([nothing, *axes.get_yticks()],
                    ["nothing", *(t.get_text() for t in axes.get_yticklabels())])
    axes.axhspan(nothing / (high / low), low, color="#f3f4f6", lw=0, zorder=0)
    _scatter(figure, axes, candidates, where)
    on_front = front(candidates)
    if len(on_front) > 1:
        axes.plot(*zip(*(where[id(c)] for c in on_front)), drawstyle="steps-post", color="#374151",
                  lw=1.1, zorder=2, label="front: no better in both")
    named = []
    for c, text, size, colour in ((chosen, "chosen", 190, "#c0392b"),
                                  (runner_up, "runner-up", 130, "#1f2937")):
        if c and id(c) in where:
            axes.scatter(*zip(where[id(c)]), s=size, facecolors="none", edgecolors=colour,
                         linewidths=1.8, zorder=5, label=text)
            named.append((c, f"{text}: {plain(c['what'], 44)}", "bold" if c is chosen else "normal",
                          colour))
    taken = {where[id(c)] for c, *_ in named}
    for c in _spread(on_front, where, taken):
        named.append((c, plain(_short(c), 24), "normal", "#4b5563"))
    axes.set_xlim(*_roomy([x for x, _ in where.values()]))
    axes.set(xlabel="time on the device (ms a frame)", ylabel="bytes a frame")
    title = "1 candidate" if len(candidates) == 1 else f"{len(candidates)} candidates"
    forbidden = sum(not c["allowed"] for c in candidates)
    axes.set_title(title + (f", {forbidden} of them forbidden by limits" if forbidden else ""),
                   loc="left")
    figure.legend(loc="outside lower center", ncols=5)
    _name_points(figure, axes, named, where, [where[id(c)] for c in on_front])


def _scatter(figure, axes, candidates: list[dict], where: dict) -> None:
    """The slowest first: where candidates cover each other the fastest is seen."""
    order = sorted(candidates, key=_mean_ms, reverse=True)
    known = [c for c in order if math.isfinite(_mean_ms(c))]
    finite = [max(_mean_ms(c), 0.01) for c in known] or [1.0]
    scale = {"cmap": "viridis_r", "norm": "log", "vmin": min(finite),
             "vmax": max(max(finite), 1.001 * min(finite))}
    allowed = [c for c in known if c["allowed"]]
    if allowed:
        drawn = axes.scatter(*zip(*(where[id(c)] for c in allowed)), s=36, zorder=3, lw=0.5,
                             c=[max(_mean_ms(c), 0.01) for c in allowed], edgecolors="#4b5563",
                             **scale)
        bar = figure.colorbar(drawn, ax=axes, pad=0.015, aspect=30)
        bar.set_label("predicted mean latency")
        bar.outline.set_visible(False)
        ticks = _few(scale["vmin"], scale["vmax"])
        bar.ax.yaxis.set_ticks(ticks, [milliseconds(t) for t in ticks])
        bar.ax.yaxis.set_ticks([], minor=True)
    forbidden = [c for c in order if not c["allowed"]]
    if forbidden:
        axes.scatter(*zip(*(where[id(c)] for c in forbidden)), s=30, facecolors="none",
                     edgecolors="#9ca3af", linewidths=0.9, zorder=2.5, label="forbidden")
    unknown = [c for c in order if c["allowed"] and not math.isfinite(_mean_ms(c))]
    if unknown:
        axes.scatter(*zip(*(where[id(c)] for c in unknown)), s=34, color="#d1d5db", lw=0,
                     zorder=2.5, label="would not be answered")


def _spread(on_front: list[dict], where: dict, taken: set) -> list[dict]:
    """A few of the front, from end to end."""
    free = [c for c in on_front if where[id(c)] not in taken]
    if len(free) <= _MOST_NAMES:
        return free
    step = (len(free) - 1) / (_MOST_NAMES - 1)
    return [free[round(i * step)] for i in range(_MOST_NAMES)]


def _short(c: dict) -> str:
    """Without the worker, which is named with the chosen."""
    return c["what"] if c["worker"] is None else f"cut {c['cut']} {c['rung']}"


def _name_points(figure, axes, named: list[tuple], where: dict, on_front: list[tuple]) -> None:
    """Each name at the place where it covers least of marks and front, and no other name; one that
    finds none is left out, but for the chosen, which is the first."""
    figure.canvas.draw()                     # or nothing has a place yet
    box, boxes = axes.get_window_extent(), []
    # The front as it is drawn: across from a mark, then down to the next.
    corners = [p for a, b in zip(on_front, on_front[1:]) for p in (a, (b[0], a[1]))]
    corners = axes.transData.transform([*corners, *on_front[-1:]]) if on_front else []
    steps = [a + (b - a) * i / 20 for a, b in zip(corners, corners[1:]) for i in range(1, 20)]
    marks = axes.transData.transform(sorted(set(where.values())))
    own = [axes.transData.transform(where[id(c)]) for c, *_ in named]
    for number, (c, text, weight, colour) in enumerate(named):
        places = []
        for dx, dy, ha in _PLACES:
            note = _name(axes, text, where[id(c)], (dx, dy), ha, weight, colour)
            extent = note.get_window_extent().padded(1.5)
            note.remove()
            if (box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0
                    and extent.y1 <= box.y1 and not any(extent.overlaps(b) for b in boxes)):
                # A mark covered is worse than a bit of the front; to seem another's name is worst.
                harm = (3 * _covered(extent, marks) + _covered(extent, steps)
                        + 40 * any(_gap(extent, m) < _gap(extent, own[number]) for m in own))
                places.append((harm, len(places), dx, dy, ha))
        if not places and number:
            continue
        _, _, dx, dy, ha = min(places, default=(0, 0, *_PLACES[0]))
        note = _name(axes, text, where[id(c)], (dx, dy), ha, weight, colour)
        boxes.append(note.get_window_extent().padded(1.5))


def _covered(extent, points) -> int:
    return sum(bool(extent.padded(4).contains(*p)) for p in points)


def _gap(extent, point) -> float:
    """How far a mark is from a name, in pixels."""
    return math.hypot(max(extent.x0 - point[0], 0, point[0] - extent.x1),
                      max(extent.y0 - point[1], 0, point[1] - extent.y1))


def _name(axes, text: str, at: tuple[float, float], offset: tuple[float, float], ha: str,
          weight: str, colour: str):
    """Legible over lines, and tied to its mark where it stands far off."""
    far = max(map(abs, offset)) > 20
    return axes.annotate(
        text, at, xytext=offset, textcoords="offset points", ha=ha, fontsize=8.5,
        fontweight=weight, color=colour, zorder=6,
        bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.8},
        arrowprops={"arrowstyle": "-", "lw": 0.6, "color": colour, "shrinkA": 0} if far else None)


def _roomy(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 1.0
    return low - room, high + room


def _few(low: float, high: float) -> list[float]:
    """Up to six numbers of a logarithmic scale, its ends among them if there is nothing between."""
    for mantissas in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0 ** e for e in range(-3, 10) for m in mantissas
                 if low <= m * 10.0 ** e <= high]
        if len(found) <= 6:
            break
    return found if len(found) > 1 else [low, high]
