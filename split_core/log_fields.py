"""A log line as fields: `event=started bundle=%s ms=%.0f` with its arguments, for JSON.

Numbers that were logged as numbers stay numbers; a digest that happens to be all digits does not
become one. A value goes on to the next `key=`, or to its closing quote.
"""

from __future__ import annotations

import math
import re
from typing import Any

_PAIR = re.compile(
    r"(?:^|(?<=\s))(?P<key>[A-Za-z_][\w.-]*)="
    r"(?P<value>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|.*?)(?=\s+[A-Za-z_][\w.-]*=|\s*$)", re.S)
_SPEC = re.compile(r"%(?P<spec>%|[-#0 +]*\d*(?:\.\d+)?(?P<kind>[diouxXeEfFgGcrsa]))")


def fields_of(template: object, args: object, text: str) -> dict[str, Any]:
    """The key=values of a line, ``text`` being the template with its arguments put in. What is
    no key=value is under ``message``."""
    given = _arguments(template, args)
    if given is None:
        return _parse(text)
    found: dict[str, Any] = {}
    # Values are put in after the parsing: what a stranger wrote in one makes no fields.
    marked = _SPEC.sub(_Marker(), template)
    for key, value in _parse(marked).items():
        whole = _MARK.fullmatch(value)
        if whole and key != "message":
            found[key] = given[int(whole[1])]
        elif key == "message":
            # `event=stopped %s` with ready-made pairs
            found |= _parse(_fill(value, given))
        else:
            found[key] = _fill(value, given)
    return found


_MARK = re.compile("\0(\\d+)\0")


class _Marker:
    """Numbers the places of arguments."""

    def __init__(self):
        self.count = 0

    def __call__(self, match: re.Match) -> str:
        if match["spec"] == "%":
            return "%"
        self.count += 1
        return f"\0{self.count - 1}\0"


def _fill(text: str, given: list[Any]) -> str:
    return _MARK.sub(lambda m: str(given[int(m[1])]), text)


def _arguments(template: object, args: object) -> list[Any] | None:
    """The arguments as their places show them; None for a template that is not simple."""
    if not isinstance(template, str) or not isinstance(args, tuple):
        return None
    specs = [m for m in _SPEC.finditer(template) if m["spec"] != "%"]
    if len(specs) != len(args) or not args or "\0" in template:
        return None
    return [_value(m[0], m["kind"], arg) for m, arg in zip(specs, args)]


def _value(spec: str, kind: str, arg: Any) -> Any:
    if isinstance(arg, float) and not math.isfinite(arg):
        return str(arg)                   # JSON has no such number
    if kind in "sra":
        plain = arg is None or isinstance(arg, (bool, int, float))
        # %r puts quotes around strings for the eye; JSON has its own.
        return arg if plain else str(arg)
    shown = spec % arg
    try:
        return int(shown) if kind in "diu" else float(shown) if kind in "eEfFgG" else shown
    except ValueError:
        return shown


def _parse(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rest = text
    for match in _PAIR.finditer(text):
        value = match["value"]
        if match["key"] == "event":
            # An event is one word; what follows it without a key is the message.
            value, _, more = value.partition(" ")
            found["event"] = value
            rest = rest.replace(match[0], more, 1)
            continue
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[match["key"]] = value
        rest = rest.replace(match[0], "", 1)
    if rest := rest.strip():
        found["message"] = rest
    return found
