"""Settings in force as TOML, each with where it is from; secrets never."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from split_core.redact import redact_value
from split_core.settings.keys import keys_of, value_of
from split_core.settings.layers import Loaded

# Columns of the values before their sources.
_WIDTH = 48


def rows(loaded: Loaded, secrets: Iterable[str] = ()) -> list[dict[str, Any]]:
    """{"key", "value", "source"} for every key."""
    secrets = tuple(secrets)
    return [{"key": k.path,
             "value": redact_value(k.name, _plain(value_of(loaded.config, k.path)), secrets),
             "source": loaded.sources.get(k.path, "default")}
            for k in keys_of(type(loaded.config))]


def as_toml(loaded: Loaded, secrets: Iterable[str] = (), *, sources: bool = False) -> str:
    """A file that says the same. Keys without a value are comments."""
    lines, section = [], ""
    for row in rows(loaded, secrets):
        table, _, name = row["key"].rpartition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        value = row["value"]
        text = f"# {name} =" if value is None else f"{name} = {toml_value(value)}"
        lines.append(f"{text:<{_WIDTH}} # {row['source']}" if sources else text)
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, float):
        return repr(value)
    # JSON's texts are TOML's, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


