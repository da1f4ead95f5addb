"""The command `cloud-worker`. One file here for commands that belong together; each has
`add_commands`, and what a command needs is imported when it runs."""

from __future__ import annotations

import argparse

from cloud_side.cli import health, running, setting_up, texts, updating
from split_core.commands import program
from split_core.program import run_command

# In the order of `cloud-worker --help`.
_FILES = (running, setting_up, health, updating, texts)


def build_parser() -> argparse.ArgumentParser:
    """All commands with their arguments; help, completion and man pages come from it."""
    return program("cloud-worker", "Runs the tails of models whose heads run on devices.", _FILES)


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    args = build_parser().parse_args(argv)
    return run_command("cloud-worker", lambda: args.body(args), args.called)
