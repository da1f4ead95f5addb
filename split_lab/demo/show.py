"""`edge-agent demo`: a meter reader split between two processes, before your eyes.

A broker and a worker start beside each other, the agent behind an emulated uplink. Half way
the link dies for three seconds: watch the outcomes. At the end the same frames go all-local
and as JPEG to the server.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from split_core.model.bundle import open_bundle
from split_lab.demo.arms import DEADLINE_MS, Arm, Read, run_arm
from split_lab.demo.stack import Stack, running_stack
from split_lab.split import split_model

RATE_BPS = 125_000            # 1 Mbit/s: a middling LTE uplink
DELAY_S = 0.015
FPS = 25.0
OUTAGE_S = 3.0
COMPARE_FRAMES = 150
_STYLE = {"remote": "green", "local": "cyan", "fallback": "yellow", "dropped": "dim",
          "failed": "bold red"}
_ROWS = 12
# Of the live table: name and justification. Whole in a window of 80 columns; what a narrow one has
# no room for goes first in this order.
_COLUMNS = {"frame": "right", "reads": "left", "truth": "left", "outcome": "left", "cut": "right",
            "bytes": "right", "head": "right", "link": "right", "tail": "right",
            "fallback": "right", "total ms": "right"}
_WHOLE_COLUMNS = 80
_LEFT_OUT = ("fallback", "tail", "head")


class Screen:
    """The live table: the last frames, the counts, the state of the link."""

    def __init__(self, frames: int):
        self.frames, self.link_up = frames, True
        self._last: deque[Read] = deque(maxlen=_ROWS)
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, read: Read) -> None:
        with self._lock:
            self._last.append(read)
            outcome = read.answer.outcome.value
            self._counts[outcome] = self._counts.get(outcome, 0) + 1

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        shown = [n for n in _COLUMNS
                 if options.max_width >= _WHOLE_COLUMNS or n not in _LEFT_OUT]
        table = Table(box=None, padding=(0, 1, 0, 0), expand=True)
        for name in shown:
            table.add_column(name, justify=_COLUMNS[name], no_wrap=True)
        with self._lock:
            last, counts = list(self._last), dict(self._counts)
        for read in last:
            cells = dict(zip(_COLUMNS, _cells(read), strict=True))
            table.add_row(*(cells[n] for n in shown))
        for _ in range(_ROWS - len(last)):
            table.add_row()
        done = sum(counts.values())
        link = Text(" link up ", "black on green") if self.link_up else Text(
            " LINK CUT ", "bold white on red")
        tally = Text.assemble(link, "  ", *(
            part for k, v in counts.items() for part in ((f"{k} {v}", _STYLE[k]), "  ")))
        yield Panel(Group(table, Text(), tally, ProgressBar(self.frames, done)),
                    title="edge-agent demo: meter reader", border_style="blue",
                    subtitle=f"uplink {8 * RATE_BPS / 1e6:.0f} Mbit/s, {1e3 * DELAY_S:.0f} ms"
                             f" one way (emulated), deadline {DEADLINE_MS:.0f} ms")


def _cells(read: Read) -> list:
    a = read.answer
    right = read.text == read.truth
    stage = {k: f"{v:.1f}" for k, v in a.stages_ms.items()}
    return [
        a.source, Text(read.text or "-", "" if right else "red"), read.truth,
        Text(a.outcome.value, _STYLE[a.outcome.value]), str(a.cut), str(a.payload_bytes),
        stage.get("head", ""), stage.get("link", ""), stage.get("tail", ""),
        stage.get("fallback", ""), Text(f"{a.total_ms:.1f}", "red" if a.late else ""),
    ]


def run_demo(frames: int, as_json: bool) -> int:
    """Run it all; prints the summary. Returns the exit code."""
    logging.getLogger().addHandler(logging.NullHandler())
    # A window that is closed, or `kill`, ends what was started here, too, as control-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = folder / "meter.split.tflite"
        console.print("splitting the meter reader, starting broker and worker ...", style="dim")
        bundle.write_bytes(split_model(
            Path(__file__).with_name("meter.tflite"), answer="sequence",
            labels=_labels(folder), image={"crop": 1.0}))
        with running_stack(folder, rate_Bps=RATE_BPS, delay_s=DELAY_S) as stack:
            arms = [_main_arm(bundle, stack, frames, console, quiet=as_json),
                    *_comparisons(bundle, stack, min(frames, COMPARE_FRAMES), console)]
    report = [a.summary() for a in arms]
    if as_json:
        print(json.dumps({"arms": report, "uplink_bps": 8 * RATE_BPS,
                          "delay_ms": 1e3 * DELAY_S, "deadline_ms": DEADLINE_MS,
                          "outage_s": OUTAGE_S}))
    else:
        _print_summary(report, Console())
    return 0 if all(r["answered"] for r in report) else 1


def _labels(folder: Path) -> Path:
    path = folder / "labels.txt"
    path.write_text("\n".join("0123456789") + "\n")
    return path


def _main_arm(bundle: Path, stack: Stack, frames: int, console: Console, *,
              quiet: bool) -> Arm:
    screen = Screen(frames)
    heal: list[threading.Timer] = []

    def cut_link_half_way(index: int) -> None:
        if index == frames // 2:
            screen.link_up = False
            stack.link.black_hole()
            heal.append(threading.Timer(OUTAGE_S, restore))
            heal[0].start()

    def restore() -> None:
        stack.link.heal()
        screen.link_up = True

    arm = Arm("split")
    try:
        if quiet or not console.is_terminal:
            console.print(f"{frames} frames, the link dies half way ...", style="dim")
            run_arm(arm, bundle, stack.url, frames=range(frames), fps=FPS,
                    on_frame=cut_link_half_way)
        else:
            with Live(screen, console=console, refresh_per_second=12):
                run_arm(arm, bundle, stack.url, frames=range(frames), fps=FPS,
                        on_read=screen.add, on_frame=cut_link_half_way)
                time.sleep(0.5)
    finally:
        for timer in heal:
            timer.cancel()
        restore()
    return arm


def _comparisons(bundle: Path, stack: Stack, frames: int, console: Console) -> list[Arm]:
    last_cut = open_bundle(bundle).last_cut
    runs = (("all-local", last_cut, "raw"), ("jpeg-to-server", 0, "jpeg90"))
    arms = []
    for name, cut, rung in runs:
        console.print(f"for comparison: {name} ...", style="dim")
        arms.append(run_arm(Arm(name), bundle, stack.url, frames=range(frames), fps=FPS,
                            cut=cut, rung=rung))
    return arms


def _print_summary(report: list[dict], console: Console) -> None:
    # Whole in a window of 80 columns, and without lines in one of 60. A plate is right when all
    # four of its digits are.
    lines = {} if console.width >= _WHOLE_COLUMNS else {
        "box": None, "padding": (0, 1, 0, 0), "pad_edge": False}
    table = Table(title="summary; bytes and times are of one frame", title_justify="left",
                  title_style="dim", **lines)
    for name in ("", "frames", "digits", "plates", "bytes", "p50 ms", "p95 ms", "late"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for r in report:
        table.add_row(r["arm"], str(r["answered"]), f"{r['digit_accuracy']:.1%}",
                      f"{r['plate_accuracy']:.1%}", f"{r['bytes_per_frame']:.0f}",
                      f"{r['p50_ms']:.1f}", f"{r['p95_ms']:.1f}", str(r["late"]))
    console.print(table)
    for r in report:
        stages = "  ".join(f"{k} {v:.1f}" for k, v in r["stages_ms"].items())
        outcomes = "  ".join(f"{k} {v}" for k, v in r["outcomes"].items())
        console.print(f"{r['arm']:<15} {outcomes}", highlight=False)
        console.print(Padding(Text(f"median ms by stage: {stages}"), (0, 0, 0, 16)), style="dim")
    first = report[0]
    dead_s = min(OUTAGE_S, (first["frames"] - first["frames"] // 2) / FPS)
    console.print(
        f"\nThe link was dead for {dead_s:.2g} s of the first run, and {first['answered']} of"
        f" its {first['frames']} frames were answered, {first['late']} late.\nThis machine runs"
        f" the whole network in {report[1]['p50_ms']:.1f} ms, so all-local wins here; a Pi Zero"
        " needs tens.\nAt 25 frames a second the JPEGs all but fill the link, and wait for it.\n\nNext: docs/quick-start.md has this"
        " with a broker of your own, and a model of your own.",
        highlight=False)


if __name__ == "__main__":
    sys.exit(run_demo(500, False))
