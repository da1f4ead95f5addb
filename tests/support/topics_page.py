"""docs/mqtt-topics.md taken apart: its sections, tables and topics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "mqtt-topics.md").read_text("utf-8")


def section(title: str) -> str:
    """What stands below a heading, up to the next of any kind."""
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", PAGE, re.M | re.S)
    assert found is not None, f"no section {title}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The rows of a section's first table, without its head."""
    table = re.search(r"(?:^\|.*\n)+", section(title), re.M)
    assert table is not None, f"no table in {title}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in table[0].splitlines()[2:]]


def fields(title: str) -> set[str]:
    """The names in the first column of a section's table."""
    return {name for cells in rows(title) for name in re.findall(r"`(\w+)`", cells[0])}


@dataclass(frozen=True, slots=True)
class TopicRow:
    """A row of the table of topics."""

    topic: str
    retained: bool
    qos: int
    writer: str


def topic_rows() -> list[TopicRow]:
    """The table of topics; QoS 0 where it says none."""
    found = re.findall(r"^\| `((?:\{root\}|homeassistant)/[^`]*)` \| (.*?) ?\| (.*?) \|", PAGE, re.M)
    assert len(found) > 12
    return [TopicRow(topic, "R" in how.split(",")[0], int((re.findall(r"Q(\d)", how) or ["0"])[0]),
                     writer) for topic, how, writer in found]


def topic_filters(root: str, device: str = r"[^/]+") -> list[str]:
    """The topics of the page as regular expressions."""
    listed = re.findall(r"^\| `((?:\{root\}|homeassistant)/[^`]*)` \|", PAGE, re.M)
    assert len(listed) > 12
    return [re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(topic.replace("{root}", root)).replace(
        re.escape("{device}"), device)) for topic in listed]
