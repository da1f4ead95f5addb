"""What the demo shows, whole in a window of 80 columns and with nothing cut off in one of 60, and
what it leaves behind."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rich")

from rich.console import Console

from edge_agent.frames import Answer, Outcome
from split_lab.demo import show
from split_lab.demo.arms import Arm, Read

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"wait": 100.5, "head": 10.5, "encode": 0.2, "link": 149.2, "queue": 0.1, "decode": 0.4,
          "tail": 10.4, "reply": 0.1, "fallback": 10.6}


def an_arm(name: str) -> Arm:
    answer = Answer(frame_id=499, outcome=Outcome.FALLBACK, reason="link down", source="499",
                    captured_s=0.0, total_ms=243.1, late=False, cut=26, rung="q8", plan_id=1,
                    payload_bytes=12345, stages_ms=STAGES)
    return Arm(name, [Read(answer, "5331", "5339")] * 500)


def shown(width: int, *things) -> str:
    console = Console(file=io.StringIO(), width=width)
    for thing in things:
        console.print(thing)
    return console.file.getvalue()


@pytest.mark.parametrize(("width", "left_out"), [
    (120, ()), (80, ()), (60, ("head", "tail", "fallback"))])
def test_no_column_of_the_live_table_is_cut_off(width, left_out):
    screen = show.Screen(500)
    for read in an_arm("split").reads[:20]:
        screen.add(read)
    text = shown(width, screen)
    assert "…" not in text
    head, *rows = (line.strip("│ ").split() for line in text.splitlines()[1:14])
    names = [name for name in show._COLUMNS if name not in left_out]
    assert head == " ".join(names).split()
    assert rows[0][:4] == ["499", "5331", "5339", "fallback"] and rows[0][-1] == "243.1"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_figure_of_the_summary_is_cut_off(width):
    report = [an_arm(name).summary() for name in ("split", "all-local", "jpeg-to-server")]
    console = Console(file=io.StringIO(), width=width)
    show._print_summary(report, console)
    text = console.file.getvalue()
    assert "…" not in text and "12345" in text and "jpeg-to-server" in text
    assert all(len(line) <= width for line in text.splitlines())


def processes_in(folder) -> list[int]:
    """What runs by a command line that names ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_demo_leaves_nothing_running_however_it_is_ended(tmp_path, number):
    pytest.importorskip("amqtt")
    pytest.importorskip("ai_edge_litert")
    demo = subprocess.Popen(
        [sys.executable, "-m", "edge_agent.cli", "demo"], env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    with demo.stderr:
        # Says so once broker and worker are there.
        assert any("frames, the link dies" in line for line in demo.stderr)
        assert processes_in(tmp_path)
        demo.send_signal(number)
        demo.stderr.read()
        try:
            assert demo.wait(30) == 130
        finally:
            demo.kill()
            demo.wait()
    assert processes_in(tmp_path) == [] and list(tmp_path.iterdir()) == []
