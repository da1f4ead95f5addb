"""Carries out `cmd/model`: fetch, prove, try, swap; and watches what came of it.

One thread does it, one update at a time. What the network and inference threads tell it they only
leave here. The agent's own `reconfigure` makes the swap, between two frames.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.frames import ANSWERED, Answer
from edge_agent.models.fetch import Fetch, Stopped
from edge_agent.models.keeper import Keeper, check_key, check_signature
from edge_agent.models.rollout import Sha256
from edge_agent.models.selftest import check_fits, self_test
from edge_agent.observers.base import Observer
from split_core.config import convert
from split_core.errors import BundleError, InputError, MessageError, SplitError
from split_core.model.bundle import Bundle, open_bundle
from split_core.wire.messages import BlobPart, BlobRequest, Kind, push_blob_request
from split_core.wire.topics import check_node_id

_log = logging.getLogger(__name__)
# The states that end an update well.
_LAST = frozenset({"swapped", "in-force"})
# How often the sender of the command is told how far the transfer is.
_PROGRESS_S = 2.0
# A model may take longer than a frame's deadline if the one before it nearly did, too.
_SLOWER = 3.0
_JOIN_S = 10.0

Reply = Callable[[dict], None]
Tell = Callable[..., None]


class ModelCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `cmd/model` says."""

    sha256: Sha256
    bytes: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    from_: str = msgspec.field(name="from")          # the worker that holds it
    signature: str | None = None                     # "ed25519 BASE64"
    # Take it although it was rolled back before.
    force: bool = False


class ModelStep(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a reply to it: one for each step, the last of them swapped, in-force or
    refused."""

    state: Literal["fetching", "verifying", "testing", "swapped", "in-force", "refused"]
    bundle: Sha256 | UnsetType = UNSET               # which; left out: the command did not say
    bytes: int | UnsetType = UNSET                   # fetching: of the whole bundle
    received_bytes: int | UnsetType = UNSET          # fetching: of it, so far
    model: str | UnsetType = UNSET                   # its name, once it has been opened
    was: str | UnsetType = UNSET                     # swapped: the bundle before


class _Refused(SplitError):
    """The update goes no further; the old model stays."""


class _CannotGoBack(SplitError):
    """The model in force fails, and cannot be replaced while it runs: a new process has to."""


class Updater(Observer):
    """One agent's updates. Entered before the agent starts, left after it has stopped.

    ``tell(event, text, **data)`` publishes an event, once somebody has set it; the kinds are in
    docs/mqtt-topics.md.
    """

    def __init__(self, agent: EdgeAgent, keeper: Keeper,
                 *, clock: Callable[[], float] = time.monotonic):
        """Raises ConfigError for a public key that cannot be read."""
        check_key(agent.config)
        self._agent, self._keeper, self._clock = agent, keeper, clock
        self.tell: Tell = lambda event, text, **data: None
        self._wake = threading.Condition()
        self._command: tuple[ModelCommand, Reply] | None = None  # waits, or is carried out
        self._taken = False
        self._fetch: Fetch | None = None
        self._stopping = False
        self._results: deque[bool] = deque()             # frames of the model on trial: answered?
        self._on_trial = keeper.on_trial
        self._first_id, self._last_id = 0, 0
        self._good = 0
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)
        agent.on_blob_part = self._on_blob_part

    # -- from other threads

    def request(self, command: dict, reply: Reply) -> None:
        """Begin what a command says. ``reply`` is called at once if it is refused at once, else
        with each step, on the thread that does it; the last has the state "swapped", "in-force" or
        "refused"."""
        try:
            update = self._check(command)
            with self._wake:
                if self._command is not None:
                    raise _Refused(f"another update, of {self._command[0].sha256[:16]}..., is"
                                   " under way; wait for its end")
                self._command, self._taken = (update, reply), False
                self._wake.notify()
        except SplitError as e:
            _log.warning("event=model-refused reason=%r", str(e))
            reply({"status": "error", "error": str(e), "data": {"state": "refused"}})

    def _check(self, command: dict) -> ModelCommand:
        """What can be said of a command without looking at anything. Raises SplitError."""
        config = self._agent.config
        update = convert({k: v for k, v in command.items() if k != "id"}, ModelCommand,
                         "command model")
        check_node_id(update.from_)
        if update.bytes > config.updates.max_mb << 20:
            raise _Refused(f"a model of {update.bytes} bytes; updates.max_mb allows"
                           f" {config.updates.max_mb << 20}")
        return update

    def _on_blob_part(self, sender: str, part: BlobPart) -> None:
        fetch = self._fetch
        if fetch is None:
            raise MessageError("a part of a bundle, and none is on its way here")
        fetch.push(sender, part)

    def on_answer(self, answer: Answer) -> None:
        self._last_id = max(self._last_id, answer.frame_id)
        if not self._on_trial or answer.frame_id < self._first_id:
            return
        answered = answer.outcome in ANSWERED
        if answered or answer.by_model:
            with self._wake:
                self._results.append(answered)
                self._wake.notify()

    # -- the thread

    def __enter__(self) -> Updater:
        if self._keeper.rolled_back is not None:
            was, why = self._keeper.rolled_back
            self._say_rolled_back(was, why)
        self._thread.start()
        return self

    def __exit__(self, kind, *_exc) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(_JOIN_S)
        self._agent.on_blob_part = None
        # Not a start that ended in a failure; a camera that is missing is none of the model's.
        if kind is None or issubclass(kind, InputError):
            self._keeper.stop()

    def _run(self) -> None:
        try:
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping or self._results or (
                        self._command is not None and not self._taken))
                    waiting, self._taken = self._command, self._command is not None
                self._look()
                if waiting is not None:
                    try:
                        self._update(*waiting)
                    finally:
                        self._free(waiting[0])
        except Stopped:
            pass
        except BaseException as e:  # a thread that dies takes the process with it, loudly
            self._agent.fail(e)

    def _free(self, update: ModelCommand) -> None:
        """An update has ended; another may come, and may have come already."""
        with self._wake:
            if self._command is not None and self._command[0] is update:
                self._command = None

    def _look(self) -> None:
        """What came of the model on trial; also called while an update is under way. Raises
        Stopped once the agent stops."""
        with self._wake:
            if self._stopping:
                raise Stopped("the agent stops")
            results = list(self._results)
            self._results.clear()
        if not results or not self._on_trial:
            return
        failures = results.count(False)
        self._good = 0 if failures else self._good + len(results)
        if failures:
            why = self._keeper.on_failures(failures)
            if why is not None:
                self._roll_back(why)
        elif self._good >= self._keeper.limits.trial_frames:
            self._keeper.confirm()
            self._on_trial = False
            sha256 = self._keeper.record.running
            _log.info("event=model-confirmed bundle=%s frames=%d", sha256[:16], self._good)
            self.tell("model-confirmed", f"{self._good} frames in a row were answered: it stays",
                       bundle=sha256, frames=self._good)

    # -- an update

    def _update(self, update: ModelCommand, reply: Reply) -> None:
        def step(state: str, text: str, tell: dict | None = None, **data) -> None:
            _log.info("event=model-%s bundle=%s text=%r", state, update.sha256[:16], text)
            if state in _LAST:           # whoever hears of it may send the next at once
                self._free(update)
            reply({"status": "ok", "data": msgspec.to_builtins(
                ModelStep(state=state, bundle=update.sha256, **data))})
            if tell is not None:
                self.tell(f"model-{state}", text, bundle=update.sha256, **tell)

        try:
            self._carry_out(update, step)
        except (Stopped, _CannotGoBack):
            reply({"status": "error", "error": "the agent stops; send it again",
                   "data": {"state": "refused", "bundle": update.sha256}})
            raise
        except (SplitError, OSError) as e:
            reason = f"{e.strerror}: {self._keeper.store.folder}" if isinstance(e, OSError) \
                else str(e)
            _log.warning("event=model-refused bundle=%s reason=%r", update.sha256[:16], reason)
            self._free(update)
            reply({"status": "error", "error": reason,
                   "data": {"state": "refused", "bundle": update.sha256}})
            self.tell("model-refused", f"the new model was not taken: {reason}",
                       bundle=update.sha256, reason=reason)

    def _carry_out(self, update: ModelCommand, step: Callable[..., None]) -> None:
        """All steps, in this order: nothing is parsed before it is proven, and nothing is proven
        that nobody signed."""
        keeper, sha256 = self._keeper, update.sha256
        record = keeper.record
        if sha256 == self._agent.bundle.id_hex:
            step("in-force", "it is in force already", model=self._agent.bundle.manifest.name)
            return
        check_signature(self._agent.config, sha256, update.signature)
        refusal = record.refusal(sha256)
        if refusal is not None and not update.force:
            raise _Refused(f"it was rolled back here before ({refusal}); send it with"
                           " \"force\": true to try again")
        if not keeper.holds(sha256):
            self._fetch_it(update, step)
        step("verifying", "its digest is proven", tell={})
        path = keeper.path_of(sha256)
        try:
            bundle = open_bundle(path)
            step("testing", "it runs beside the old one", tell={}, model=bundle.manifest.name)
            self._try(bundle)
        except BundleError:
            self._discard(sha256)
            raise
        self._swap(bundle, step)

    def _fetch_it(self, update: ModelCommand, step: Callable[..., None]) -> None:
        agent, keeper = self._agent, self._keeper
        keeper.tidy()
        blob = keeper.store.fetch(update.sha256, update.bytes)
        step("fetching", f"from worker {update.from_}",
             tell={"bytes": update.bytes, "worker": update.from_},
             bytes=update.bytes, received_bytes=blob.received)
        topic = agent.topics.worker_inbox(update.from_, agent.config.id)
        told_s, told_bytes = self._clock(), blob.received

        def send(request: BlobRequest) -> None:
            agent.node.send_now(topic, Kind.BLOB_REQUEST, push_blob_request(request), bulk=True)

        def look() -> None:
            nonlocal told_s, told_bytes
            self._look()
            if self._clock() - told_s >= _PROGRESS_S and blob.received != told_bytes:
                told_s, told_bytes = self._clock(), blob.received
                step("fetching", f"{blob.received} of {update.bytes} bytes", bytes=update.bytes,
                     received_bytes=blob.received)

        fetch = self._fetch = Fetch(blob, update.from_, update.bytes, send,
                                    lambda: agent.node.is_up, clock=self._clock)
        try:
            fetch.run(look)
        except OSError as e:
            blob.abandon()               # a full disk is everybody's: give back what was taken
            raise _Refused(f"cannot write the model: {e.strerror}"
                           f" ({keeper.store.folder})") from None
        finally:
            self._fetch = None

    def _try(self, bundle: Bundle) -> None:
        """Raises BundleError for one that may not run the frames here."""
        agent = self._agent
        check_fits(bundle, agent.bundle)
        report = self_test(bundle.path, runtime=agent.config.model.runtime,
                           threads=agent.config.model.threads, look=self._look)
        old_s = agent.head.times.span_s(0, len(agent.bundle.manifest.segments))
        limit_s = max(1e-3 * agent.config.frame.deadline_ms, _SLOWER * old_s)
        if report.whole_s > limit_s:
            raise BundleError(f"it takes {1e3 * report.whole_s:.0f} ms here, the old one"
                              f" {1e3 * old_s:.0f}; at most {1e3 * limit_s:.0f} will do for a"
                              f" deadline of {agent.config.frame.deadline_ms:.0f} ms")

    def _discard(self, sha256: str) -> None:
        """A file that nothing leads to; never one that is in use, or the operator's."""
        record = self._keeper.record
        if sha256 != record.configured_sha256 and sha256 not in record.keeps():
            self._keeper.store.remove(sha256)

    def _swap(self, bundle: Bundle, step: Callable[..., None]) -> None:
        was, before = self._agent.bundle.id_hex, None

        def begin() -> None:
            nonlocal before
            before = self._keeper.begin(bundle.id_hex)

        try:
            self._put_into_force(bundle.path, begin)
        except BaseException:
            if before is not None:
                self._keeper.undo(before)
            self._discard(bundle.id_hex)
            raise
        self._watch()
        self._keeper.tidy()
        step("swapped", "it is in force", model=bundle.manifest.name, was=was)

    def _put_into_force(self, path: Path, begin: Callable[[], None] = lambda: None) -> None:
        """``begin()`` is called when no reload can come between it and the swap any more."""
        def changed(config: AgentConfig) -> AgentConfig:
            begin()
            return msgspec.structs.replace(config, model=msgspec.structs.replace(
                config.model, bundle=str(path)))

        self._agent.reconfigure(changed)

    def _watch(self) -> None:
        """Judge the model in force by the frames that come from now on, if it is on trial."""
        with self._wake:
            # Frames handed in before may have begun with the old one.
            self._first_id = max({self._last_id, *self._agent.ledger.open_frames}) + 1
            self._results.clear()
            self._good = 0
            self._on_trial = self._keeper.on_trial

    def on_config(self, config: AgentConfig) -> None:
        """A reload may have put the operator's file into force."""
        self._keeper.on_config(config)
        self._on_trial = self._on_trial and self._keeper.on_trial

    def _roll_back(self, why: str) -> None:
        """The record says it already; now do it."""
        was, self._on_trial = self._agent.bundle.id_hex, False
        record = self._keeper.record
        _log.error("event=model-rolled-back bundle=%s to=%s reason=%r", was[:16],
                   record.running[:16], why)
        try:
            self._put_into_force(self._keeper.path_of(record.running))
        except SplitError as e:
            # Beside the one that fails there is no room, or its file is damaged: a process of
            # its own finds out, and has the rest of the machine.
            raise _CannotGoBack(f"the model that fails ({why}) cannot be replaced while it runs:"
                                f" {e}") from None
        self._say_rolled_back(was, why)

    def _say_rolled_back(self, was: str, why: str) -> None:
        self.tell("model-rolled-back", f"the model before it is in force again: {why}",
                   bundle=self._keeper.record.running, was=was, reason=why)
