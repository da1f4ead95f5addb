"""Frames to a worker and results back: the agent's end of the wire.

Everything here but `launch` runs on the network thread. The result is the acknowledgement;
what is refused or lost is handed to the head thread as a fallback that is due.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from edge_agent.belief.beliefs import Beliefs
from edge_agent.inference.flights import Flight, Flights
from edge_agent.frames import Ledger, Plan
from edge_agent.inference.gate import Gate
from edge_agent.inference.state import ExplicitState
from edge_agent.inference.workers import Workers
from split_core.errors import MessageError
from split_core.model.bundle import Bundle
from split_core.node import Node
from split_core.outbox import Outgoing
from split_core.wire import messages as m
from split_core.blobs import answer_request
from split_core.wire.chunks import MAX_MESSAGE_BYTES, Message
from split_core.wire.payload import Coder
from split_core.wire.quality import Encoded
from split_core.wire.records import WorkerStatus, load

_log = logging.getLogger(__name__)
# A worker that lacks the bundle is offered it this often until its status says it has it.
_OFFER_S = 2.0


class Sender:
    """Flights, gate and workers behind one lock, which the head thread shares."""

    def __init__(self, bundle: Bundle, workers: Workers, gate: Gate, ledger: Ledger,
                 state: ExplicitState, wake: threading.Condition,
                 on_result: Callable[[Flight, dict[str, np.ndarray], m.Result, float], None], *,
                 on_worker: Callable[[str | None], None] = lambda worker: None,
                 clock: Callable[[], float] = time.monotonic):
        self.bundle, self.workers, self.gate, self.ledger = bundle, workers, gate, ledger
        self.state, self.wake, self._on_result = state, wake, on_result
        self._on_worker, self._clock = on_worker, clock
        self.flights = Flights()
        self.beliefs: Beliefs | None = None   # what is learned of link and workers, where wanted
        self.node: Node | None = None         # set by the agent, which the node calls
        self.worker: str | None = None        # who gets the next frame
        self._offered_s = -_OFFER_S
        self._next_offer = None               # the timer of the next one
        self._parts_queued = 0                # of the bundle, not sent yet
        self._any_shape = {n for n, s in bundle.specs.items() if s.shape == ()}
        self._any_shape -= {s.output for s in bundle.manifest.states}
        self._coder = Coder(clips=bundle.clips, image=bundle.manifest.image,
                            codings=bundle.codings)

    # -- from the head thread

    def worker_for(self, plan: Plan) -> str | None:
        """Who gets a plan's frames: the plan's own worker while that is there."""
        if plan.worker is not None and self.workers.is_trusted(plan.worker) and (
                self.workers.holds(plan.worker, self.bundle.id_hex)):
            return plan.worker
        return self.worker

    def waiting(self) -> tuple[int, float]:
        """Bytes of ours that nobody has answered for, and how long the link has had for them."""
        backlog = self.node.backlog_bytes
        if self.beliefs is None:
            return backlog, 0.0
        transfers = self.beliefs.transfers
        return max(backlog, transfers.open_bytes()), transfers.open_for_s(self._clock())

    def on_encoded(self, plan: Plan, seconds: float, nbytes: int, as_asked: bool) -> None:
        """A boundary was coded, as its rung says or by a step of the frame's own."""
        if self.beliefs is not None:
            self.beliefs.on_encoded(plan.cut, plan.rung.name, seconds, nbytes,
                                    as_asked=as_asked)

    def launch(self, flight: Flight, encoded: Encoded) -> None:
        """Register a flight and queue its message. The caller holds the lock."""
        frame, plan, payload = flight.frame, flight.plan, encoded.payload
        tensors = len(self.bundle.cut(plan.cut).boundary)
        flight.predicted_kl, flight.base_kl = encoded.predicted_kl, encoded.base_kl
        flight.layers = encoded.layers
        if len(payload) + m.FRAME_HEADER_BYTES > MAX_MESSAGE_BYTES:
            flight.due = "message too large"
            self.flights.add(flight)
            return

        def make_body(now_s: float) -> bytes | None:
            left_s = frame.deadline_s - now_s
            with self.wake:          # as one: `give_up` must not come between
                if left_s <= 0 or self.has_ended(flight):
                    return None
                flight.sent_s = now_s
                if self.beliefs is not None:
                    self.beliefs.on_sent(frame.frame_id, flight.worker, plan.cut, len(payload),
                                         now_s)
            return m.push_frame(m.Frame(
                self.bundle.sha256, self.node.session_id, frame.frame_id, plan.plan_id,
                m.clamp_us(left_s), plan.cut, plan.rung.codec, tensors, payload))

        self.flights.add(flight)
        self._send_of(flight, m.Kind.FRAME, len(payload), make_body)

    def _send_of(self, flight: Flight, kind: m.Kind, nbytes: int,
                 make_body: Callable[[float], bytes | None]) -> None:
        """Queue a message of a flight, which can be cancelled with it."""
        topic = self.node.topics.worker_inbox(flight.worker, self.node.node_id)
        flight.outgoing = Outgoing(topic, kind, nbytes, make_body, self._sent)
        self.node.send(flight.outgoing)

    def give_up(self, flight: Flight) -> None:
        """A flight was finished here: send no more of it. The caller holds the lock."""
        if flight.outgoing is None:
            return
        if self.beliefs is not None and flight.sent_s is not None and not flight.outgoing.gone:
            self.beliefs.on_given_up(flight.frame.frame_id, self._clock())
        flight.outgoing.cancel()

    def has_ended(self, flight: Flight) -> bool:
        """Whether somebody else has ended this flight."""
        return self.flights.get(flight.frame.frame_id) is not flight

    def _sent(self, now_s: float) -> None:
        """A message has left whole: the head thread may have waited for that."""
        with self.wake:
            self.wake.notify_all()

    # -- from the network thread

    def on_up(self) -> None:
        with self.wake:
            self.gate.reset()
            self._offered_s, self._parts_queued = -_OFFER_S, 0
            self.wake.notify_all()

    def on_down(self, reason: str) -> None:
        with self.wake:
            if self.beliefs is not None:
                self.beliefs.on_down(self._clock())
            self.workers.forget_all()
            self.worker = None
            self.flights.make_due("link down")
            self.wake.notify_all()

    def on_worker_status(self, worker: str, payload: bytes) -> None:
        """Raises MessageError for a status that is none."""
        status = load(payload, WorkerStatus) if payload else None
        with self.wake:
            if status is None:
                self.workers.on_cleared(worker)
            else:
                self.workers.on_status(worker, status)
            # A plan may send to another than `self.worker`.
            if not self.workers.is_ready(worker):
                self.flights.make_due("worker gone", worker)
                if self.beliefs is not None:
                    self.beliefs.on_worker_gone(worker)
            self.choose_worker()
        self.offer_bundle()

    def choose_worker(self) -> None:
        """Settings or workers have changed. The caller holds the lock."""
        before, self.worker = self.worker, self.workers.choose(self.bundle.id_hex)
        if self.worker != before:
            self.gate.reset()
            _log.info("event=worker-chosen worker=%s was=%s", self.worker, before)
            self._on_worker(self.worker)
        self.wake.notify_all()

    def offer_bundle(self) -> None:
        """Tell a worker that lacks the bundle that we hold it."""
        worker, now_s = self.worker, self._clock()
        if self._next_offer is not None:
            self._next_offer.cancel()
        if worker is None or self.workers.holds(worker, self.bundle.id_hex):
            return
        if now_s - self._offered_s >= _OFFER_S:
            self._offered_s = now_s
            total = self.bundle.size_if_unchanged()
            if total:
                self._send(worker, m.Kind.BLOB_PART, m.push_blob_part(
                    m.BlobPart(self.bundle.sha256, 0, total, b"")))
        self._next_offer = self.node.session.call_at(now_s + _OFFER_S, self.offer_bundle)

    def claims(self, message: Message) -> bool:
        """Whether a message is about one of the flights here, or this bundle. Raises
        MessageError."""
        if message.kind is m.Kind.BLOB_REQUEST:
            return m.pull_blob_request(message.body).digest == self.bundle.sha256
        return self.flights.get(m.frame_id_of(message.body)) is not None

    def on_message(self, sender: str, message: Message) -> None:
        """A whole message from a worker. Raises MessageError for what is refused."""
        match message.kind:
            case m.Kind.RESULT:
                self._result(sender, m.pull_result(message.body))
            case m.Kind.REFINEMENT_REQUEST:
                self._refine(sender, m.pull_refinement_request(message.body))
            case m.Kind.REFUSAL:
                self._refusal(sender, m.pull_refusal(message.body))
            case m.Kind.BLOB_REQUEST:
                self._blob_request(sender, m.pull_blob_request(message.body))
            case kind:
                raise MessageError(f"a device takes no {kind.name}")

    def _result(self, sender: str, result: m.Result) -> None:
        now_s = self._clock()
        with self.wake:
            if self._may_teach(sender, result.session, result.frame_id):
                self._learn(result, now_s)
            flight = self._flight_of(sender, result.session, result.frame_id)
            if flight is None:
                self.ledger.late_results += 1
                self.gate.on_late_answer()
                return
        names = self.bundle.tail_outputs(flight.plan.cut)
        try:
            if result.refined and flight.refining_s is None:
                raise MessageError("a result of a refinement that was not asked for")
            if result.tensors != len(names):
                raise MessageError(f"result of {result.tensors} tensors, wanted {len(names)}")
            arrays = self._coder.decode(result.payload, [self.bundle.specs[n] for n in names],
                                        any_shape=self._any_shape)
        except MessageError:
            with self.wake:
                flight.due = flight.due or "result refused"
                self.wake.notify_all()
            raise
        with self.wake:
            if self.flights.pop(result.frame_id) is not flight:
                self.ledger.late_results += 1
                return
            flight.outgoing.cancel()              # a refinement that nobody waits for
            if result.refined or flight.refining_s is None:
                # Else the answer waited at the worker, which says nothing of the link.
                self.gate.on_answer(now_s - flight.waiting_since_s, flight.outgoing.nbytes)
            tensors = flight.live | dict(zip(names, arrays))
            self.state.update(tensors)
            self.wake.notify_all()
        self._on_result(flight, tensors, result, now_s - flight.sent_s)

    def _learn(self, result: m.Result, now_s: float) -> None:
        """An answer tells of link and worker, whether anybody still waits for it or not."""
        t = result.stages
        self.beliefs.on_answer(result.frame_id, 1e-6 * t.queue_us,
                               1e-6 * (t.decode_us + t.tail_us + t.encode_us), now_s)

    def _may_teach(self, sender: str, session: int, frame_id: int) -> bool:
        """Whether a message is about a frame that its sender was given: others may write to a
        device, and teach it nothing."""
        return (self.beliefs is not None and session == self.node.session_id
                and self.beliefs.worker_of(frame_id) == sender)

    def _refine(self, sender: str, request: m.RefinementRequest) -> None:
        """The second layer of a flight, once, unless it is being finished here."""
        now_s = self._clock()
        with self.wake:
            flight = self._flight_of(sender, request.session, request.frame_id)
            if self._may_teach(sender, request.session, request.frame_id):
                self.beliefs.on_turned_away(request.frame_id)     # answered, but not yet
            if flight is None or flight.layers is None or flight.due is not None:
                self.ledger.idle_requests += 1
                return
            layers, flight.layers, flight.refining_s = flight.layers, None, now_s
            # Asking acknowledges the frame.
            self.gate.on_answer(now_s - flight.sent_s, flight.payload_bytes)
            self.wake.notify_all()
        payload = self._coder.encode_refinement(layers)
        frame = flight.frame

        def make_body(leaves_s: float) -> bytes | None:
            left_s = frame.deadline_s - leaves_s
            if left_s <= 0 or self.has_ended(flight):
                return None
            flight.refining_s = leaves_s
            flight.payload_bytes += len(payload)
            flight.stages_ms["refine"] = 1e3 * (leaves_s - now_s)
            return m.push_refinement(m.Refinement(
                self.node.session_id, frame.frame_id, m.clamp_us(left_s), payload))

        self._send_of(flight, m.Kind.REFINEMENT, len(payload), make_body)

    def _flight_of(self, sender: str, session: int, frame_id: int) -> Flight | None:
        """The flight that a message answers; None for one that ended, or is not the sender's
        to answer."""
        flight = self.flights.get(frame_id) if session == self.node.session_id else None
        if flight is None or flight.worker != sender or flight.sent_s is None:
            return None
        return flight

    def _refusal(self, sender: str, refusal: m.Refusal) -> None:
        reason = refusal.reason.name.lower().replace("_", " ")
        with self.wake:
            if self._may_teach(sender, refusal.session, refusal.frame_id):
                self.beliefs.on_turned_away(refusal.frame_id)
            flight = self._flight_of(sender, refusal.session, refusal.frame_id)
            if flight is None:
                return
            flight.due = flight.due or f"worker: {reason}"
            if refusal.reason == m.Reason.SHED:
                self.gate.on_shed(refusal.retry_after_us * 1e-6, self._clock())
            self.wake.notify_all()
        self.node.tell_once(sender, f"frame turned away, {reason}: {refusal.detail}",
                            worth_telling=bool(refusal.detail))

    def _blob_request(self, sender: str, request: m.BlobRequest) -> None:
        def find(digest: bytes):
            held = digest == self.bundle.sha256 and self.bundle.size_if_unchanged()
            return self.bundle.path if held else None

        # One window at a time: frames go first, and a worker that waits asks again.
        if sender != self.worker or self._parts_queued:
            return
        for part in answer_request(request, find):
            self._parts_queued += 1
            self._send(sender, m.Kind.BLOB_PART, m.push_blob_part(part), self._part_left)

    def _part_left(self) -> None:
        """A part was sent, or refused as one that cannot be."""
        self._parts_queued = max(0, self._parts_queued - 1)

    def _send(self, worker: str, kind: m.Kind, body: bytes,
              on_left: Callable[[], None] = lambda: None) -> None:
        topic = self.node.topics.worker_inbox(worker, self.node.node_id)
        self.node.send(Outgoing(topic, kind, len(body), lambda now_s: body,
                                lambda now_s: on_left(), on_refused=on_left), bulk=True)
