"""The layers of settings put over each other, and which of them each value is from.

    loaded = load_settings("/etc/edge-agent/edge-agent.toml", AgentConfig, "edge-agent")
    loaded.config.broker.url, loaded.sources["broker.url"]    # "/etc/...toml:12"
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from split_core.errors import ConfigError
from split_core.settings import problems
from split_core.settings.keys import Key, keys_of, may_be_none, takes_text
from split_core.settings.lines import key_lines
from split_core.settings.problems import Problem
from split_core.wire.topics import check_node_id, check_root

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """Settings in force, and where they are from."""

    config: T
    # "FILE:LINE", "env NAME" or "flag --x" by dotted path; what is not in it has its default.
    sources: Mapping[str, str]
    files: tuple[Path, ...]


class Layers:
    """What has been said so far, the later over the earlier."""

    def __init__(self, kind: type):
        self.kind = kind
        self.data: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.files: list[Path] = []
        self.problems: list[Problem] = []

    def add_file(self, path: str | Path) -> None:
        """A TOML file and what is in `conf.d` beside it, by name."""
        path = Path(path)
        self._add_one(path)
        try:
            more = sorted((path.parent / "conf.d").glob("*.toml"))
        except OSError as e:
            raise ConfigError(f"cannot read {path.parent / 'conf.d'}: {e.strerror}") from None
        for file in more:
            self._add_one(file)

    def _add_one(self, path: Path) -> None:
        self.files.append(path)
        try:
            # newlines as they are: the parser knows CR LF, and a lone CR is an error to it
            text = path.read_bytes().decode("utf-8")
            data = tomllib.loads(text)
        except OSError as e:
            self.problems.append(Problem(str(path), "", f"cannot read it: {e.strerror}"))
            return
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            line = re.search(r"at line (\d+)", str(e))
            where = f"{path}:{line[1]}" if line else str(path)
            self.problems.append(Problem(where, "", f"it is no TOML: {e}"))
            return
        lines = key_lines(text)
        self._merge(data, self.data, "", lambda key: f"{path}:{lines.get(key, 1)}")

    def add_environment(self, environ: Mapping[str, str], prefix: str) -> None:
        """Variables such as EDGE_AGENT__BROKER__URL; those with an empty value leave a key that
        need not be set unset."""
        keys = {k.path: k for k in keys_of(self.kind)}
        for name in sorted(n for n in environ if n.startswith(prefix)):
            path = name.removeprefix(prefix).lower().replace("__", ".")
            where, key = f"env {name}", keys.get(path)
            try:
                value = environ[name] if key is None else _from_text(environ[name], key)
            except tomllib.TOMLDecodeError:
                self.problems.append(Problem(
                    where, path, f"{path} is {environ[name]!r}, wanted it as TOML has it:"
                                 " 5, true, [\"a\", \"b\"]"))
                continue
            self.add(path, value, where)

    def add(self, path: str, value: Any, where: str) -> None:
        """One value of the environment or a flag."""
        *parents, name = path.split(".")
        data: Any = {name: value}
        for parent in reversed(parents):
            data = {parent: data}
        self._merge(data, self.data, "", lambda key: where)

    def _merge(self, new: dict, old: dict, prefix: str, where) -> None:
        for name, value in new.items():
            path = prefix + name
            self.sources[path] = where(path)
            if isinstance(value, dict) and isinstance(old.get(name), dict):
                self._merge(value, old[name], path + ".", where)
            elif isinstance(value, dict):
                old[name] = {}
                self._merge(value, old[name], path + ".", where)
            else:
                old[name] = value

    def where(self, path: str) -> str:
        """Where a key was said; of one that was not, its section, or the file."""
        while path and path not in self.sources:
            path = path.rpartition(".")[0]
        return self.sources.get(path) or (str(self.files[0]) if self.files else "settings")

    def find_problems(self, checks: problems.Checks) -> list[Problem]:
        """All that is wrong, in the order of the keys."""
        found = list(problems.of_shape(self.data, self.kind))
        rest = problems.without(self.data, self.kind, [p for p, _ in found])
        if rest is not None:
            found += problems.of_values(rest, self.kind, checks)
        # A key that had to be made up for the rest to be checked is missing, no more; and of a
        # file that could not be read nothing is known to be missing.
        missing = {path for path, text in found if text == f"{path} is missing"}
        if any(not p.key for p in self.problems):
            found = [(path, text) for path, text in found if path not in missing]
        return self.problems + [
            Problem(self._where_missing(path) if path in missing else self.where(path), path, text)
            for path, text in dict.fromkeys(found)
            if path not in missing or text == f"{path} is missing"]

    def _where_missing(self, path: str) -> str:
        """Where it is wanted: its section in a file, else the file."""
        where = self.sources.get(path.rpartition(".")[0], "")
        file = str(self.files[0]) if self.files else "settings"
        return file if where.startswith(("env ", "flag ")) or not where else where


def layers_of(path: str | Path | None, kind: type, program: str, *,
              environ: Mapping[str, str] | None = None,
              flags: Mapping[str, tuple[str, Any]] | None = None) -> Layers:
    """All layers. ``flags`` are {"broker.url": ("--broker", value)}; None is not given."""
    layers = Layers(kind)
    if path is not None:
        layers.add_file(path)
    layers.add_environment(os.environ if environ is None else environ, prefix_of(program))
    for key, (flag, value) in (flags or {}).items():
        if value is not None:
            layers.add(key, value, f"flag {flag}")
    return layers


def load_settings(path: str | Path | None, kind: type[T], program: str, *,
                  environ: Mapping[str, str] | None = None,
                  flags: Mapping[str, tuple[str, Any]] | None = None) -> Loaded[T]:
    """The settings in force, checked. Raises ConfigError that says all that is wrong."""
    layers = layers_of(path, kind, program, environ=environ, flags=flags)
    found = layers.find_problems(checks_of)
    if found:
        raise ConfigError(report(found))
    sources = {k.path: layers.sources[k.path] for k in keys_of(kind) if k.path in layers.sources}
    return Loaded(msgspec.convert(layers.data, kind), sources, tuple(layers.files))


def checks_of(config: msgspec.Struct) -> problems.Checks:
    """What both programs' settings are asked. Their own ``check`` asks again: it is what counts
    where there is no file."""
    yield "id", lambda: check_node_id(config.id)
    yield "root", lambda: check_root(config.root)
    yield "broker.url", config.broker.check
    yield "", config.check


def report(found: list[Problem]) -> str:
    """One line, or a head and a line each."""
    if len(found) == 1:
        return str(found[0])
    return f"{len(found)} errors in the configuration:" + "".join(f"\n  {p}" for p in found)


def prefix_of(program: str) -> str:
    """"EDGE_AGENT__" of "edge-agent"."""
    return program.upper().replace("-", "_") + "__"


def _from_text(text: str, key: Key) -> Any:
    if text == "" and may_be_none(key.type):
        return None
    if takes_text(key.type):
        return text
    return tomllib.loads(f"value = {text}")["value"]
