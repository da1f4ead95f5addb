"""The command `edge-agent`. One file here for commands that belong together; each has
`add_commands`, and what a command needs is imported when it runs."""

from __future__ import annotations

import argparse

from edge_agent.cli import bundles, field, health, planning, running, setting_up, texts
from split_core.commands import program
from split_core.program import run_command

# In the order of `edge-agent --help`.
_FILES = (running, setting_up, health, bundles, planning, field, texts)


def build_parser() -> argparse.ArgumentParser:
    """All commands with their arguments; help, completion and man pages come from it."""
    return program("edge-agent", "Runs the head of a model here and its tail on a worker, over"
                                 " MQTT.", _FILES)


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    args = build_parser().parse_args(argv)
    return run_command("edge-agent", lambda: args.body(args), args.called)
