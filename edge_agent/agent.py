"""The agent: wires the parts. A picture comes in, one answer goes out.

    with EdgeAgent(config) as agent:
        answer = agent.infer(picture)

Sources offer frames (the latest wins), the inference thread runs heads and fallbacks, the
network thread sends and receives. Every frame ends in one counted outcome.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from edge_agent.adaptation import Adaptation
from edge_agent.belief.beliefs import MESSAGE_BYTES
from edge_agent.config import AgentConfig, parse_rung
from edge_agent.encoder import Encoder
from edge_agent.endings import Endings
from edge_agent.flights import Flight
from edge_agent.frames import Answer, FrameInput, Ledger, Outcome, Plan
from edge_agent.gate import Gate
from edge_agent.head import HeadThread
from edge_agent.inputs import model_inputs
from edge_agent.planner.candidates import options_of
from edge_agent.planner.planner import Ruling
from edge_agent.plans import Plans
from edge_agent.profiles import device_profile, refresh
from edge_agent.results import ResultPublisher
from edge_agent.segment_times import SegmentTimes
from edge_agent.sender import Sender
from edge_agent.state import ExplicitState
from edge_agent.workers import Workers
from split_core.errors import ConfigError, SplitError
from split_core.model.bundle import Bundle, open_bundle
from split_core.model.manifest import CutEntry
from split_core.model.runner import Runner
from split_core.node import Node
from split_core.version import VERSION
from split_core.wire.chunks import VERSIONS_ACCEPTED
from split_core.wire.messages import Codec, Result
from split_core.cost.profile import Profile, WorkerProfiles
from split_core.wire.records import DeviceInfo, DeviceStatus, PlanRecord, WorkerLoad, load
from split_core.wire.rungs import RAW, Rung
from split_core.wire.topics import Topics

_log = logging.getLogger(__name__)
_START_TIMEOUT_S = 120.0
# What a frame with no deadline of its own may take in `infer`, beyond its deadline.
_INFER_GRACE_S = 60.0


def default_cut(bundle: Bundle) -> CutEntry:
    """The cheapest to send of those with at most half of the work before them; a calibrated
    one where there is."""
    cuts = bundle.manifest.cuts[:-1]
    light = [c for c in cuts if 2 * c.macs_before <= bundle.manifest.macs] or list(cuts[:1])
    return min([c for c in light if c.rate] or light, key=lambda c: (c.coded_bytes, c.cut))


def default_rung(bundle: Bundle, cut: int) -> Rung:
    """Hardly to be told from the whole model where the cut is calibrated, else 4 bits."""
    return Rung.parse("q4" if bundle.rate(cut) is None else "kl0.02")


class EdgeAgent:
    """One device's agent. Thread-safe; ``on_answer`` is called for every frame's end."""

    def __init__(self, config: AgentConfig, on_answer: Callable[[Answer], None] | None = None, *,
                 ephemeral: bool = False):
        config.check()
        self.config, self._ephemeral = config, ephemeral
        self.bundle = open_bundle(config.model.bundle)
        self.topics = Topics(config.root)
        self.ledger = Ledger()
        adapts = not config.plan.fixed and not ephemeral
        self._plans = Plans(self.bundle, self._first_plan(adapts))
        self._check_plan(self.plan)
        self._state = ExplicitState(self.bundle)
        self._wake = threading.Condition(threading.RLock())
        self._mailbox: FrameInput | None = None
        self._infer_turn = threading.Lock()
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._offline = False
        self._sender = Sender(
            self.bundle,
            Workers(config.id, config.plan.worker, config.policy.trusted_workers),
            Gate(first_expected_s=config.frame.deadline_ms / 2e3),
            self.ledger, self._state, self._wake, self._on_result)
        self.node = Node(
            config.broker.options(), self.topics, node_id=config.id,
            status_topic=self.topics.device_up(config.id, "status"),
            inbox_filter=self.topics.device_inbox_filter(config.id),
            status_of=DeviceStatus, on_message=self._sender.on_message,
            on_publication=self._on_publication, on_up=self._on_up,
            on_down=self._on_down, on_fatal=self.fail, ephemeral=ephemeral)
        self._sender.node = self.node
        self.node.session.subscribe(self.topics.workers_filter("status"), 1)
        self.results = ResultPublisher(self.node.session,
                                       max_results=config.result.spool_results,
                                       max_bytes=config.result.spool_kb << 10,
                                       on_acknowledged=self._on_acknowledged)
        self._endings = Endings(self.bundle, config.result, self.ledger,
                                None if ephemeral else self.results, self._result_topic,
                                on_answer)
        self._subscribers: dict[str, Callable[[bytes], None]] = {}
        self._profile = self._load_profile() if adapts else None
        self.head = HeadThread(
            self._new_runner, self._new_encoder(), self._sender, self._wake,
            SegmentTimes(len(self.bundle.manifest.segments),
                         self._profile and [t.median_s for t in self._profile.segments]),
            self._plans, take=self._take, peek=lambda: self._mailbox, on_local=self._on_local,
            on_failed=self._on_failed, on_stale=self._on_stale, on_fatal=self.fail)
        self.adaptation = Adaptation(
            config, options_of(self.bundle, config.policy.kl, config.policy.max_kl),
            self._profile, self._sender, self._plans, self.head.times, self._wake,
            next_frame=self._next_frame, on_plan=self._on_plan,
            on_fatal=self.fail) if adapts else None
        if adapts:
            for channel in ("profile", "load"):
                self.node.session.subscribe(self.topics.workers_filter(channel), 1)
            if self.adaptation.reports is not None:
                push = self.adaptation.reports.push
                self.subscribe(config.sensors.topic,
                               lambda payload: push(payload, time.monotonic()))

    def _first_plan(self, adapts: bool) -> Plan:
        """As configured; of an agent that plans for itself all-local, until it has decided."""
        config, bundle = self.config, self.bundle
        cut = (bundle.last_cut if adapts else config.plan.cut if config.plan.cut is not None
               else default_cut(bundle).cut)
        rung = RAW if adapts else config.rung() or default_rung(bundle, cut)
        return Plan(1, bundle.cut(cut).cut, rung, worker=config.plan.worker)

    def _check_plan(self, plan: Plan) -> None:
        rung, cut = plan.rung, plan.cut
        if cut < self.config.policy.min_cut and cut != self.bundle.last_cut:
            raise ConfigError(f"cut {cut} is before op {self.config.policy.min_cut}, which nothing"
                              " may leave the device before (policy.min_cut)")
        if rung.codec is Codec.IMAGE and (cut != 0 or self.bundle.manifest.image is None):
            raise ConfigError(f"plan.rung {rung.name} is for cut 0 of a model whose"
                              f" input is a picture; the cut is {cut}")
        if rung.calibrated and cut != self.bundle.last_cut and self.bundle.rate(cut) is None:
            raise ConfigError(f"plan.rung {rung.name} needs a bundle that is calibrated at cut"
                              f" {cut}; make one with `edge-agent calibrate`, or choose q4")

    # -- life

    def __enter__(self) -> EdgeAgent:
        self.start()
        return self

    def __exit__(self, *_exc) -> None:
        self.stop()

    def start(self) -> None:
        """Load the model and connect. Raises what keeps the model from running; an absent
        broker is no error."""
        self.head.start()
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self.head.ready.wait(0.05):
            self._raise_failure()
            if time.monotonic() > deadline_s:
                raise SplitError(f"the model was not ready after {_START_TIMEOUT_S:.0f} s")
        whole_ms = 1e3 * self.head.times.span_s(0, len(self.bundle.manifest.segments))
        if whole_ms > self.config.frame.deadline_ms:
            _log.warning("event=deadline-tight deadline_ms=%.0f whole_model_ms=%.0f"
                         " note=a fallback cannot always be on time",
                         self.config.frame.deadline_ms, whole_ms)
        if self.adaptation is not None:
            self.adaptation.start()
        if not self._offline:
            self.node.set_state("ready")
            self.node.start()
        _log.info("event=started bundle=%s model=%s cut=%d rung=%s runtime=%s"
                  " whole_model_ms=%.1f", self.bundle.id_hex[:16], self.bundle.manifest.name,
                  self.plan.cut, self.plan.rung.name, self.head.runtime, whole_ms)

    def stop(self) -> None:
        """End every open frame, say goodbye, stop the threads."""
        self._stopped.set()
        if self.adaptation is not None:
            self.adaptation.stop()
        self.head.stop()
        if self._profile is not None:
            self._keep_profile(self._profile)
        for frame_id in self.ledger.open_frames:
            self._endings.end(self._unfinished(frame_id, "agent stopped"))
        if not self._offline:
            self.node.stop()
        self._endings.close()

    def wait(self) -> None:
        """Until `request_stop` or a failure, which is raised here."""
        self._stopped.wait()
        self._raise_failure()

    def request_stop(self) -> None:
        self._stopped.set()

    @property
    def stopping(self) -> threading.Event:
        return self._stopped

    def fail(self, error: BaseException) -> None:
        """A thread died: `wait` and `infer` raise this."""
        _log.critical("event=thread-died error=%r", error)
        self._failure = error
        self._stopped.set()
        self._endings.wake()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _new_runner(self) -> Runner:
        return Runner(self.bundle, runtime=self.config.model.runtime,
                      threads=self.config.model.threads)

    def _new_encoder(self) -> Encoder:
        return Encoder(self.bundle)

    def _load_profile(self) -> Profile:
        return device_profile(self.config, self.bundle)

    def _keep_profile(self, profile: Profile) -> None:
        refresh(self.config, profile, self.head.times)

    @property
    def plan(self) -> Plan:
        """The one in force."""
        return self._plans.current

    def set_plan(self, cut: int, rung: str, worker: str | None = None) -> Plan:
        """Fix the plan from the next frame on, in an agent that does not plan for itself. No
        frame is lost, waits or is run twice for it. Raises BundleError, ConfigError."""
        if self.adaptation is not None:
            raise ConfigError("this agent plans for itself; fix plan.cut or plan.rung first")
        with self._wake:
            plan = Plan(self._plans.next_id(), self.bundle.cut(cut).cut, parse_rung(rung),
                        "set", worker)
            self._check_plan(plan)
            expected_s = 1e-3 * self.config.frame.deadline_ms / 2
            self._plans.switch(plan, expected_s)
            self._sender.gate.on_switch(expected_s)
            self._wake.notify_all()
        self._publish_plan(plan, None)
        return plan

    def set_local(self) -> None:
        """Run everything here, and do not connect. Before `start`."""
        self._plans.switch(Plan(self._plans.next_id(), self.bundle.last_cut, self.plan.rung))
        self._offline = True

    def missing(self) -> str | None:
        """What a remote answer waits for; None when nothing is in the way."""
        with self._wake:
            worker = self._sender.worker
            if not self.node.is_up:
                trouble = self.node.session.trouble
                return f"no broker ({trouble})" if trouble else "no broker"
            if worker is None:
                return "no worker on this broker"
            if not self._sender.workers.holds(worker, self.bundle.id_hex):
                return f"worker {worker} is fetching the bundle"
        return None

    # -- frames in

    def prepare(self, frame) -> dict[str, np.ndarray]:
        """Model inputs of a frame; see `inputs.model_inputs`. Raises InputError."""
        return model_inputs(self.bundle, frame)

    def offer(self, frame, source: str = "", captured_s: float | None = None) -> int:
        """Hand in a frame and return its id. It waits alone: the frame it finds is dropped."""
        frame_id = self.ledger.open()
        captured_s = time.monotonic() if captured_s is None else captured_s
        deadline_s = captured_s + 1e-3 * self.config.frame.deadline_ms
        try:
            arrays = self.prepare(frame)
        except SplitError as e:
            self._endings.end(self._bare(FrameInput(frame_id, {}, source, captured_s, deadline_s),
                                 Outcome.FAILED, str(e)))
            return frame_id
        self._put(FrameInput(frame_id, arrays, source, captured_s, deadline_s))
        return frame_id

    def fail_frame(self, source: str, reason: str, captured_s: float) -> None:
        """Count a frame whose input could not be read."""
        frame = FrameInput(self.ledger.open(), {}, source, captured_s, float("inf"))
        self._endings.end(self._bare(frame, Outcome.FAILED, reason))

    def _put(self, frame: FrameInput) -> None:
        if self._stopped.is_set():
            # A source that has not noticed yet: nobody would take the frame, or end it.
            self._endings.end(self._bare(frame, Outcome.DROPPED, "agent stopped"))
            return
        with self._wake:
            old, self._mailbox = self._mailbox, frame
            if self.adaptation is not None:
                self.adaptation.on_frame()
            self._wake.notify_all()
        if old is not None:
            self._endings.end(self._bare(old, Outcome.DROPPED, "newer frame came"))

    def infer(self, frame, source: str = "") -> Answer:
        """One frame's answer. Raises InputError for a frame that does not fit the model."""
        deadline_s = 1e-3 * self.config.frame.deadline_ms
        with self._infer_turn:
            arrays, now_s, frame_id = self.prepare(frame), time.monotonic(), self.ledger.open()
            self._endings.expect(frame_id)
            self._put(FrameInput(frame_id, arrays, source, now_s, now_s + deadline_s))
            answer = self._endings.wait(frame_id, deadline_s + _INFER_GRACE_S,
                                        self._stopped.is_set)
        self._raise_failure()
        if answer is None:
            raise SplitError("the agent was stopped before the frame ended"
                             if self._stopped.is_set() else
                             f"the frame did not end in {deadline_s + _INFER_GRACE_S:.0f} s")
        return answer

    def _next_frame(self) -> tuple[float, float | None]:
        """Until when the interpreter is busy, and since when a frame waits for it."""
        frame = self._mailbox
        return self.head.free_s, None if frame is None else frame.captured_s

    def _take(self) -> FrameInput | None:
        frame, self._mailbox = self._mailbox, None
        if frame is not None and self._state:
            frame = FrameInput(frame.frame_id, frame.arrays | self._state.arrays, frame.source,
                               frame.captured_s, frame.deadline_s)
        return frame

    def drain_results(self, timeout_s: float) -> None:
        """Wait until the broker has taken the results made so far, or has not in time."""
        limit_s = time.monotonic() + timeout_s
        while self.results.waiting and self.node.is_up and time.monotonic() < limit_s:
            time.sleep(0.01)

    def subscribe(self, topic: str, handler: Callable[[bytes], None]) -> None:
        """Call ``handler(payload)`` on the network thread for a topic's messages."""
        self._subscribers[topic] = handler
        self.node.session.subscribe(topic, 0)

    # -- frames out

    def _on_result(self, flight: Flight, tensors: dict[str, np.ndarray], result: Result,
                   round_trip_s: float) -> None:
        self.head.on_result()
        stages = result.stages
        worker_us = stages.queue_us + stages.decode_us + stages.tail_us + stages.encode_us
        link_ms = 1e3 * round_trip_s - 1e-3 * worker_us - flight.stages_ms.get("refine", 0.0)
        times = flight.stages_ms | {
            "link": max(0.0, link_ms),
            "queue": 1e-3 * stages.queue_us, "decode": 1e-3 * stages.decode_us,
            "tail": 1e-3 * stages.tail_us, "reply": 1e-3 * stages.encode_us,
        }
        layered = flight.plan.rung.codec is Codec.LAYERED
        self._finish(flight.frame, flight.plan, Outcome.REMOTE, "", tensors, times,
                     flight.payload_bytes, worker=flight.worker,
                     predicted_kl=(flight.base_kl if layered and not result.refined
                                   else flight.predicted_kl),
                     refined=result.refined if layered else None)

    def _on_local(self, frame: FrameInput, plan: Plan, outcome: Outcome, reason: str,
                  tensors: dict[str, np.ndarray], stages_ms: dict[str, float],
                  payload_bytes: int) -> None:
        self._finish(frame, plan, outcome, reason, tensors, stages_ms, payload_bytes)

    def _finish(self, frame: FrameInput, plan: Plan, outcome: Outcome, reason: str,
                tensors: dict[str, np.ndarray], stages_ms: dict[str, float],
                payload_bytes: int, **remote) -> None:
        outputs = {n: tensors[n] for n in self.bundle.manifest.outputs}
        now_s = time.monotonic()
        answer = Answer(
            frame.frame_id, outcome, reason, frame.source, frame.captured_s,
            1e3 * (now_s - frame.captured_s), now_s > frame.deadline_s, plan.cut,
            plan.rung.name, plan.plan_id, payload_bytes, stages_ms=stages_ms, outputs=outputs,
            raced=plan.race, **remote)
        self._endings.end(answer)
        if self.adaptation is not None:
            self.adaptation.on_ended(payload_bytes + MESSAGE_BYTES if payload_bytes else 0)

    def _on_failed(self, frame: FrameInput, plan: Plan, reason: str) -> None:
        with self._wake:
            self._sender.flights.pop(frame.frame_id)
        self._endings.end(self._bare(frame, Outcome.FAILED, reason))

    def _on_stale(self, frame: FrameInput) -> None:
        self._endings.end(self._bare(frame, Outcome.DROPPED, "past its deadline"))

    def _bare(self, frame: FrameInput, outcome: Outcome, reason: str) -> Answer:
        """The end of a frame that has no outputs."""
        now_s, plan = time.monotonic(), self.plan
        return Answer(frame.frame_id, outcome, reason, frame.source, frame.captured_s,
                      1e3 * (now_s - frame.captured_s), now_s > frame.deadline_s, plan.cut,
                      plan.rung.name, plan.plan_id)

    def _unfinished(self, frame_id: int, reason: str) -> Answer:
        with self._wake:
            flight = self._sender.flights.pop(frame_id)
            frame = flight.frame if flight else self._mailbox
        if frame is None or frame.frame_id != frame_id:
            frame = FrameInput(frame_id, {}, "", time.monotonic(), float("inf"))
        return self._bare(frame, Outcome.DROPPED, reason)

    def _result_topic(self, answer: Answer) -> str:
        template = self.config.result.topic
        if template is None:
            return self.topics.device_up(self.config.id, "result")
        safe = "".join(c if c not in "+#/\0" else "_" for c in answer.source) or "frame"
        return template.replace("{id}", self.config.id).replace("{source}", safe)

    # -- the broker, on the network thread

    def _on_up(self, limits) -> None:
        self._sender.on_up()
        self.results.on_up()
        if self._ephemeral:
            return                       # leaves nothing retained behind
        self.node.publish_record(
            self.topics.device_up(self.config.id, "info"),
            DeviceInfo(VERSION, VERSIONS_ACCEPTED, self.bundle.id_hex,
                       self.bundle.manifest.name,
                       tuple(c.cut for c in self.bundle.manifest.cuts), self.head.runtime,
                       self.config.frame.deadline_ms))
        if self._profile is not None:
            self.node.publish_record(self.topics.device_up(self.config.id, "profile"),
                                     self._profile)
        self._publish_plan(self.plan, None)
        self._poke()

    def _on_down(self, reason: str) -> None:
        _log.info("event=link-down reason=%s", reason)
        self._sender.on_down(reason)
        self._poke()

    def _on_publication(self, topic: str, payload: bytes) -> None:
        match self.topics.parse_worker_up(topic):
            case worker, "status":
                self._sender.on_worker_status(worker, payload)
                self._poke()
            case worker, "profile" if self.adaptation is not None and payload:
                for profile in load(payload, WorkerProfiles).profiles:
                    if profile.matches(self.bundle):
                        self.adaptation.on_worker_profile(worker, profile)
            case worker, "load" if self.adaptation is not None and payload:
                record = load(payload, WorkerLoad)
                self.adaptation.on_worker_load(worker, record.queue_s, record.broker_rtt_s)
            case _ if topic in self._subscribers:
                self._subscribers[topic](payload)

    # -- plans

    def _poke(self) -> None:
        if self.adaptation is not None:
            self.adaptation.thread.poke()

    def _on_acknowledged(self, round_trip_s: float) -> None:
        if self.adaptation is not None:
            self.adaptation.on_acknowledged(round_trip_s)

    def _on_plan(self, plan: Plan, ruling: Ruling) -> None:
        """Another plan is in force: say so. On the control thread."""
        _log.info("event=plan plan=%d what=%r reason=%r", plan.plan_id,
                  ruling.decision.chosen.what, plan.reason)
        self._publish_plan(plan, ruling)

    def _publish_plan(self, plan: Plan, ruling: Ruling | None) -> None:
        if self._ephemeral:
            return
        self.node.publish_record(
            self.topics.device_up(self.config.id, "plan"),
            PlanRecord(plan.plan_id, plan.cut, plan.rung.name, plan.worker, plan.reason,
                       plan.coarsest and plan.coarsest.name, plan.race,
                       ruling and ruling.decision.chosen.costs))


