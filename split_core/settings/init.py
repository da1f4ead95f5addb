"""The command `init`: a small file of settings, from questions or flags. Never a secret in it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from split_core.errors import ConfigError, PermissionRefused, UsageError
from split_core.files import write_whole
from split_core.settings import command as settings_command

if TYPE_CHECKING:
    from split_core.commands import Commands
    from split_core.settings.command import Settings

Answers = dict[str, object]


class Question(NamedTuple):
    """Something to be asked, with the flag that answers it."""

    key: str                                # dotted path
    flag: str
    ask: str
    # Of the file that is to be written. None: may be left out.
    usual: Callable[[Path], object] = lambda output: None
    # Asked (and written) only where the answers so far want it.
    wanted: Callable[[Answers], bool] = lambda answers: True
    # Raises ConfigError for an answer that cannot work, given those before it.
    check: Callable[[Answers], object] = lambda answers: None
    choices: tuple[str, ...] | None = None


def add_init(commands: Commands, settings: Settings, questions: Sequence[Question],
             *examples: str) -> None:
    """`init`. Its examples are written without the program's name."""
    parser = commands.add(
        "init", "write a configuration, by asking or from flags", "init", *examples,
        body=lambda args: run(args, settings, questions))
    parser.add_argument("-o", "--output", metavar="FILE", default=settings.usual_file,
                        help="(default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument("--yes", action="store_true",
                        help="ask nothing: flags, and the usual for the rest")
    for q in questions:
        parser.add_argument(q.flag, dest=q.key, metavar=None if q.choices else "X",
                            choices=q.choices, help=q.ask)
    parser.add_argument("--allow-plain", dest="broker.allow_plain", action="store_true",
                        help="mqtt:// to another machine: everyone on the way can read along")


def run(args: argparse.Namespace, settings: Settings, questions: Sequence[Question]) -> int:
    """Ask, write, check, and offer the doctor. Raises UsageError, ConfigError, and what
    `files.cannot_write` makes of a place that takes no file."""
    output = Path(args.output)
    _check_place(output, args.force or is_example(output, settings.program))
    if not args.yes and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on; answer by flags and give --yes")
    given = {q.key: getattr(args, q.key) for q in questions}
    answers = _answers(questions, given, output, bool(getattr(args, "broker.allow_plain")),
                       None if args.yes else _ask)
    # For all to read: the service's own user has to.
    write_whole(output, render(settings, answers, output.stem), mode=0o644)
    print(f"\nwrote {output}")
    code = settings_command.check(settings, str(output))
    command = f"{settings.program} doctor -c {output}"
    if args.yes or _asked("\nLook at this machine and the broker now? [Y/n] ").lower()[:1] == "n":
        print(f"next: {command}")
    elif code == 0:
        from split_core.doctor.command import examine

        print(f"\n{command}")
        examine(settings, str(output))
    return code


def is_example(path: Path, program: str, shipped: Path = Path("/usr/share")) -> bool:
    """Whether a file is the example that the package put there, as it came."""
    try:
        text = path.read_bytes()
        return any(text == p.read_bytes() for p in (shipped / program).glob("*.toml"))
    except OSError:
        return False


def _check_place(output: Path, force: bool) -> None:
    """Whether the file can be written, before anything is asked. Raises UsageError,
    PermissionRefused."""
    try:
        if output.is_dir():
            raise UsageError(f"{output} is a folder, wanted a file's name after -o")
        if output.exists() and not force:
            raise UsageError(f"{output} is there already; --force overwrites it, -o writes another")
        folder = next(p for p in output.absolute().parents if p.exists())
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:                      # a folder above that we may not look into
        folder, writable = output.parent, False
    if not writable:
        raise PermissionRefused(f"this user may not write to {folder}; run it with sudo, or name"
                                " another file with -o")


def _answers(questions: Sequence[Question], given: Answers, output: Path, allow_plain: bool,
             ask: Callable[[Question, object], object] | None) -> Answers:
    answers: Answers = {"broker.allow_plain": True} if allow_plain else {}
    for q in questions:
        if given[q.key] is None and not q.wanted(answers):
            continue
        while True:
            value, usual = given[q.key], q.usual(output)
            if value is None:
                value = usual if ask is None else ask(q, usual)
            answers[q.key] = value
            try:
                q.check(answers)
                break
            except ConfigError as e:
                if ask is None or given[q.key] is not None:
                    raise UsageError(f"{q.flag}: {e}") from None
                print(f"  {e}", file=sys.stderr)
    return {key: value for key, value in answers.items() if value is not None}


def _ask(question: Question, usual: object) -> object:
    choices = f" ({', '.join(question.choices)})" if question.choices else ""
    hint = f" [{usual}]" if usual is not None else " [none]"
    while True:
        text = _asked(f"{question.ask}{choices}{hint}: ").strip()
        if not text:
            return usual
        if question.choices is None or text in question.choices:
            return text
        print(f"  one of {', '.join(question.choices)}", file=sys.stderr)


def _asked(prompt: str) -> str:
    try:
        return input(prompt)
    except EOFError:
        raise UsageError("the answers ended; nothing more was done") from None


def render(settings: Settings, answers: Answers, instance: str = "") -> str:
    """The file: what was answered, each key below what it means. ``instance`` is the file's name
    without its end, by which a program that has several services tells them apart."""
    from split_core.settings.keys import keys_of
    from split_core.settings.reference import comments
    from split_core.settings.show import toml_value

    name = settings.program
    unit, secrets = settings.service_of(instance)
    lines = [f"# Settings of {name}. What is not here has its default;"
             f" `{name} config reference` lists all keys.",
             f"# After a change: `{name} check-config`, then `systemctl reload {unit}`.",
             "#",
             "# No secrets here: everyone may read this file. A password or key goes into a file"
             " of its own in",
             f"# {secrets}  (root:root, mode 0600). The unit hands it to the"
             " service, and it is named here:",
             '# password_file = "$CREDENTIALS_DIRECTORY/secrets_mqtt-password"   for'
             f" {secrets}mqtt-password"]
    section = ""
    for key in keys_of(settings.kind()):
        if key.path not in answers:
            continue
        table = key.path.rpartition(".")[0]
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        elif not section and lines[-1].startswith("# password_file"):
            lines.append("")
        lines += [f"# {line}" for line in _wrapped(comments(key.owner).get(key.name, ""))]
        lines.append(f"{key.name} = {toml_value(answers[key.path])}")
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 96)
