"""The topic of an answer, from the template in the configuration. Pure."""

from __future__ import annotations

import difflib
import re

from split_core.errors import ConfigError

# {id} of the device, {source} as the source names its frames, {outcome}, and {label}: of the
# best class or the surest object, or the text that was read; "none" where there is no answer.
PLACES = ("id", "source", "outcome", "label")
_PLACE = re.compile(r"\{(\w*)\}")
# A label is a level of a topic, not a book.
_MAX_LEVEL = 100


def check_template(template: str, key: str = "result.topic") -> None:
    """Raises ConfigError for what is no topic, or has a place that nothing goes in."""
    if not template or any(c in template for c in "+#\0"):
        raise ConfigError(f"{key} is {template!r}, wanted one topic, without + and #")
    for place in _PLACE.findall(template):
        if place not in PLACES:
            near = difflib.get_close_matches(place, PLACES, n=1)
            raise ConfigError(f"{key} has {{{place}}}" + (
                f"; did you mean {{{near[0]}}}?" if near else
                f", wanted {', '.join(f'{{{p}}}' for p in PLACES)}"))


def fill(template: str, device: str, record: dict) -> str:
    """The topic of an answer's record."""
    values = {"id": device, "source": record["source"] or "frame",
              "outcome": record["outcome"], "label": _label(record)}
    return _PLACE.sub(lambda m: _level(values[m[1]]), template)


def filter_of(template: str, device: str) -> str:
    """What to subscribe to for all of a device's answers: levels that vary become +."""
    levels = []
    for level in template.replace("{id}", device).split("/"):
        levels.append("+" if _PLACE.search(level) else level)
    return "/".join(levels)


def _label(record: dict) -> str:
    top, objects, text = record.get("top"), record.get("objects"), record.get("text")
    if top:
        return top[0]["label"] or str(top[0]["index"])
    if objects:
        best = max(objects, key=lambda o: o["score"])
        return best["label"] or str(best["index"])
    return text or "none"


def _level(text: str) -> str:
    """Some text as part of one level of a topic."""
    return "".join("_" if c in "+#/\0" else c for c in text)[:_MAX_LEVEL] or "none"
