"""The worker: wires the parts. Frames come in, tails run, results go out.

The network thread checks and queues, the tail thread computes; neither waits for the other.
The worker holds no plan: every frame says what it is.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass

from cloud_side.admission import Admission, Job, Turned
from cloud_side.bases import Base
from cloud_side.blobs_out import BlobsOut
from cloud_side.config import WorkerConfig
from cloud_side.observers.base import WorkerGlance, WorkerObserver, WorkerObservers
from cloud_side.profiles import BundleProfiles
from cloud_side.reports import Reports
from cloud_side.settings import changes
from cloud_side.store import BundleStore
from cloud_side.tail import TailThread
from split_core.blobs import RETRY_S, BlobFetch
from split_core.errors import MessageError, SplitError
from split_core.model.runner import resolve_runtime
from split_core.node import Node
from split_core.outbox import Outgoing
from split_core.version import VERSION
from split_core.wire import messages as m
from split_core.wire.chunks import MAX_MESSAGE_BYTES, VERSIONS_ACCEPTED, Message
from split_core.wire.records import WorkerInfo, WorkerStatus
from split_core.wire.topics import Topics

_log = logging.getLogger(__name__)
# A device that has not answered a request for this long may be gone: another one that offers
# the same bundle takes its place, and the transfer goes on where it stopped.
_STALLED_S = 1.5 * RETRY_S
# After this nobody is asked any more, and what has arrived is thrown away. So long, too, nothing
# is fetched after the disk has refused some of it.
_GIVE_UP_S = 60.0
# A result that waits for a thin uplink is sent for so long after its frame's budget: the device
# has finished the frame by itself and only learns from it. Later ones would hold up the fresh.
_LATE_S = 2.0
# Bundles on their way here at once. A fleet of new models takes turns: devices offer theirs again.
MAX_FETCHES = 16
# Bundles named in the status, the most recently used: 200 ids make 13 kB of JSON.
_MAX_LISTED = 200


@dataclass(slots=True)
class _Fetch:
    """A bundle on its way here, and the device that is asked for it."""

    blob: BlobFetch
    sender: str
    heard_s: float


class CloudWorker:
    """One worker on one broker. `start`, then `wait` until something stops it."""

    def __init__(self, config: WorkerConfig):
        config.check()
        self.config = config
        self.topics = Topics(config.root)
        self.store = BundleStore(config.store.path, config.store.max_mb << 20)
        # Of refinements: asked for, in a result, and come when nothing waited for them.
        self.counts = {"results": 0, "refused": 0, "asked": 0, "refined": 0, "idle": 0}
        self._counting = threading.Lock()     # both threads do
        self.runtime = resolve_runtime(config.run.runtime)
        self._held = frozenset(self.store.digests())
        self._fetches: dict[bytes, _Fetch] = {}
        self._fetch_from_s = 0.0              # not before: the disk was full
        self._noticed: set[bytes] = set()     # put into the store by others, and being loaded
        self._blobs_out = BlobsOut(
            self.store, lambda device: self.topics.device_inbox(device, config.id),
            gives=lambda: self.config.store.give_to_devices, on_wanted=self._notice)
        self._observers = WorkerObservers()
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        profiles = BundleProfiles(config.state_dir, runtime=self.runtime,
                                  threads=config.run.threads)
        self._tail = TailThread(
            self.store, Admission(config.run.max_queue), profiles, runtime=self.runtime,
            threads=config.run.threads, max_loaded=config.run.max_loaded,
            on_result=self._send_result, on_turned=self._send_refusal,
            on_unsure=self._ask_refinement, on_loaded=self._publish_status, on_fatal=self.fail,
        )
        self.node = Node(
            config.broker.options(), self.topics, node_id=config.id,
            status_topic=self.topics.worker_up(config.id, "status"),
            inbox_filter=self.topics.worker_inbox_filter(config.id),
            status_of=self._status, on_message=self._received,
            on_publication=self._observers.on_publication, on_up=self._up,
            on_down=self._down, on_fatal=self.fail,
            keyring=config.seal.keyring(),
        )
        self._blobs_out.node = self.node
        self._reports = Reports(self.node, self._tail, profiles)

    def attach(self, observer: WorkerObserver) -> None:
        """Tell it what happens from now on."""
        self._observers.attach(observer)

    def glance(self) -> WorkerGlance:
        """The worker at this moment. From any thread."""
        session, tail = self.node.session, self._tail.glance(time.monotonic())
        return WorkerGlance(
            connected=self.node.is_up, trouble=str(session.trouble or ""),
            dead_threads=tuple(name for name, alive in (
                ("network", session.is_alive), ("tail", self._tail.is_alive)) if not alive),
            loading=tail.loading, queued=tail.queued, queue_size=self.config.run.max_queue,
            wait_s=tail.wait_s, busy_s=tail.busy_s, busy_ratio=self._reports.busy_ratio,
            unsure=tail.unsure, models=tail.models,
            stored=len(self._held), unfit=len(self._tail.unfit), fetching=len(self._fetches),
            refused_messages=self.node.refused, unsent_bytes=self.node.backlog_bytes,
            session=session.stats)

    @property
    def tail(self) -> TailThread:
        """For whoever watches the threads."""
        return self._tail

    def reconfigure(self, config: WorkerConfig) -> tuple[str, ...]:
        """Put other settings into force between two frames. Returns the keys that differ but
        take a restart, and stay as they were. Raises ConfigError; then nothing has changed."""
        config.check()
        config, left = changes(self.config, config)
        self.store.max_bytes = config.store.max_mb << 20
        self._tail.reconfigure(max_queue=config.run.max_queue, max_loaded=config.run.max_loaded)
        self.config = config
        return left

    def start(self) -> None:
        self._tail.start()
        for digest in self.store.digests()[: self.config.run.max_loaded]:
            self._tail.preload(digest)
        self.node.set_state("ready")
        self.node.start()
        self._reports.start()
        self.node.session.call_soon(self._retry_fetches)

    def stop(self) -> None:
        self._stopped.set()
        self._tail.stop()                 # first: a preload that ends would say "ready"
        self.node.stop()

    def wait(self) -> None:
        """Until `stop` or a failure, which is raised here."""
        self._stopped.wait()
        if self._failure is not None:
            raise self._failure

    def request_stop(self) -> None:
        """Make `wait` return; for signal handlers."""
        self._stopped.set()

    @property
    def stopping(self) -> threading.Event:
        return self._stopped

    def fail(self, error: BaseException) -> None:
        """A thread died: `wait` raises this."""
        if not isinstance(error, SplitError):    # one of ours says in its words why we end
            _log.critical("event=thread-died error=%r", error)
        self._failure = error
        self._stopped.set()

    # -- on the network thread

    def _up(self, limits) -> None:
        self._reports.on_up()
        self._reports.publish("info", WorkerInfo(VERSION, VERSIONS_ACCEPTED, self.runtime))

    def _down(self, reason: str) -> None:
        self._tail.forget_waiting()
        self._blobs_out.forget()

    def _status(self, state: str, session: str) -> WorkerStatus:
        held = [d for d in self.store.digests() if d in self._held]
        return WorkerStatus(state, session, tuple(d.hex() for d in held[:_MAX_LISTED]))

    def _publish_status(self) -> None:
        self._held = frozenset(self.store.digests()) - self._tail.unfit.keys()
        self._noticed.clear()
        self.node.set_state("ready")

    def _received(self, sender: str, message: Message) -> None:
        self._observers.on_message(message.kind, len(message.body))
        match message.kind:
            case m.Kind.FRAME:
                self._frame(sender, m.pull_frame(message.body), message.first_s)
            case m.Kind.REFINEMENT:
                self._refinement(sender, m.pull_refinement(message.body), message.first_s)
            case m.Kind.BLOB_PART:
                self._blob_part(sender, m.pull_blob_part(message.body))
            case m.Kind.BLOB_REQUEST:
                self._blobs_out.on_request(sender, m.pull_blob_request(message.body))
            case kind:
                raise MessageError(f"a worker takes no {kind.name}")

    def _frame(self, sender: str, frame: m.Frame, first_s: float) -> None:
        now_s = time.monotonic()
        job = Job(sender, frame, first_s, now_s)
        if frame.bundle_id not in self._held:
            self._send_refusal(Turned(job, m.Reason.UNKNOWN_BUNDLE, 0.0), "")
            self._begin_fetch(frame.bundle_id, sender)
            return
        turned = self._tail.offer(job, now_s)
        if turned is not None:
            self._send_refusal(turned, "")

    def _refinement(self, sender: str, refinement: m.Refinement, first_s: float) -> None:
        if not self._tail.refine(sender, refinement, first_s, time.monotonic()):
            self._count("idle")            # given up, or never asked for

    # -- results, from the tail thread

    def _ask_refinement(self, base: Base, margin: float) -> None:
        frame = base.job.frame
        self._count("asked")
        self._send(base.job.sender, m.Kind.REFINEMENT_REQUEST, m.push_refinement_request(
            m.RefinementRequest(frame.session, frame.frame_id, margin)))
        self.node.session.call_at(base.give_up_s, self._tail.give_up_waiting)

    def _count(self, what: str) -> None:
        with self._counting:
            self.counts[what] += 1

    def _send_result(self, job: Job, result: m.Result) -> None:
        body = m.push_result(result)
        if len(body) > MAX_MESSAGE_BYTES:
            self._send_refusal(Turned(job, m.Reason.FAILED, 0.0),
                               f"result of {len(body)} bytes, at most {MAX_MESSAGE_BYTES}")
            return
        self._count("results")
        if result.refined:
            self._count("refined")
        self._send(job.sender, m.Kind.RESULT, body, until_s=job.deadline_s + _LATE_S)
        self._observers.on_result(job, result)

    def _send_refusal(self, turned: Turned, detail: str) -> None:
        self._count("refused")
        job = turned.job
        _log.debug("event=frame-turned sender=%s frame=%d reason=%s detail=%r", job.sender,
                   job.frame.frame_id, turned.reason.name, detail)
        self.node.tell_once(job.sender, f"frame turned away, {turned.reason.name}: {detail}",
                            worth_telling=bool(detail))
        self._send(job.sender, m.Kind.REFUSAL, m.push_refusal(m.Refusal(
            job.frame.session, job.frame.frame_id, turned.reason,
            m.clamp_us(turned.retry_after_s), detail)))
        self._observers.on_refused(turned)

    def _send(self, device: str, kind: m.Kind, body: bytes, until_s: float = math.inf) -> None:
        """Have it sent, or thrown away if its turn comes after ``until_s``."""
        nbytes = len(body)
        self.node.send(Outgoing(
            self.topics.device_inbox(device, self.config.id), kind, nbytes,
            make_body=lambda now_s: body if now_s <= until_s else None,
            on_sent=lambda now_s: self._observers.on_sent(kind, nbytes)))

    # -- bundles from devices, and to them

    def _notice(self, digest: bytes) -> None:
        """A bundle in the store is wanted: one that `deploy` put there is not known yet."""
        if digest not in self._held and digest not in self._noticed and (
                digest not in self._tail.unfit):
            self._noticed.add(digest)
            self._tail.preload(digest)

    def _begin_fetch(self, digest: bytes, sender: str) -> None:
        if digest in self._held or digest in self._tail.unfit:
            return
        if self.store.holds(digest):
            self._notice(digest)
            return
        if not self.config.store.accept_from_devices:
            return
        now_s, running = time.monotonic(), self._fetches.get(digest)
        if running is not None and now_s - running.heard_s < _STALLED_S:
            return
        if running is None and (len(self._fetches) >= MAX_FETCHES or now_s < self._fetch_from_s):
            return
        # One transfer a sender: a device cannot make us open files without bound.
        if any(f.sender == sender for f in self._fetches.values()):
            return
        _log.info("event=bundle-fetch bundle=%s from=%s", digest.hex()[:16], sender)
        if running is None:
            self._observers.on_fetch("begun")
        try:
            blob = running.blob if running else self.store.fetch(digest)
        except OSError as e:
            self._cannot_keep(digest, e)
            return
        self._fetches[digest] = _Fetch(blob, sender, now_s)
        self._ask(digest)

    def _cannot_keep(self, digest: bytes, error: OSError) -> None:
        """The disk takes no more. What a device sends again would be for nothing."""
        _log.error("event=bundle-not-kept bundle=%s folder=%s error=%r note=nothing is fetched for"
                   " %.0f s", digest.hex()[:16], self.store.folder, error.strerror, _GIVE_UP_S)
        fetch = self._fetches.pop(digest, None)
        if fetch is not None:
            fetch.blob.abandon()
        self._fetch_from_s = time.monotonic() + _GIVE_UP_S
        self._observers.on_fetch("failed")

    def _ask(self, digest: bytes) -> None:
        fetch = self._fetches[digest]
        request = fetch.blob.next_request(time.monotonic())
        if request is not None:
            self._send(fetch.sender, m.Kind.BLOB_REQUEST, m.push_blob_request(request))

    def _retry_fetches(self) -> None:
        now_s = time.monotonic()
        # First: what a disk does to one transfer must not end the asking for all.
        self.node.session.call_at(now_s + RETRY_S, self._retry_fetches)
        for digest, fetch in list(self._fetches.items()):
            if now_s - fetch.heard_s > _GIVE_UP_S:
                _log.warning("event=bundle-given-up bundle=%s from=%s", digest.hex()[:16],
                             fetch.sender)
                del self._fetches[digest]
                self._observers.on_fetch("failed")
                fetch.blob.abandon()
            else:
                self._ask(digest)

    def _blob_part(self, sender: str, part: m.BlobPart) -> None:
        # A part without bytes is an offer: the sender holds this blob.
        if not part.data and part.total_bytes:
            self._begin_fetch(part.digest, sender)
            return
        fetch = self._fetches.get(part.digest)
        if fetch is None or fetch.sender != sender:
            return
        fetch.heard_s = time.monotonic()
        try:
            whole = fetch.blob.add(part, fetch.heard_s)
            if whole:
                self.store.open(part.digest)          # proven to be a bundle, or thrown away
        except OSError as e:
            self._cannot_keep(part.digest, e)
            return
        except SplitError as e:
            fetch.blob.abandon()
            del self._fetches[part.digest]
            self._observers.on_fetch("failed")
            raise MessageError(f"bundle {part.digest.hex()[:16]}: {e}") from None
        if not whole:
            self._ask(part.digest)
            return
        del self._fetches[part.digest]
        self._observers.on_fetch("stored")
        self.store.trim(keep=part.digest)
        _log.info("event=bundle-stored bundle=%s bytes=%d", part.digest.hex()[:16],
                  fetch.blob.total)
        self._tail.preload(part.digest)
