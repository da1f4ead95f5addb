"""The decision journal: what every decision was made from, so that it can be made again.

The first line says by which rules and between which options; each further line is one state, the
decision and the probe that followed. `edge-agent replay` reads it (docs/decision-journal.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_agent.control import JournalEntry
from edge_agent.journal import Journal
from edge_agent.planner.candidates import Option
from edge_agent.planner.state import DeviceState
from edge_agent.policies.config import CostConfig, PolicyConfig
from split_core.errors import InputError
from split_core.model.bundle import Bundle
from split_core.version import VERSION

FORMAT = 1
# A state with 16 workers is under 10 kB; longer lines are none of ours.
_MAX_LINE = 1 << 20


class Settings(msgspec.Struct, frozen=True, tag_field="kind", tag="settings"):
    """The first line, and the first after each restart."""

    format: int
    version: str
    bundle: str
    model: str
    policy: PolicyConfig
    cost: CostConfig
    options: tuple[Option, ...]


_Line = Settings | JournalEntry


class DecisionJournal:
    """Appends to ``policy.journal``; thread-safe."""

    def __init__(self, policy: PolicyConfig, cost: CostConfig, bundle: Bundle,
                 options: tuple[Option, ...]):
        self._journal = Journal(policy.journal)
        self._journal.write(Settings(FORMAT, VERSION, bundle.id_hex, bundle.manifest.name,
                                     policy, cost, options))

    def write(self, entry: JournalEntry) -> None:
        self._journal.write(entry)

    def close(self) -> None:
        self._journal.close()


def read_journal(path: str | Path) -> Iterator[tuple[int, Settings | JournalEntry]]:
    """Line numbers and lines. Raises InputError naming the line that is none; a last line that
    was cut off is left out."""
    decoder = msgspec.json.Decoder(_Line)
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    if len(line) > _MAX_LINE:
                        raise msgspec.DecodeError(f"{len(line)} bytes")
                    yield number, decoder.decode(line)
                except msgspec.MsgspecError as e:
                    if not line.endswith(b"\n"):
                        return           # the process died while it wrote
                    raise InputError(f"{path}, line {number}: {e}") from None
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}") from None


def state_of(entry: JournalEntry) -> DeviceState:
    """The state of a line. Raises msgspec.ValidationError."""
    return msgspec.json.decode(entry.state, type=DeviceState)
