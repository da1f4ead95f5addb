"""Keeps which model runs: at the start, at a reload, and through swap, trial and rollback.

`rollout` says what follows from what; here it is written down before it happens, so that a
process that does not survive its model is counted by the next one. The operator's file wins
whenever its content has changed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge_agent.config import AgentConfig
from edge_agent.models import rollout
from edge_agent.models.rollout import Limits, Record
from edge_agent.models.selftest import self_test
from edge_agent.models.store import ModelStore, digest_of
from split_core.errors import BundleError, ConfigError, SplitError
from split_core.settings.places import default_state_dir

_log = logging.getLogger(__name__)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Keeper:
    """The record and the files of one device. Thread-safe."""

    def __init__(self, config: AgentConfig, *, clock: Callable[[], str] = _now):
        """``config`` as the operator wrote it; ``clock()`` is the time of day for people."""
        self.store = ModelStore(config.state_dir or default_state_dir("edge-agent"))
        self.limits = Limits(config.updates.rollback_after, config.updates.trial_frames)
        self.rolled_back: tuple[str, str] | None = None  # at the start: (digest, why)
        self._configured = Path(config.model.bundle)
        self._clock, self._lock = clock, threading.RLock()
        self._record: Record | None = None
        # What a reload makes of it, once the agent has put that into force.
        self._reloaded: tuple[Record, Path, AgentConfig] | None = None

    # -- what runs

    def start(self, config: AgentConfig) -> AgentConfig:
        """The settings to start with: the configuration, with the model that is in force. Counts
        the start of one that is on trial, before it is loaded.

        A model that is damaged on the disk or fails its self-test is rolled back here. Raises
        nothing of its own; that the configuration's file is missing its reader will say.
        """
        with self._lock:
            record = self._look_at_configured(config)
            if record is None:
                return config
            before = record
            record, why = rollout.on_start(record, self.limits, self._clock())
            self._save(record)
            if why is not None:
                self._note_rollback(before, why)
            while (fault := self._fault(record, config)) is not None:
                record = self._roll_back(fault)
            self.tidy()
            return _with_model(config, self.path_of(record.running))

    def overlay(self, config: AgentConfig) -> AgentConfig:
        """The settings to reload: the configuration as it is now, with the model in force, unless
        the operator has put another file there. Counts once `on_config` says that it was done."""
        with self._lock:
            record = self._look_at_configured(config)
            if record is None:
                return config
            path = Path(config.model.bundle)
            after = _with_model(config, path if record.current is None
                                else self.store.path(record.current))
            self._reloaded = record, path, after
            return after

    def on_config(self, config: AgentConfig) -> None:
        """Settings have come into force."""
        with self._lock:
            if self._reloaded is None or self._reloaded[2].model != config.model:
                return
            seen, self._configured, _ = self._reloaded
            self._reloaded = None
            # Frames may have gone on to fail, or to prove, the model in force meanwhile.
            record = rollout.with_configured(self._record or seen, seen.configured_sha256,
                                             self._clock())
            if record != self._record:
                self._save(record)

    def end_reload(self) -> None:
        """A reload is over, done or refused: what has not come into force will not."""
        with self._lock:
            self._reloaded = None

    def stop(self) -> None:
        """The process ends as it was told to."""
        with self._lock:
            if self._record is not None and self._record.trial is not None:
                self._save(rollout.on_stop(self._record))

    def _look_at_configured(self, config: AgentConfig) -> Record | None:
        """The record, once the configuration's file was compared with what was there last. None
        where there neither is a record nor a file that can be read."""
        record = self._record or self.store.load()
        try:
            configured = digest_of(config.model.bundle)
        except OSError as e:
            _log.warning("event=model-file-unreadable file=%s error=%s", config.model.bundle,
                         e.strerror)
            return record
        after = rollout.with_configured(record, configured, self._clock())
        if record is not None and record.current is not None and after.current is None:
            _log.info("event=model-file-changed file=%s bundle=%s was=%s note=the file wins",
                      config.model.bundle, configured[:16], record.current[:16])
        return after

    def _fault(self, record: Record, config: AgentConfig) -> str | None:
        """What is wrong with the model in force; None where nothing is. The configuration's file
        has nothing behind it: its reader says what is wrong with it."""
        sha256 = record.current
        if sha256 is None:
            return None
        if not self.store.proven(sha256):
            return "its file is missing or damaged"
        if record.trial is None:
            return None
        try:
            self_test(self.store.path(sha256), runtime=config.model.runtime,
                      threads=config.model.threads)
        except SplitError as e:
            return str(e)
        return None

    @property
    def record(self) -> Record:
        """Raises ConfigError before there is one."""
        with self._lock:
            if self._record is None:
                raise ConfigError(f"{self._configured} cannot be read, so that there is no model to"
                                  " go back to; updates are not taken")
            return self._record

    @property
    def on_trial(self) -> bool:
        """Whether frames have to show yet that the model in force is a good one."""
        with self._lock:
            return self._record is not None and self._record.trial is not None

    def path_of(self, sha256: str) -> Path:
        """Where a model lies, the configuration's own among them."""
        with self._lock:
            record = self._record
            if record is not None and sha256 == record.configured_sha256:
                return self._configured
            return self.store.path(sha256)

    def holds(self, sha256: str) -> bool:
        """Whether a model is here, whole, and needs no fetching."""
        if sha256 == self.record.configured_sha256:
            try:
                return digest_of(self._configured) == sha256
            except OSError:
                return False
        return self.store.proven(sha256)

    # -- what becomes of a new one

    def begin(self, sha256: str) -> Record:
        """Another model is about to be loaded: said first. Returns what `undo` takes."""
        with self._lock:
            before = self.record
            self._reloaded = None                 # of before; this is what comes into force now
            if sha256 != before.configured_sha256:
                self.store.settle(sha256)
            self._save(rollout.swapped(before, sha256, self._clock()))
            return before

    def undo(self, before: Record) -> None:
        """It could not be loaded: all is as it was."""
        with self._lock:
            self._reloaded = None
            self._save(before)

    def tidy(self) -> None:
        """Throw away the models that nothing leads back to."""
        with self._lock:
            record = self.record
            # The operator's own file may lie there, too.
            self.store.prune(record.keeps() | {record.configured_sha256})

    def on_failures(self, count: int) -> str | None:
        """Frames that the model in force failed; why it is to be rolled back, if it is. The
        record then says so already."""
        with self._lock:
            before = self.record
            after, why = rollout.on_failures(before, count, self.limits, self._clock())
            if after != before:
                self._save(after)
            if why is not None:
                self._reloaded = None             # what is gone back to is no reload
            return why

    def confirm(self) -> None:
        """The trial is over."""
        with self._lock:
            self._save(rollout.confirmed(self.record))
        self.tidy()

    def _roll_back(self, why: str) -> Record:
        before = self._record
        self._save(rollout.roll_back(before, why, self._clock()))
        self._note_rollback(before, why)
        return self._record

    def _note_rollback(self, before: Record, why: str) -> None:
        self.rolled_back = (before.running, why)
        _log.error("event=model-rolled-back bundle=%s to=%s reason=%r", before.running[:16],
                   self._record.running[:16], why)

    def _save(self, record: Record) -> None:
        """In force from now on, also where it cannot be written: that is said, and counts for
        this process alone."""
        self._record = record
        try:
            self.store.save(record)
        except SplitError as e:
            _log.error("event=model-record-not-kept error=%s", e)


def _with_model(config: AgentConfig, path: Path) -> AgentConfig:
    return msgspec.structs.replace(
        config, model=msgspec.structs.replace(config.model, bundle=str(path)))


def check_key(config: AgentConfig) -> None:
    """Raises ConfigError where the key that models have to be signed with cannot be read."""
    if config.updates.public_key_file is not None:
        from split_core.crypto.signature import load_public    # a package that few installed

        load_public(config.updates.public_key_file)


def check_signature(config: AgentConfig, sha256: str, signature: str | None) -> None:
    """Raises BundleError unless a model may be taken by its signature, ConfigError where the key
    cannot be read."""
    if config.updates.public_key_file is None:
        return
    from split_core.crypto.signature import load_public, parse_signature, verify

    if signature is None:
        raise BundleError("it is not signed, and this device takes only what the key in"
                          " updates.public_key_file has signed: `cloud-worker sign`")
    verify(bytes.fromhex(sha256), parse_signature(signature),
           load_public(config.updates.public_key_file))
