"""The decision journal: what every decision was made from, so that it can be made again.

The first line says by which rules and between which options; each further line is one state, the
decision and the probe that followed. `edge-agent replay` reads it (docs/decision-journal.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_agent.control.controller import JournalEntry
from edge_agent.journal import Journal
from edge_agent.planner.candidates import Option
from edge_agent.planner.planner import Memory
from edge_agent.planner.state import DeviceState
from edge_agent.policies.config import CostConfig, PolicyConfig
from split_core.errors import InputError, JournalError
from split_core.model.bundle import Bundle
from split_core.version import VERSION

FORMAT = 2
# Format 1 had a field more in its states, which decided nothing.
_READABLE = (1, 2)
# A state with 16 workers is under 10 kB; longer lines are none of ours.
_MAX_LINE = 1 << 20
# How `Settings` begin, to find them behind a line that was cut off.
_SETTINGS = b'{"kind":"settings",'


class Settings(msgspec.Struct, frozen=True, tag_field="kind", tag="settings"):
    """The first line, the first after each restart, and the first behind what is not there."""

    format: int
    version: str
    bundle: str
    model: str
    policy: PolicyConfig
    cost: CostConfig
    options: tuple[Option, ...]
    # What the planner remembered, where this is no start of an agent: its earlier decisions are
    # in the file before this one, or were not taken by the disk.
    memory: Memory | None = None


_Line = Settings | JournalEntry


class DecisionJournal:
    """Appends to ``policy.journal``; used by whoever decides alone."""

    def __init__(self, policy: PolicyConfig, cost: CostConfig, bundle: Bundle,
                 options: tuple[Option, ...], memory: Callable[[], Memory] = Memory):
        """``memory``: the planner's, asked for when a decision was written. Raises ConfigError."""
        self._settings = Settings(FORMAT, VERSION, bundle.id_hex, bundle.manifest.name, policy,
                                  cost, options)
        self._memory, self._before = memory, Memory()
        self._journal = Journal(policy.journal, 1e6 * policy.journal_mb, self._go_on)
        self._journal.write(self._settings)

    def write(self, entry: JournalEntry) -> None:
        """A decision, with what the planner remembered before it at the head of a new file."""
        self._journal.write(entry)
        self._before = self._memory()

    def _go_on(self) -> Settings:
        return msgspec.structs.replace(self._settings, memory=self._before)

    def close(self) -> None:
        self._journal.close()


def read_journal(path: str | Path) -> Iterator[tuple[int, Settings | JournalEntry]]:
    """Line numbers and lines. A line that was cut off is left out where that can have happened:
    at the end, and before an agent started again. Raises JournalError naming any other line that
    is none, and InputError for a file that cannot be read."""
    decoder = msgspec.json.Decoder(_Line)
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    if len(line) > _MAX_LINE:
                        raise msgspec.DecodeError(f"{len(line)} bytes")
                    found = decoder.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
                    found = _behind_a_cut(line)
                    if found is None and not line.endswith(b"\n"):
                        return           # the process died while it wrote
                    if found is None:
                        raise JournalError(f"{path}, line {number}: {e}") from None
                yield number, found
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}") from None


def _behind_a_cut(line: bytes) -> Settings | None:
    """The settings of a start whose predecessor died while it wrote: it has left no end of
    line."""
    at = line.rfind(_SETTINGS)
    try:
        return msgspec.json.decode(line[at:], type=Settings) if at > 0 else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def state_of(entry: JournalEntry) -> DeviceState:
    """The state of a line. Raises msgspec.ValidationError."""
    return msgspec.json.decode(entry.state, type=DeviceState)


@dataclass(frozen=True, slots=True)
class Moment:
    """One recorded decision, with what is needed to make it again."""

    line: int
    start: int                       # which start of the agent, from 0
    settings: Settings
    state: DeviceState
    entry: JournalEntry


def read_moments(path: str) -> Iterator[Moment]:
    """The decisions of a journal. Raises JournalError naming the line that is none."""
    settings, start = None, -1
    for number, line in read_journal(path):
        where = f"{path}, line {number}"
        if isinstance(line, Settings):
            if line.format not in _READABLE:
                raise JournalError(f"{where}: format {line.format}, wanted"
                                   f" {' or '.join(map(str, _READABLE))}; replay it with version"
                                   f" {line.version}")
            settings, start = line, start + 1
            continue
        if settings is None:
            raise JournalError(f"{where}: a decision without settings before it")
        try:
            state = state_of(line)
        except msgspec.MsgspecError as e:
            raise JournalError(f"{where}: state: {e}") from None
        if wrong := _misfit(state, settings):
            raise JournalError(f"{where}: {wrong}")
        yield Moment(number, start, settings, state, line)


def _misfit(state: DeviceState, settings: Settings) -> str | None:
    """What a planner could not work with."""
    options = settings.options
    if not options:
        return "settings without options"
    if len(state.codings) != len(options):
        return f"{len(state.codings)} codings, wanted one for each of {len(options)} options"
    deepest = max(o.segment for o in options)
    if len(state.segment_s) != deepest or len(state.careful_s) != deepest:
        return f"{len(state.segment_s)} segment times, wanted {deepest}"
    if min(o.segment for o in options) < 0:
        return "an option with a negative segment"
    if not state.scenarios:
        return "no scenario of the link"
    if any(not w.service_s or len(w.service_s) != len(state.workers[0].service_s)
           for w in state.workers):
        return "workers with different numbers of service times"
    return None
