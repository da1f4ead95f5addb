"""A field test as a folder: a page to read, tables to reckon with, a summary for programs.

The page is one file, without scripts and without addresses, so it can be mailed and kept. Whatever
came from outside (names, reasons, notes) is text on it and nothing else. Each file appears whole
or not at all, the page last. The same run gives the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from split_core.errors import UsageError
from split_core.files import write_whole
from split_lab.field.page import page
from split_lab.field.records import FieldRun
from split_lab.field.summary import summarize

STAGES = ("wait", "head", "encode", "link", "queue", "decode", "tail", "reply", "fallback")


def write_report(run: FieldRun, folder: Path) -> Path:
    """Write the folder; the path of its page. Raises UsageError where matplotlib is missing, before
    anything is written, and what `files.cannot_write` makes of a folder that takes no file."""
    try:
        from split_lab.field.plots import plots
    except ImportError as e:
        raise UsageError(f"the report needs the extra `plot`: pip install 'edge-agent[plot]' ({e})"
                         ) from None
    folder = Path(folder)
    files = {"frames.csv": frames_csv(run), "decisions.csv": decisions_csv(run),
             "link.csv": link_csv(run),
             "summary.json": json.dumps(summarize(run), indent=1, allow_nan=False) + "\n",
             "report.html": page(run, plots(run))}
    for name, text in files.items():
        # What is no character (half a surrogate pair) must not cost the report.
        write_whole(folder / name, text.encode("utf-8", "replace"))
    return folder / "report.html"


def frames_csv(run: FieldRun) -> str:
    """One line a frame, all arms; a stage that a frame did not go through is empty."""
    others = sorted({k for f in run.frames for k in f.stages_ms} - set(STAGES))
    header = ["arm", "index", "offered_s", "outcome", "reason", "late", "total_ms", "cut", "rung",
              "worker", "payload_bytes", "energy_j", "kl_nats", "plan_id",
              *(f"{s}_ms" for s in (*STAGES, *others))]
    return _csv(header, ([
        f.arm, f.index, f.offered_s, f.outcome, f.reason, bool(f.late), f.total_ms, f.cut, f.rung,
        f.worker, f.nbytes, f.energy_j, f.kl, f.plan_id,
        *(f.stages_ms.get(s) for s in (*STAGES, *others))] for f in run.frames))


def decisions_csv(run: FieldRun) -> str:
    """One line a decision of the adaptive arm."""
    return _csv(["at_s", "what", "reason", "switched", "cut", "predicted_ms", "battery_wh"], (
        [d.at_s, d.what, d.reason, bool(d.switched), d.cut, d.predicted_ms, d.battery_wh]
        for d in run.decisions))


def link_csv(run: FieldRun) -> str:
    """One line a moment; no truth on a real link."""
    return _csv(["at_s", "believed_bps", "true_bps"],
                ([r.at_s, r.believed_bps, r.true_bps] for r in run.link))


def _csv(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """RFC 4180: commas, CRLF, quotes where needed and doubled within."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows([_cell(v) for v in row] for row in rows)
    return file.getvalue()


def _cell(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # A tenth of a millisecond within a day, and no tails such as 0.30000000000000004.
        return f"{value:.9g}" if math.isfinite(value) else ""
    return value
