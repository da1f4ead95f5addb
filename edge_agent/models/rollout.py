"""Which model is in force, which one before it, and when a new one is given up. Pure.

A model that has just come is on trial: it is rolled back after so many frames that it failed, or
so many starts of the process that did not end well, and confirmed after so many answered frames
in a row. What one goes back to was always confirmed itself, or is the file in the configuration,
which has no name here (None). Every function takes a `Record` and returns another.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
# Rolled back and not to be taken again: enough to remember, small enough to write every time.
MAX_REMEMBERED = 16


class Limits(msgspec.Struct, frozen=True):
    """How long a trial lasts; from [updates]."""

    rollback_after: int
    trial_frames: int


class Trial(msgspec.Struct, frozen=True):
    """What a new model has been through."""

    starts: int = 0                  # processes that loaded it and did not stop as told
    failures: int = 0                # frames that it failed


class Remembered(msgspec.Struct, frozen=True):
    """A model that was rolled back, and why."""

    sha256: Sha256
    reason: str


class Record(msgspec.Struct, frozen=True):
    """What `current.json` holds. ``current`` None: the file in the configuration."""

    configured_sha256: Sha256
    current: Sha256 | None = None
    previous: Sha256 | None = None
    trial: Trial | None = None
    refused: tuple[Remembered, ...] = ()
    since: str = ""                  # RFC 3339; since when `current` is that, for people

    @property
    def running(self) -> str:
        """The digest of what is in force."""
        return self.current or self.configured_sha256

    @property
    def fallback(self) -> str:
        """The digest of what a rollback leads to."""
        return self.previous or self.configured_sha256

    def refusal(self, sha256: str) -> str | None:
        """Why a model was rolled back once; None for one that was not."""
        return next((r.reason for r in self.refused if r.sha256 == sha256), None)

    def keeps(self) -> frozenset[str]:
        """Digests whose files may be needed again."""
        return frozenset(s for s in (self.current, self.previous) if s is not None)


def with_configured(record: Record | None, configured_sha256: str, at: str) -> Record:
    """The record once the configuration's file has been looked at: an operator who put another
    one there wants that one. What was rolled back stays remembered."""
    if record is None:
        return Record(configured_sha256, since=at)
    if record.configured_sha256 == configured_sha256:
        return record
    return Record(configured_sha256, refused=record.refused, since=at)


def on_start(record: Record, limits: Limits, at: str) -> tuple[Record, str | None]:
    """A process is about to load the model: counted before, because it may not live to tell.
    The second is why the model was rolled back, None where it was not."""
    trial = record.trial
    if trial is None:
        return record, None
    if trial.starts >= limits.rollback_after:
        reason = f"{trial.starts} starts, and none came through the trial"
        return roll_back(record, reason, at), reason
    return msgspec.structs.replace(
        record, trial=msgspec.structs.replace(trial, starts=trial.starts + 1)), None


def on_stop(record: Record) -> Record:
    """The process stops as it was told to: its start says nothing against the model."""
    trial = record.trial
    if trial is None or not trial.starts:
        return record
    return msgspec.structs.replace(
        record, trial=msgspec.structs.replace(trial, starts=trial.starts - 1))


def swapped(record: Record, sha256: str, at: str) -> Record:
    """Another model comes into force, on trial; its loading counts as a start. The file in the
    configuration needs none: an operator chose it, and there is nothing else to go back to."""
    # One on trial is not worth going back to.
    confirmed = record.previous if record.trial is not None else record.current
    if sha256 == record.configured_sha256:
        return msgspec.structs.replace(record, current=None, previous=None, trial=None, since=at)
    previous = confirmed if confirmed != sha256 else None
    refused = tuple(r for r in record.refused if r.sha256 != sha256)
    return msgspec.structs.replace(record, current=sha256, previous=previous,
                                   trial=Trial(starts=1), refused=refused, since=at)


def on_failures(record: Record, count: int, limits: Limits,
                at: str) -> tuple[Record, str | None]:
    """The model failed frames. The second is why it was rolled back, None where it was not."""
    if record.trial is None or not count:
        return record, None
    trial = msgspec.structs.replace(record.trial, failures=record.trial.failures + count)
    if trial.failures >= limits.rollback_after:
        reason = f"{trial.failures} frames failed"
        return roll_back(record, reason, at), reason
    return msgspec.structs.replace(record, trial=trial), None


def confirmed(record: Record) -> Record:
    """Enough frames in a row were answered: the trial is over."""
    return msgspec.structs.replace(record, trial=None)


def roll_back(record: Record, reason: str, at: str) -> Record:
    """Back to the one before, which was confirmed. A second time leads to the file in the
    configuration."""
    if record.current is None:
        return record
    refused = [r for r in record.refused if r.sha256 != record.current]
    refused.append(Remembered(record.current, reason))
    return msgspec.structs.replace(
        record, current=record.previous, previous=None, trial=None,
        refused=tuple(refused[-MAX_REMEMBERED:]), since=at)
