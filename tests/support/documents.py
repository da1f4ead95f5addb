"""Runs what a page of documentation tells people to type.

Every fenced ``console`` block is run, in order, in one shell in an empty folder: lines that begin
with ``$ `` are typed, the lines below are what has to come out. In these ``...`` stands for
anything, alone on a line for any lines, and a number for any number. A block under ``<!-- not run:
REASON -->`` is left out; the reason is for people. Port 1883 becomes the test broker's.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"(?P<note><!--[^>]*-->\n+)?^(?P<indent> *)```console\n(?P<body>.*?)^ *```$",
                    re.M | re.S)
_END = "--end-of-command--"
TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Step:
    """One typed line, and what the page says comes out."""

    command: str
    expected: tuple[str, ...]


def steps_of(page: str) -> list[Step]:
    """What a page has to be run."""
    found = []
    for block in _BLOCK.finditer(page):
        if "not run:" in (block["note"] or ""):
            continue
        command, expected = None, []
        for line in block["body"].splitlines():
            line = line.removeprefix(block["indent"])
            if line.startswith("$ "):
                if command is not None:
                    found.append(Step(command, tuple(expected)))
                command, expected = line[2:], []
            elif command is not None and command.endswith("\\"):
                command += "\n" + line
            elif command is not None:
                expected.append(line)
        if command is not None:
            found.append(Step(command, tuple(expected)))
    return found


def differs(expected: tuple[str, ...], output: str) -> str | None:
    """What came otherwise than promised: the promise, or the line that nobody promised. None when
    all lines came in order and others only where `...` stands for them. Where a page shows nothing
    it promises nothing."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    others = not expected
    for promise in map(str.strip, expected):
        if promise == "...":
            others = True
        elif promise:
            pattern = re.compile(_pattern(promise))
            while lines and others and not pattern.fullmatch(lines[0]):
                del lines[0]
            if not lines or not pattern.fullmatch(lines[0]):
                return promise
            del lines[0]
            others = False
    return None if others or not lines else lines[0]


def _pattern(promise: str) -> str:
    parts = []
    for part in re.split(r"(\.\.\.|\d+(?:\.\d+)?|\s+)", promise):
        if part == "...":
            parts.append(".*")
        elif part and part[0].isdigit():
            parts.append(r"\d+(?:\.\d+)?")
        elif part.isspace():
            parts.append(r"\s+")
        else:
            parts.append(re.escape(part))
    return "".join(parts)


class Shell:
    """A shell in a folder of its own, with the programs of this environment. Ends all it began."""

    def __init__(self, folder: Path, port: int):
        self._port, self._folder = port, folder
        programs = _programs(folder.with_name("programs"))
        environment = {"PATH": f"{programs}:/usr/bin:/bin:/usr/sbin", "HOME": str(folder),
                       "LANG": "C.UTF-8", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        self._process = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_exc) -> None:
        # Its own session: everything it began, in the background too.
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
        self._process.stdin.close()
        self._process.stdout.close()

    def run(self, step: Step) -> tuple[str, int]:
        """Type a line; what came out, and the exit code."""
        command = step.command.replace("1883", str(self._port))
        self._process.stdin.write(f"{command}\necho {_END}$?\n")
        self._process.stdin.flush()
        output = []
        while line := self._process.stdout.readline():
            head, mark, code = line.partition(_END)
            output.append(head)
            if mark:
                return "".join(output), int(code)
        raise AssertionError(f"the shell ended after {command!r}: {''.join(output)}")


def _programs(folder: Path) -> Path:
    """Both programs, from this checkout."""
    folder.mkdir(exist_ok=True)
    for name, module in (("edge-agent", "edge_agent.cli"), ("cloud-worker", "cloud_side.cli")):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    return folder


def run_page(page: Path, folder: Path, port: int) -> int:
    """Run a page; how many commands that were. Raises AssertionError for one that fails, or
    prints something else."""
    steps = steps_of(page.read_text("utf-8"))
    with Shell(folder, port) as shell:
        for step in steps:
            output, code = shell.run(step)
            print(f"$ {step.command}\n{output}", end="")
            assert code == 0, f"{page.name}: `{step.command}` ended with {code}:\n{output}"
            missing = differs(step.expected, output)
            assert missing is None, (f"{page.name}: `{step.command}` did not print {missing!r}"
                                     f" but:\n{output}")
    return len(steps)
