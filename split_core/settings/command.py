"""The commands `check-config` and `config`, which devices and workers have alike."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from split_core.commands import Commands

if TYPE_CHECKING:
    import msgspec

    from split_core.doctor.findings import Check
    from split_core.settings.cautions import Caution
    from split_core.settings.layers import Loaded
    from split_core.settings.problems import Problem

EX_CONFIG = 78


class Settings(NamedTuple):
    """What a program's settings are, and who looks at them, without loading any of it."""

    program: str
    kind: Callable[[], type[msgspec.Struct]]
    # What only this program's settings may have wrong with the host's files.
    cautions: Callable[[msgspec.Struct], Iterator[Caution]]
    # The doctor's list, by the configuration's file.
    checks: Callable[[str | None], Sequence[tuple[str, Check]]]
    # Where the service has its settings and its secrets.
    usual_file: str
    secrets_folder: str
    # Whether it runs without any.
    needs_file: bool = True

    def service_of(self, instance: str) -> tuple[str, str]:
        """The unit that runs the settings of this name, and the folder of its secrets."""
        usual = Path(self.usual_file).stem
        if usual == self.program:
            return self.program, self.secrets_folder
        name = instance or usual
        return f"{self.program}@{name}", self.secrets_folder.replace(f"/{usual}.", f"/{name}.")

    def load(self, path: str | None) -> Loaded:
        """The settings in force. Raises ConfigError."""
        from split_core.settings.layers import load_settings

        return load_settings(self.path(path), self.kind(), self.program)

    def path(self, given: str | None) -> str | None:
        """The file asked for, else the service's; None where there is none and none is needed."""
        if given is None and not self.needs_file and not Path(self.usual_file).exists():
            return None
        return given or self.usual_file

    def find_problems(self, path: str | None) -> list[Problem]:
        """Everything wrong or unwise."""
        from split_core.errors import ConfigError
        from split_core.settings import cautions
        from split_core.settings.layers import checks_of, layers_of
        from split_core.settings.problems import Problem

        layers = layers_of(self.path(path), self.kind(), self.program)
        found = layers.find_problems(checks_of)
        if not found:
            try:
                config = self.load(path).config
            except ConfigError as e:         # the file has changed meanwhile
                return [Problem(str(path), "", str(e))]
            every = dict.fromkeys([*cautions.cautions(config), *self.cautions(config)])
            found = [Problem(layers.where(key), key, text, warning) for key, text, warning in every]
        return found


def add_check(commands: Commands, settings: Settings) -> None:
    """`check-config`."""
    check = commands.add(
        "check-config", "all that is wrong with a configuration, with file and line",
        f"check-config {settings.usual_file}", "check-config --strict --json my.toml",
        body=lambda args: _check(args, settings))
    check.add_argument("file", metavar="FILE", nargs="?", default=None,
                       help=f"(default: {settings.usual_file})")
    check.add_argument("--strict", action="store_true",
                       help="warnings are errors: secrets that all may read, plain MQTT, files"
                            " that are not there")
    check.add_argument("--json", action="store_true",
                       help="a list of {where, key, text, warning}")


def _check(args: argparse.Namespace, settings: Settings) -> int:
    return check(settings, args.file, strict=args.strict, as_json=args.json)


def check(settings: Settings, file: str | None, *, strict: bool = False,
          as_json: bool = False) -> int:
    """Say what is wrong; the exit code."""
    from split_core.settings.credentials import stand_in

    with stand_in(settings.path(file)):
        found = settings.find_problems(file)
    errors = [p for p in found if strict or not p.warning]
    if as_json:
        print(json.dumps([{"where": p.where, "key": p.key, "text": p.text,
                           "warning": p not in errors} for p in found]))
    else:
        for problem in found:
            kind = "error" if problem in errors else "warning"
            print(f"{kind}: {problem}", file=sys.stderr)
        counts = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in (
            (len(errors), "error"), (len(found) - len(errors), "warning")) if n]
        name = settings.path(file) or "no file, the defaults"
        print(f"{name}: {', '.join(counts) or 'ok'}", file=sys.stderr if errors else sys.stdout)
    return EX_CONFIG if errors else 0


def add_config(commands: Commands, settings: Settings) -> None:
    """`config show` and `config reference`."""
    config = commands.group("config", "the settings in force, and all there are",
                            "config show --sources", "config reference")
    show = config.add("show", "the settings in force", "config show --sources",
                      "config show -c my.toml --json", body=lambda args: _show(args, settings))
    show.add_argument("-c", "--config", metavar="FILE",
                      help=f"(default: {settings.usual_file})")
    show.add_argument("--sources", action="store_true",
                      help="where each value is from: default, file:line, env NAME")
    show.add_argument("--json", action="store_true", help="a list of {key, value, source}")
    config.add("reference", "every key with what it means and its default, as Markdown",
               "config reference", "config reference > keys.md",
               body=lambda args: _reference(settings))


def _show(args: argparse.Namespace, settings: Settings) -> None:
    from split_core.settings.cautions import secrets_of
    from split_core.settings.credentials import stand_in
    from split_core.settings.show import as_toml, rows

    loaded = settings.load(args.config)
    with stand_in(settings.path(args.config)):
        secrets = secrets_of(loaded.config)
    if args.json:
        print(json.dumps(rows(loaded, secrets)))
    else:
        print(as_toml(loaded, secrets, sources=args.sources), end="")


def _reference(settings: Settings) -> None:
    from split_core.settings.reference import render

    print(render(settings.program, settings.kind(), settings.usual_file), end="")
