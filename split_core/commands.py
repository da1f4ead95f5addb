"""How both programs declare their commands: every one with a line of help and its examples.

    def add_commands(commands: Commands) -> None:
        run = commands.add("run", "run until stopped", "run -c agent.toml", body=_run)
        run.add_argument("-c", "--config", metavar="FILE")

A body takes the parsed arguments and returns an exit code or None. What it needs is imported in
it: `--help` waits for nothing but argparse.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn

from split_core.version import VERSION

EX_USAGE = 64


class Parser(argparse.ArgumentParser):
    """A parser whose errors end with the code that is documented for them: with argparse's own,
    2, systemd would start a service with a misspelt option for ever."""

    def error(self, message: str) -> NoReturn:
        self.exit(EX_USAGE, f"{self.format_usage()}{self.prog}: error: {message}\n")

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, but what a command does not know is its error, with its usage; argparse
        leaves it to the program, whose usage helps nobody."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def _check_value(self, action: argparse.Action, value) -> None:
        """Of a misspelt command the one that was meant, where argparse would list all twenty."""
        if action.nargs == argparse.PARSER and value not in action.choices:
            near = difflib.get_close_matches(value, action.choices, 1)
            self.error(f"no command {value!r}; " + (
                f"did you mean {near[0]}?" if near else f"there are {', '.join(action.choices)}"))
        super()._check_value(action, value)


class Commands:
    """The commands of a program, or of one of its commands."""

    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser
        # The destination is unique, so that a command's commands do not hide its own name.
        self._parsers = parser.add_subparsers(
            dest=f"{parser.prog} command", metavar="COMMAND", title="commands")
        # Of the program alone, as of `config` alone. A command sets its own over it.
        parser.set_defaults(body=lambda args: self._list(), called=parser.prog)

    @property
    def program(self) -> str:
        return self.parser.prog.split()[0]

    def add(self, name: str, help: str, *examples: str,
            body: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
        """A command. Its examples are written without the program's name."""
        command = self._parser(name, help, examples)
        command.set_defaults(body=body, called=command.prog)
        return command

    def group(self, name: str, help: str, *examples: str) -> Commands:
        """A command that has commands of its own: `config show`."""
        return Commands(self._parser(name, help, examples))

    def _list(self) -> int:
        self.parser.print_help(sys.stderr)
        return EX_USAGE

    def _parser(self, name: str, help: str, examples: tuple[str, ...]) -> argparse.ArgumentParser:
        if not examples:
            raise ValueError(f"{name} has no example")
        lines = "\n".join(f"  {self.program} {e}" for e in examples)
        return self._parsers.add_parser(
            name, help=help, description=help[:1].upper() + help[1:] + ".",
            epilog=f"example{'s' if len(examples) > 1 else ''}:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter)


def program(name: str, description: str, files: Sequence[ModuleType]) -> Parser:
    """A program's parser, with the commands that ``add_commands`` of each file adds, in this
    order."""
    parser = Parser(prog=name, description=description,
                    epilog=f"`{name} COMMAND --help` has the options of a command, and examples.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    commands = Commands(parser)
    for file in files:
        file.add_commands(commands)
    return parser
