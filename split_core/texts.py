"""The commands `completion` and `man`, which devices and workers have alike: texts made of the
parser itself, so that they cannot say anything else than `--help`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from split_core.commands import Commands
from split_core.errors import UsageError
from split_core.files import write_whole

_FILES = {"FILE", "BUNDLE", "MODEL", "INPUT", "FILE.png", "JOURNAL", "TRACE"}
_FOLDERS = {"DIR"}
# Of every man page; docs/exit-codes.md says more.
_EXIT_STATUS = """\
0 done; 1 a fault of ours, or `doctor` found a failure; 64 called wrongly; 65 damaged model or
bundle; 66 no input; 69 no broker; 70 a bug; 74 the disk, a camera or the host failed; 75 too much
memory; 76 a peer broke the protocol; 77 refused by the broker or system; 78 configuration."""


def add_texts(commands: Commands, build_parser: Callable[[], argparse.ArgumentParser],
              about_all: dict[str, str]) -> None:
    """`completion` and `man`; ``about_all`` are sections that all pages of the program have."""
    name = commands.program
    completion = commands.add(
        "completion", "a script that lets the shell complete commands and options",
        f"completion bash > /etc/bash_completion.d/{name}", "completion zsh",
        body=lambda args: _completion(args, build_parser()))
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    man = commands.add("man", "write the man pages into a folder", "man /usr/local/share/man/man1",
                       body=lambda args: _man(args, build_parser(),
                                              about_all | {"EXIT STATUS": _EXIT_STATUS}))
    man.add_argument("folder", metavar="DIR", help="is made if need be")


def _completion(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    try:
        import shtab
    except ImportError:
        raise UsageError("completion needs shtab: pip install 'edge-agent[completion]'; the .deb"
                         " packages bring the scripts with them") from None
    _mark_files(parser, shtab)
    print(shtab.complete(parser, args.shell))


def _mark_files(parser: argparse.ArgumentParser, shtab) -> None:
    """Arguments that are files are completed by what is there."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _mark_files(child, shtab)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY


def _man(args: argparse.Namespace, parser: argparse.ArgumentParser,
         about_all: dict[str, str]) -> None:
    from split_core.manual import pages
    from split_core.version import VERSION

    folder = Path(args.folder)
    for name, text in pages(parser, version=VERSION, about_all=about_all).items():
        write_whole(folder / name, text)
        print(folder / name)
