"""The page of a field test's report, as text: numbers and figures in, HTML out. Pure.

Nothing is fetched and nothing runs. Figures stand on white in light and dark; what is too wide for
a small screen moves in a box of its own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from html import escape
from unicodedata import category

from split_lab.field.colours import OTHER_OUTCOME, OUTCOME_COLOURS, arm_colours
from split_lab.field.page_style import STYLE
from split_lab.field.records import FieldRun
from split_lab.field.summary import (
    GROUPS, ORACLE, ArmFigures, as_json, byte_size, clock, comparable, figures, joules,
    milliseconds, oracle_ratios, percent, remarks, subject_of, verdict,
)

# Rows of one list on the page; all are in the tables beside it.
MOST_ROWS = 200
_NONE = "\N{EN DASH}"
# Heading, figure, how it is written, and which is the best.
_COLUMNS = (
    ("mean", lambda f: f.mean_ms, milliseconds, min),
    ("median", lambda f: f.p50_ms, milliseconds, min),
    ("p95", lambda f: f.p95_ms, milliseconds, min),
    ("p99", lambda f: f.p99_ms, milliseconds, min),
    ("in time", lambda f: f.deadline_met_ratio, percent, max),
    ("bytes a frame", lambda f: f.bytes_per_frame, byte_size, min),
    ("energy a frame", lambda f: f.energy_j_per_frame, joules, min),
)


def page(run: FieldRun, plots: Sequence) -> str:
    """The whole page. ``plots`` as of `split_lab.field.plots`."""
    found = figures(run)
    title = _title(run)
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p class="verdict">{_together(verdict(run))}</p>',
        *(f"<p>{_together(r)}</p>" for r in remarks(run)),
        _arms(run, found), _settings(run), *_figures(run, plots), _stages(found), _cuts(run, found),
        _switches(run), _faults(run), _notes(run),
    ]
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing on the page may load or run, whatever slipped into it.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        ' style-src \'unsafe-inline\'; img-src data:">\n'
        '<meta name="color-scheme" content="light dark">\n'
        # Or browsers ask for one where the page is served.
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(p for p in parts if p) + "\n</main>\n</body>\n</html>\n")


def _title(run: FieldRun) -> str:
    s = run.settings
    link = "the link there is" if s.get("link") == "as it is" else s.get("link")
    return str(s.get("title") or "Field test" + (f" of {s['model']}" if s.get("model") else "")
               + (f" over {link}" if isinstance(link, str) else ""))


def text(value: object) -> str:
    """Escaped for text and attributes; what cannot be shown becomes a mark for it."""
    shown = "".join("\N{REPLACEMENT CHARACTER}" if category(c) in ("Cc", "Cs") and c not in "\n\t"
                    else c for c in str(value))
    return escape(shown, quote=True)


def _together(sentence: str) -> str:
    """Escaped, and a number kept on one line with its unit."""
    return re.sub(r"(?<=\d) (?=(ms|%|kB|MB)(\W|$))", "\N{NO-BREAK SPACE}", text(sentence))


def _arms(run: FieldRun, found: dict[str, ArmFigures]) -> str:
    if not found:
        return ""
    ratios, colours, ranked = oracle_ratios(found), arm_colours(found), comparable(found)
    # As written: what reads the same is as good.
    best = {name: write(pick(value(f) for f in ranked))
            for name, value, write, pick in _COLUMNS if ranked}
    several = len(ranked) > 1
    head = ["arm", *(c[0] for c in _COLUMNS), *(["of the oracle"] if ratios else []),
            "how frames ended", "switches"]
    rows = []
    for arm, f in found.items():
        cells = [f'<th scope="row"><span class="swatch" style="background:{colours[arm]}"></span>'
                 f"{text(arm)}</th>"]
        for name, value, write, _ in _COLUMNS:
            v = value(f)
            first = several and f in ranked and v is not None and write(v) == best[name]
            cells.append(_number(_NONE if v is None else write(v), first))
        if ratios:
            cells.append(_number(f"{ratios[arm]:.2f}" if arm in ratios else _NONE, False))
        cells.append(f"<td>{_outcome_bar(f)}</td>")
        cells.append(_number(str(f.switches), False))
        rows.append("<tr>" + "".join(cells) + "</tr>")
    notes = ["Latencies are of answered frames; bytes and energy of all offered."]
    if several:
        notes.append('<span class="best">Marked</span>: the best of its column'
                     + (", among the arms that answered about as many frames as any"
                        if len(ranked) < sum(f.arm != ORACLE for f in found.values()) else "")
                     + (", the oracle left out, which knows the future." if ORACLE in found
                        else "."))
    return ("<h2>Arms</h2>\n" + _table("Arms", head, rows, "arms")
            + '\n<p class="key">' + " ".join(notes) + "</p>\n" + _outcome_key(found))


def _number(shown: str, best: bool) -> str:
    if best:
        return f'<td class="n"><strong class="best">{shown}</strong></td>'
    return f'<td class="n">{shown}</td>'


def _outcome_bar(f: ArmFigures) -> str:
    """A bar in the place of numbers; they are read aloud and shown on pointing."""
    shares = [(o, s) for o, s in f.outcome_shares.items() if s > 0]
    said = text(", ".join(f"{o} {percent(s)}" for o, s in shares))
    return (f'<span class="bar" role="img" aria-label="{said}" title="{said}">' + "".join(
        f'<span style="width:{100 * s:.2f}%;background:'
        f'{OUTCOME_COLOURS.get(o, OTHER_OUTCOME)}"></span>' for o, s in shares) + "</span>")


def _outcome_key(found: dict[str, ArmFigures]) -> str:
    seen = dict.fromkeys(o for f in found.values() for o, n in f.outcomes.items() if n)
    return '<p class="key">' + " ".join(
        f'<span class="item"><span class="swatch" style="background:'
        f'{OUTCOME_COLOURS.get(o, OTHER_OUTCOME)}"></span>{text(o)}</span>' for o in seen) + "</p>"


def _settings(run: FieldRun) -> str:
    items = [(k, v) for k, v in run.settings.items() if k != "title"]
    if not items:
        return ""
    return ('<h2>Settings</h2>\n<dl class="settings">' + "".join(
        f"<div><dt>{text(str(k).replace('_', ' '))}</dt><dd>{text(_plainly(v))}</dd></div>"
        for k, v in items) + "</dl>")


def _plainly(value: object) -> str:
    value = as_json(value)
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_plainly(v)}" for k, v in value.items())
    if isinstance(value, list) and all(isinstance(v, (str, int, float)) for v in value):
        return ", ".join(str(v) for v in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return {None: _NONE, True: "yes", False: "no"}.get(value) if (
        value is None or isinstance(value, bool)) else json.dumps(value, ensure_ascii=False)


def _figures(run: FieldRun, plots: Sequence) -> list[str]:
    """Wide ones alone; two narrow ones beside each other where there is room."""
    if not plots:
        return []
    parts = ["<h2>Figures</h2>", '<div class="figures">']
    for plot in plots:
        parts.append(f'<figure class="{plot.kind}"><h3>{text(plot.title)}</h3>'
                     f'<div class="card" tabindex="0" role="group" aria-label="{text(plot.title)}">'
                     f"{plot.svg}</div><figcaption>{text(plot.caption)}</figcaption></figure>")
    return [*parts, "</div>"]


def _stages(found: dict[str, ArmFigures]) -> str:
    rows = []
    for arm, f in found.items():
        if f.answered:
            rows.append(f'<tr><th scope="row">{text(arm)}</th>' + "".join(
                _number(milliseconds(f.stages_ms[g]) if f.stages_ms[g] >= 0.05 else _NONE, False)
                for g in GROUPS) + _number(milliseconds(f.mean_ms), False) + "</tr>")
    if not rows:
        return ""
    head = ["arm", "device", "link", "worker", "fallback", "other", "all"]
    return ("<h2>Where the time went</h2>\n<p>In the mean of answered frames.</p>\n"
            + _table("Where the time went", head, rows))


def _cuts(run: FieldRun, found: dict[str, ArmFigures]) -> str:
    subject = subject_of(run)
    if subject is None or not found[subject].cuts:
        return ""
    f = found[subject]
    here = 1 - sum(f.cuts.values())
    cuts = [f"{'at the input' if cut == 0 else f'at {cut}'} for {percent(share)}"
            for cut, share in sorted(f.cuts.items(), key=lambda c: -c[1])[:12]]
    sentence = (f"Of the frames it answered, {subject} cut {', '.join(cuts)}"
                + (f" and computed {percent(here)} all here." if here > 1e-9 else "."))
    return f"<p>{_together(sentence)}</p>"


def _switches(run: FieldRun) -> str:
    made = [d for d in run.decisions if d.switched]
    if not run.decisions:
        return ""
    if not made:
        return "<h2>Switches</h2>\n<p>The plan never changed.</p>"
    rows = [f'<tr><td class="n">{clock(d.at_s)}</td><td>{text(d.what)}</td>'
            f"<td>{text(d.reason)}</td>{_number(_predicted(d.predicted_ms), False)}</tr>"
            for d in made[:MOST_ROWS]]
    rest = len(made) - len(rows)
    return (f"<h2>Switches</h2>\n<p>{len(made)} of {len(run.decisions)} decisions changed the"
            " plan.</p>\n"
            + _table("Switches", ["at", "to", "because", "predicted"], rows, "list")
            + (f"\n<p>{rest} more are in <code>decisions.csv</code>.</p>" if rest else ""))


def _predicted(value: float) -> str:
    return milliseconds(value) if math.isfinite(value) else _NONE


def _faults(run: FieldRun) -> str:
    if not run.faults:
        return ""
    rest = len(run.faults) - MOST_ROWS
    return ('<h2>Faults</h2>\n<ol class="faults">' + "".join(
        f'<li><span class="at">{clock(at_s)}</span> {text(what)}</li>'
        for at_s, what in run.faults[:MOST_ROWS]) + "</ol>"
        + (f"\n<p>{rest} more are not listed.</p>" if rest > 0 else ""))


def _notes(run: FieldRun) -> str:
    """What the numbers are not, and where the rest of them is."""
    files = ("Beside this page: <code>frames.csv</code>, <code>decisions.csv</code>,"
             " <code>link.csv</code> and <code>summary.json</code>.")
    return ("<h2>Notes</h2>\n<ul>" + "".join(f"<li>{text(n)}</li>" for n in run.notes)
            + f"<li>{files}</li></ul>")


def _table(name: str, head: Sequence[str], rows: Sequence[str], kind: str = "") -> str:
    """In a box that scrolls by itself, with the keyboard too."""
    return (f'<div class="scroll" tabindex="0" role="group" aria-label="{text(name)}">'
            f'<table class="{kind}"><thead><tr>'
            + "".join(f'<th scope="col">{text(h)}</th>' for h in head)
            + "</tr></thead><tbody>" + "".join(rows) + "</tbody></table></div>")
