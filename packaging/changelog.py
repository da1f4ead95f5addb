"""CHANGELOG.md as Debian's tools read a changelog (deb-changelog(5)).

The packages have no Debian revision, so by Debian's policy this is their only one.
"""

from __future__ import annotations

import re
import textwrap
from datetime import datetime, timezone
from email.utils import format_datetime

_WIDTH = 78


def debian_changelog(package: str, version: str, maintainer: str, text: str,
                     built: datetime) -> str:
    """``text``'s releases, newest first. What is not released yet is of ``version``, now."""
    parts = re.split(r"^## \[(.+?)\](?: - (\S+))?\n", text, flags=re.M)[1:]
    entries = []
    for name, day, body in zip(parts[::3], parts[1::3], parts[2::3]):
        if name == "Unreleased" and not body.strip():
            continue
        when = built if day is None else datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
        entries.append(f"{package} ({version if name == 'Unreleased' else name}) bookworm;"
                       f" urgency=medium\n\n{_entry(body)}\n\n"
                       f" -- {maintainer}  {format_datetime(when)}\n")
    return "\n".join(entries)


def _entry(body: str) -> str:
    lines = []
    for block in re.split(r"\n(?=- |### )|\n\n", body.strip("\n")):
        words = " ".join(block.split())
        if words.startswith("### "):
            lines += [*([""] if lines else []), f"  [ {words[4:]} ]"]
        elif words:
            lines += textwrap.wrap(words.removeprefix("- "), _WIDTH, initial_indent="  * ",
                                   subsequent_indent="    ", break_long_words=False,
                                   break_on_hyphens=False)
    return "\n".join(lines)
