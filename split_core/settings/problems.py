"""All that is wrong with settings, at once. Pure: what is read from files is in `cautions`."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from split_core.errors import ConfigError
from split_core.settings.keys import describe, is_struct, keys_of, may_be_none

# One mistake can hide another only so often.
_MOST = 100
# The checks of a configuration, each with the key that it is about where its message names none.
Checks = Callable[[msgspec.Struct], Iterable[tuple[str, Callable[[], object]]]]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong (or, as a warning, unwise) with a setting."""

    where: str                # file:line, "env NAME", "flag --x", or the file
    key: str                  # dotted path; "" where it is about the whole
    text: str
    warning: bool = False

    def __str__(self) -> str:
        about = "" if self.key in re.findall(r"[\w.]*\w", self.text) else f"{self.key}: "
        return f"{self.where}: {about if self.key else ''}{self.text}"


def of_shape(data: Mapping, kind: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Unknown keys, missing ones and wrong types, as (dotted path, what is wrong)."""
    fields = {f.encode_name: f for f in msgspec.structs.fields(kind)}
    for name, value in data.items():
        path = prefix + name
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            yield path, f"unknown key {path}{hint}"
        elif is_struct(fields[name].type):
            if isinstance(value, Mapping):
                yield from of_shape(value, fields[name].type, path + ".")
            else:
                yield path, f"{path} is {value!r}, wanted a table: [{path}]"
        else:
            yield from _of_value(value, fields[name].type, path)
    for name, field in fields.items():
        if field.required and name not in data:
            inner = [k.path for k in keys_of(field.type, f"{prefix}{name}.") if k.required] \
                if is_struct(field.type) else []
            for path in inner or [prefix + name]:
                yield path, f"{path} is missing"


def _of_value(value: Any, kind: Any, path: str) -> Iterator[tuple[str, str]]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as e:
        inside = re.search(r"- at `\$(.*)`", str(e))
        where = f" (at {path}{inside[1]})" if inside else ""
        shown = value if isinstance(value, bool | int | float | str) else type(value).__name__
        yield path, f"{path} is {shown!r}, wanted {describe(kind)}{where}"


def of_values(data: dict, kind: type, checks: Checks) -> Iterator[tuple[str, str]]:
    """What the settings' own checks say. They stop at their first error: the key that it names
    is then put back to its default, and they are asked again."""
    data = copy.deepcopy(data)
    for _ in range(_MOST):
        found = _first_error(msgspec.convert(data, kind), checks)
        if found is None:
            return
        usual, text = found
        path = _to_blame(text, kind, data) or usual
        yield path, text
        if not _forget(data, path) or any(k.required and k.path == path for k in keys_of(kind)):
            return


def _first_error(config: msgspec.Struct, checks: Checks) -> tuple[str, str] | None:
    for usual, check in checks(config):
        try:
            check()
        except ConfigError as e:
            return usual, str(e)
    return None


def without(data: dict, kind: type, paths: list[str]) -> dict | None:
    """The settings with wrong keys taken out and missing texts made up, so that the rest can be
    checked; None where that cannot be."""
    data = copy.deepcopy(data)
    for path in paths:
        _forget(data, path)
    for key in keys_of(kind):
        if key.required and not _has(data, key.path):
            if key.type is not str and not may_be_none(key.type):
                return None
            _put(data, key.path, "x")
    try:
        msgspec.convert(data, kind)
    except msgspec.ValidationError:
        return None
    return data


def _to_blame(text: str, kind: type, data: dict) -> str | None:
    """The first key of those that a message is about which is set; else its section."""
    paths = sorted((at, k.path) for k in keys_of(kind) if (at := _place(text, k.path)) is not None)
    for _, path in paths:
        if _has(data, path):
            return path
    for _, path in paths:
        section = path.rpartition(".")[0]
        if _has(data, section) and not any(k.required and k.path.startswith(section + ".")
                                           for k in keys_of(kind)):
            return section
    return None


def _place(text: str, key: str) -> int | None:
    """Where a text names a key. One without a section is a plain word elsewhere than in front."""
    found = re.search(rf"(?<![\w./]){re.escape(key)}(?![\w.]*\w)", text)
    if found is None or ("." not in key and found.start()):
        return None
    return found.start()


def _has(data: Mapping, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(data, Mapping) or name not in data:
            return False
        data = data[name]
    return True


def _forget(data: dict, path: str) -> bool:
    """Whether it was there."""
    *parents, name = path.split(".")
    for parent in parents:
        data = data.get(parent)
        if not isinstance(data, dict):
            return False
    there = name in data
    data.pop(name, None)
    return there


def _put(data: dict, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
    data[name] = value
