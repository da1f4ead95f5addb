"""Figures as SVG that can stand inside a page: the door to matplotlib for plots of runs and plans.

The same drawing gives the same bytes: no date, no hashes, identifiers counted. Text stays text,
set in whatever sans-serif the reader has, and is never read as mathematics. What comes out holds no
address but those that name SVG itself, so that several can be put into one page.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure

from split_core.errors import UsageError
from split_core.files import cannot_write

_SVG, _LINKS = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_LOOK = {
    "font.family": "sans-serif", "font.size": 9.0, "axes.titlesize": 10.0, "axes.labelsize": 9.0,
    "legend.fontsize": 8.5, "legend.frameon": False, "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": "#6b7280", "axes.labelcolor": "#1f2937",
    "xtick.color": "#4b5563", "ytick.color": "#4b5563", "text.color": "#1f2937",
    "grid.color": "#e5e7eb", "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.grid": True,
    "svg.fonttype": "none", "text.parse_math": False, "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True, "path.simplify": True, "path.simplify_threshold": 0.3,
}
# Steps of a time axis, seconds.
_TIME_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
                 14400, 43200, 86400)
_NUMBER = re.compile(r"-?\d+\.\d+")
_ID_USE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(name: str, label: str, width_in: float, height_in: float,
               draw: Callable[[Figure], None],
               margins_in: tuple[float, float, float, float] | None = None) -> str:
    """What ``draw`` puts on a figure, as an ``<svg>`` element. ``name`` begins its identifiers,
    ``label`` is read aloud. Margins (left, right, top, bottom) that are given keep several figures
    in line; others are found."""
    with _look(name):
        figure = Figure(figsize=(width_in, height_in), layout=None if margins_in else "constrained")
        if margins_in:
            left, right, top, bottom = margins_in
            figure.subplots_adjust(left / width_in, bottom / height_in, 1 - right / width_in,
                                   1 - top / height_in, hspace=0.12)
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    _make_inline(root, name, label)
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def save(file: str | Path, width_in: float, height_in: float,
         draw: Callable[[Figure], None]) -> None:
    """What ``draw`` puts on a figure, as a picture; the file's name says of which kind. Raises
    UsageError, and what `files.cannot_write` makes of a place that takes no file."""
    with _look("picture"):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(figure)
        # A PNG has no date unless told; matplotlib's own name in it does no harm.
        dated = Path(file).suffix.lower() in (".svg", ".svgz")
        try:
            figure.savefig(file, dpi=130, metadata={"Date": None} if dated else None)
        except OSError as e:
            raise cannot_write(file, e) from None
        except ValueError as e:                    # an ending that names no kind of picture
            raise UsageError(f"cannot write {file}: {e}") from None


def plain(text: object, longest: int = 40) -> str:
    """What may be drawn of a stranger's text: one line, not too long. matplotlib leaves names
    that begin with an underscore out of legends."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(shown) > longest:
        shown = shown[:longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return "\N{EN DASH}" if not shown else " " + shown if shown.startswith("_") else shown


def time_axis(axes, begin_s: float, end_s: float) -> None:
    """Minutes and seconds along the bottom, at most eleven of them."""
    span_s = max(end_s - begin_s, 0.1)
    step_s = next((s for s in _TIME_STEPS_S if span_s / s <= 10), span_s / 8)
    first = int(-(-begin_s // step_s))
    at = [k * step_s for k in range(first, first + 12) if k * step_s <= end_s]
    axes.set_xlim(begin_s, begin_s + span_s)
    axes.set_xticks(at, [_time(t, step_s) for t in at])
    axes.set_xlabel("time since the test began (" + ("h:mm" if step_s >= 900 else "m:ss") + ")")


def log_axis(axis, low: float, high: float, write: Callable[[float], str]) -> None:
    """A logarithmic axis with its numbers written out: 1, 2 and 5 of each power, or 1 alone."""
    powers = [10.0 ** e for e in range(-12, 16)]
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * p for p in powers for m in mantissas if low <= m * p <= high]
        if len(ticks) <= 8:
            break
    axis.set_ticks(ticks, [write(t) for t in ticks])
    axis.set_ticks([], minor=True)


def _look(salt: str):
    """The look of all figures, whatever the reader's own matplotlibrc says."""
    stack = contextlib.ExitStack()
    stack.enter_context(warnings.catch_warnings())
    # A name in a script that the measuring font lacks; the reader's font has it.
    warnings.filterwarnings("ignore", message="Glyph .* missing")
    stack.enter_context(matplotlib.style.context("default"))
    stack.enter_context(matplotlib.rc_context(_LOOK | {"svg.hashsalt": salt}))
    return stack


def _time(at_s: float, step_s: float) -> str:
    if step_s >= 900:
        return f"{at_s // 3600:.0f}:{at_s % 3600 / 60:02.0f}"
    tenths = round(10 * at_s)
    text = f"{tenths // 600}:{tenths % 600 // 10:02d}"
    return text if step_s >= 1 else f"{text}.{tenths % 10}"


def _make_inline(root: ElementTree.Element, name: str, label: str) -> None:
    """Fit for a page: named, scalable, no identifiers but those in use, two decimals."""
    used = _identifiers_in_use(root)
    names: dict[str, str] = {}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        found = element.attrib.pop("id", None)
        if found in used:
            element.set("id", names.setdefault(found, f"{name}-{len(names) + 1}"))
        for key in ("d", "points", "x", "y", "transform"):
            if key in element.attrib:
                element.set(key, _NUMBER.sub(_two_decimals, element.attrib[key]))
        target = element.attrib.pop(f"{{{_LINKS}}}href", None)
        if target is not None:
            element.set("href", target)
    for element in root.iter():
        if "href" in element.attrib:
            element.set("href", "#" + names[element.attrib["href"][1:]])
        for key, value in element.attrib.items():
            if "url(#" in value:
                element.set(key, _ID_USE.sub(lambda m: f"url(#{names[m[1]]})", value))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    # What matplotlib's style sheet says to everything, said to this figure alone.
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    root.set("role", "img")
    root.set("aria-label", label)
    title = ElementTree.Element(f"{{{_SVG}}}title")
    title.text = label
    root.insert(0, title)


def _identifiers_in_use(root: ElementTree.Element) -> set[str]:
    used = set()
    for element in root.iter():
        target = element.get(f"{{{_LINKS}}}href")
        if target is not None:
            used.add(target[1:])
        for value in element.attrib.values():
            used.update(_ID_USE.findall(value))
    return used


def _two_decimals(match: re.Match) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
