"""The keys there are, read off the Structs that hold them. Pure."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec


@dataclass(frozen=True, slots=True)
class Key:
    """One setting, by its dotted path."""

    path: str
    type: Any
    required: bool
    owner: type                     # the Struct it is a field of

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def sections(kind: type) -> dict[str, type]:
    """The fields that are sections: Structs of their own."""
    return {f.name: f.type for f in msgspec.structs.fields(kind) if is_struct(f.type)}


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def keys_of(kind: type, prefix: str = "") -> Iterator[Key]:
    """Every key, plain ones before sections, as TOML wants them."""
    inner = sections(kind)
    for field in msgspec.structs.fields(kind):
        if field.name not in inner:
            yield Key(prefix + field.encode_name, field.type, field.required, kind)
    for name, section in inner.items():
        yield from keys_of(section, f"{prefix}{name}.")


def value_of(config: msgspec.Struct, path: str) -> Any:
    """What a dotted path has in a configuration."""
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def describe(kind: Any) -> str:
    """A type in words: "text", "whole number", "one of a, b"."""
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    if kind in plain:
        return plain[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments if a is not type(None))
    if origin in (list, tuple, frozenset, set):
        return "list of " + describe(arguments[0])
    if origin is dict:
        return f"table of {describe(arguments[1])}"
    return "table" if is_struct(kind) else "value"


def takes_text(kind: Any) -> bool:
    """Whether a text stands for itself: of a key that holds nothing but text."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return all(isinstance(a, str) for a in arguments)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return all(takes_text(a) for a in arguments if a is not type(None))
    return kind is str


def may_be_none(kind: Any) -> bool:
    return type(None) in typing.get_args(kind)
