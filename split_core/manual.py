"""Man pages from the parser of a program: one of the whole, one of each command. Pure.

Written out here because what makes pages of parsers (argparse-manpage 4.8) fills the lines of a
synopsis as if they were prose, and leaves the examples out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

_WIDTH = 78


def pages(parser: argparse.ArgumentParser, *, version: str, about_all: dict[str, str],
          ) -> dict[str, str]:
    """Pages by file name ("edge-agent-run.1"). ``about_all`` are sections (heading: text) for
    the page of the whole."""
    found = {f"{parser.prog}.1": _whole(parser, version, about_all)}
    for help, command in commands(parser):
        name = command.prog.replace(" ", "-")
        found[f"{name}.1"] = _one(command, help, parser.prog, version)
    return found


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, with its line of help."""
    for action in _groups(parser):
        help_of = {a.dest: a.help or "" for a in action._choices_actions}
        for name, command in action.choices.items():
            if any(_groups(command)):
                yield from commands(command)
            else:
                yield help_of.get(name, ""), command


def _groups(parser: argparse.ArgumentParser) -> list[argparse._SubParsersAction]:
    return [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]


def _whole(parser: argparse.ArgumentParser, version: str, about_all: dict[str, str]) -> str:
    name = parser.prog
    parts = [_title(name, version), _heading("NAME"),
             f"{escape(name)} \\- {escape(_sentence(parser))}",
             _heading("SYNOPSIS"), f".B {escape(name)}\n.I COMMAND\n[OPTIONS]",
             _heading("DESCRIPTION"), escape(parser.description or ""),
             _heading("COMMANDS")]
    for help, command in commands(parser):
        parts.append(f".TP\n.BR {escape(command.prog.replace(' ', '-'))} (1)\n{escape(help)}")
    parts += [_heading("OPTIONS"), *_options(parser)]
    for heading, text in about_all.items():
        parts += [_heading(heading), _paragraphs(text)]
    return "\n".join(parts) + "\n"


def _one(command: argparse.ArgumentParser, help: str, program: str, version: str) -> str:
    name = command.prog.replace(" ", "-")
    parts = [_title(name, version), _heading("NAME"), f"{escape(name)} \\- {escape(help)}",
             _heading("SYNOPSIS"), ".nf", escape(_usage(command)), ".fi",
             _heading("DESCRIPTION"), escape(command.description or help)]
    options = list(_options(command))
    if options:
        parts += [_heading("OPTIONS"), *options]
    examples = _examples(command)
    if examples:
        parts += [_heading("EXAMPLES"), ".nf", escape("\n".join(examples)), ".fi"]
    parts += [_heading("SEE ALSO"), f".BR {escape(program)} (1)"]
    return "\n".join(parts) + "\n"


def _title(name: str, version: str) -> str:
    # No date: the same source makes the same page.
    return f'.TH "{escape(name.upper())}" 1 "" "edge-agent {escape(version)}" ""\n.nh\n.ad l'


def _heading(text: str) -> str:
    return f'.SH "{escape(text)}"'


def _sentence(parser: argparse.ArgumentParser) -> str:
    text = (parser.description or "").rstrip(".")
    return text[:1].lower() + text[1:]


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if not isinstance(
            a, argparse._SubParsersAction) and a.help is not argparse.SUPPRESS]
        if not actions:
            continue
        if group.title not in ("positional arguments", "options", "commands"):
            yield f'.SS "{escape(group.title or "")}"'
        for action in actions:
            yield f".TP\n.B {_names(action)}\n{escape(_help(parser, action)) or chr(92) + '&'}"


def _names(action: argparse.Action) -> str:
    value = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices
                               else (action.dest.rpartition(".")[2].upper()))
    if not action.option_strings:
        return escape(str(value))
    names = ", ".join(action.option_strings)
    return escape(names if action.nargs == 0 else f"{names} {value}")


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""


def _examples(command: argparse.ArgumentParser) -> list[str]:
    _, _, lines = (command.epilog or "").partition(":\n")
    return [line.strip() for line in lines.splitlines()]


def _usage(command: argparse.ArgumentParser) -> str:
    """As --help has it, for a page's width and not that of who makes the page."""
    formatter = command.formatter_class(prog=command.prog, width=_WIDTH)
    formatter.add_usage(command.usage, command._actions, command._mutually_exclusive_groups)
    first, *rest = formatter.format_help().strip().splitlines()
    lead = "usage: "
    return "\n".join([first.removeprefix(lead), *(r.removeprefix(" " * len(lead)) for r in rest)])


def _paragraphs(text: str) -> str:
    """Paragraphs; lines that are indented stay as they are."""
    out = []
    for block in text.strip("\n").split("\n\n"):
        if block.startswith("  "):
            out += [".nf", escape(block), ".fi"]
        else:
            out += [escape(" ".join(block.split())), ".PP"]
    return "\n".join(out[:-1] if out[-1] == ".PP" else out)


def escape(text: str) -> str:
    """Text as roff shows it: hyphens that can be copied, and no line taken for a command."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace('"', "\\(dq")
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in text.split("\n"))
