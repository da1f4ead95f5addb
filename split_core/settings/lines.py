"""On which line of a TOML text a key stands. Pure.

The parser of the standard library does not tell, so the text is cut into statements: the least
number of lines that is TOML by itself. What a statement says, the parser says.
"""

from __future__ import annotations

import tomllib


def key_lines(text: str) -> dict[str, int]:
    """The line, from 1, of every table and key by its dotted path. Of a text that is TOML."""
    lines, found, table, at = text.replace("\r\n", "\n").split("\n"), {}, (), 0
    while at < len(lines):
        if not lines[at].strip() or lines[at].lstrip().startswith("#"):
            at += 1
            continue
        statement, end = _statement(lines, at)
        if lines[at].lstrip().startswith("["):
            table = _header(statement)
            found.setdefault(".".join(table), at + 1)
        else:
            for path in _paths(statement):
                found.setdefault(".".join((*table, *path)), at + 1)
        at = end
    return found


def _statement(lines: list[str], at: int) -> tuple[dict, int]:
    for end in range(at + 1, len(lines) + 1):
        try:
            return tomllib.loads("\n".join(lines[at:end])), end
        except tomllib.TOMLDecodeError:
            continue                    # a list or text that goes on
    return {}, at + 1


def _header(statement) -> tuple[str, ...]:
    path = []
    while statement:
        statement = statement[0] if isinstance(statement, list) else statement
        if not statement:
            break
        (name, statement), = statement.items()
        path.append(name)
    return tuple(path)


def _paths(table: dict) -> list[tuple[str, ...]]:
    found = []
    for name, value in table.items():
        found.append((name,))
        if isinstance(value, dict):
            found += [(name, *path) for path in _paths(value)]
    return found
