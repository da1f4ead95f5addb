"""The commands `doctor` and `diag`, which devices and workers have alike."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from split_core.commands import Commands
from split_core.settings.command import Settings

if TYPE_CHECKING:
    from split_core.diag import Part

# What takes less needs no progress.
_PATIENCE_S = 2.0


def add_doctor(commands: Commands, settings: Settings) -> None:
    """`doctor`."""
    doctor = commands.add(
        "doctor", "what keeps this host from doing its work, and what to do about it",
        "doctor", f"doctor -c {settings.usual_file}", "doctor --json",
        body=lambda args: examine(settings, args.config, as_json=args.json))
    doctor.add_argument("-c", "--config", metavar="FILE",
                        help=f"(default: {settings.usual_file})")
    doctor.add_argument("--json", action="store_true",
                        help="a list of {check, state, found, remedy}; state is ok, warn or fail")


def add_diag(commands: Commands, settings: Settings, unit: str,
             more: Callable[[object], Mapping[str, Part]]) -> None:
    """`diag`; ``unit`` and ``more`` as for `diag.collect`."""
    diag = commands.add(
        "diag", "an archive for a bug report: no secrets, no pictures", "diag",
        f"diag -c {settings.usual_file} -o report.tar.gz",
        body=lambda args: _diag(args, settings, unit, more))
    diag.add_argument("-c", "--config", metavar="FILE",
                      help=f"(default: {settings.usual_file})")
    diag.add_argument("-o", "--output", metavar="FILE",
                      help=f"(default: {settings.program}-diag-DATE.tar.gz, here)")


def _diag(args: argparse.Namespace, settings: Settings, unit: str,
          more: Callable[[object], Mapping[str, Part]]) -> int:
    from split_core.diag import collect as collect_parts
    from split_core.settings.credentials import stand_in

    with stand_in(settings.path(args.config)):
        return collect_parts(args, settings, unit, settings.checks(args.config), more)


def examine(settings: Settings, file: str | None, *, as_json: bool = False) -> int:
    """Look at everything by a configuration and say what was found; the exit code."""
    from split_core.settings.credentials import stand_in

    with stand_in(settings.path(file)):
        return run(settings.checks(file), settings, as_json=as_json)


def run(checks: Sequence, settings: Settings, *, as_json: bool = False) -> int:
    """Run all checks and show them; the exit code: 0, or 1 when something failed."""
    import shutil

    from split_core.doctor import findings as f

    terminal = sys.stdout.isatty() and not as_json
    found = collect(checks, settings, progress=sys.stderr.isatty())
    if as_json:
        print(f.as_json(found))
    else:
        width = shutil.get_terminal_size().columns if terminal else 100
        print(f.as_table(found, colours=terminal, width=width))
        print(f"\n{f.summary(found)}")
    return f.exit_code(found)


def collect(checks: Sequence, settings: Settings, *, progress: bool = False) -> list:
    """The findings. What the parts log meanwhile is not shown: the findings say it better."""
    import logging

    from split_core.doctor.findings import examine

    logging.disable(logging.CRITICAL)
    waiting = Progress() if progress else None
    try:
        return examine(checks, settings.program, waiting or (lambda name: None))
    finally:
        logging.disable(logging.NOTSET)
        if waiting is not None:
            waiting.end()


class Progress:
    """The check under way, on standard error, once it has taken a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, out=None):
        self._clock, self._out = clock, out or sys.stderr
        self._begun_s = clock()
        self._shown = False

    def __call__(self, name: str) -> None:
        if self._clock() - self._begun_s > _PATIENCE_S:
            print(f"\r\033[K... {name}", end="", file=self._out, flush=True)
            self._shown = True

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=self._out, flush=True)
