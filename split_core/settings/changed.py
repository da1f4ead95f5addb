"""What two settings differ in. Pure."""

from __future__ import annotations

import msgspec


def changed_keys(old: msgspec.Struct, new: msgspec.Struct, prefix: str = "") -> tuple[str, ...]:
    """The keys that two settings of a kind differ in: ``broker.url``."""
    keys: list[str] = []
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, msgspec.Struct) and type(before) is type(after):
            keys += changed_keys(before, after, f"{prefix}{name}.")
        elif before != after:
            keys.append(prefix + name)
    return tuple(keys)
