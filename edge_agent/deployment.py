"""A bundle in force: its plan, its interpreter, its flights, and what decides for it.

An agent has one. While it changes to another bundle it has two for a moment: the new one is
loaded, tried and offered to the workers beside the old one; then, between two frames, new frames
go to it, and the old one finishes what it has begun.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from edge_agent.belief.beliefs import MESSAGE_BYTES
from edge_agent.config import AgentConfig
from edge_agent.control.adaptation import Adaptation
from edge_agent.control.plans import Plans
from edge_agent.frames import Answer, FrameInput, Ledger, Outcome, Plan
from edge_agent.inference.flights import Flight
from edge_agent.inference.gate import Gate
from edge_agent.inference.head import HeadThread
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.inference.sender import Sender
from edge_agent.inference.state import ExplicitState
from edge_agent.inference.workers import Workers
from edge_agent.inputs import model_inputs
from edge_agent.machine import Machine
from edge_agent.planner.candidates import options_of
from edge_agent.planner.planner import Ruling
from split_core.cost.profile import WorkerProfiles
from split_core.errors import ConfigError, SplitError
from split_core.model.bundle import Bundle
from split_core.model.manifest import CutEntry
from split_core.node import Node
from split_core.wire.messages import Codec, Result
from split_core.wire.records import WorkerLoad, load
from split_core.wire.rungs import RAW, Rung

_log = logging.getLogger(__name__)
_START_TIMEOUT_S = 120.0


class Host(Protocol):
    """What a deployment needs of its agent."""

    node: Node
    ledger: Ledger
    wake: threading.Condition

    def end(self, answer: Answer, bundle: Bundle) -> None:
        """A frame has ended."""

    def may_begin(self, deployment: Deployment) -> bool:
        """Whether a deployment's next frame may start; the lock is held."""

    def on_plan(self, deployment: Deployment, plan: Plan, ruling: Ruling | None) -> None: ...

    def on_worker(self, deployment: Deployment, worker: str | None) -> None: ...

    def on_failure(self, deployment: Deployment, error: BaseException) -> None:
        """One of its threads died."""


class Deployment:
    """One bundle under one set of settings."""

    def __init__(self, config: AgentConfig, bundle: Bundle, host: Host, machine: Machine, *,
                 adapts: bool, before: Deployment | None = None):
        """``before`` is the one that this is to follow: it hands on what it knows of the link,
        and the state where the bundle is the same."""
        self.config, self.bundle, self._host, self._machine = config, bundle, host, machine
        self.plans = Plans(bundle, self._first_plan(adapts, before), before and before.plans)
        check_plan(self.plan, bundle, config)
        same = before is not None and before.bundle.sha256 == bundle.sha256
        self.state = before.state if same else ExplicitState(bundle)
        self._mailbox: FrameInput | None = None
        self._closed = False
        self.sender = Sender(
            bundle, Workers(config.id, config.plan.worker, config.policy.trusted_workers),
            Gate(first_expected_s=config.frame.deadline_ms / 2e3), host.ledger, self.state,
            host.wake, self._on_result,
            on_worker=lambda worker: host.on_worker(self, worker))
        self.sender.node = host.node
        self.profile = machine.load_profile(bundle, config) if adapts else None
        self.head = HeadThread(
            lambda: machine.runner(bundle, config), machine.encoder(bundle), self.sender,
            host.wake,
            SegmentTimes(len(bundle.manifest.segments),
                         self.profile and [t.median_s for t in self.profile.segments]),
            self.plans, take=self._take, peek=self._peek, on_local=self._finish,
            on_failed=self._on_failed, on_stale=self._on_stale, on_fatal=self._fail)
        self.adaptation = self._new_adaptation(config, before and before.adaptation) \
            if adapts else None

    def _new_adaptation(self, config: AgentConfig, before: Adaptation | None) -> Adaptation:
        return Adaptation(
            config, options_of(self.bundle, config.policy.kl, config.policy.max_kl),
            self.profile, self.sender, self.plans, self.head.times, self._host.wake,
            next_frame=self._next_frame,
            on_plan=lambda plan, ruling: self._host.on_plan(self, plan, ruling),
            on_fatal=self._fail, before=before)

    def _fail(self, error: BaseException) -> None:
        self._host.on_failure(self, error)

    def _first_plan(self, adapts: bool, before: Deployment | None) -> Plan:
        """As configured; where it plans for itself all-local, until it has decided."""
        config, bundle = self.config, self.bundle
        plan_id = 1 if before is None else before.plans.next_id()
        if adapts:
            return Plan(plan_id, bundle.last_cut, RAW, worker=config.plan.worker)
        cut = config.plan.cut if config.plan.cut is not None else default_cut(bundle).cut
        return Plan(plan_id, bundle.cut(cut).cut, config.rung() or default_rung(bundle, cut),
                    worker=config.plan.worker)

    # -- life

    def start(self, given_up: Callable[[], None] = lambda: None) -> None:
        """Load and warm up. ``given_up`` raises what makes waiting pointless."""
        self.head.start()
        limit_s = time.monotonic() + _START_TIMEOUT_S
        while not self.head.ready.wait(0.05):
            given_up()
            if time.monotonic() > limit_s:
                raise SplitError(f"the model was not ready after {_START_TIMEOUT_S:.0f} s")
        careful_ms = 1e3 * self.head.times.span_s(0, len(self.bundle.manifest.segments))
        if careful_ms > self.config.frame.deadline_ms:
            _log.warning("event=deadline-tight deadline_ms=%.0f careful_whole_model_ms=%.0f"
                         " note=a fallback cannot always be on time",
                         self.config.frame.deadline_ms, careful_ms)

    def close(self) -> None:
        """Take no more frames; what is under way goes on."""
        with self._host.wake:
            self._closed = True

    def stop(self) -> None:
        """Take no more frames and stop the threads; `end_open` ends what was open."""
        self.close()
        if self.adaptation is not None:
            self.adaptation.stop()
        self.head.stop()
        with self._host.wake:
            self.sender.worker = None        # nor offer it the bundle, again and again
        if self.profile is not None:
            self._machine.keep_profile(self.profile, self.head.times, self.config)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is under way. The caller holds the lock."""
        return self._mailbox is None and not len(self.sender.flights) and not self.head.busy

    def missing(self) -> str | None:
        """What a remote answer waits for, once there is a broker; None when nothing does."""
        with self._host.wake:
            worker = self.sender.worker
            if worker is None:
                return "no worker on this broker"
            holds = self.sender.workers.holds(worker, self.bundle.id_hex)
        return None if holds else f"worker {worker} is fetching the bundle"

    def end_open(self, reason: str) -> None:
        """Count what is still open as dropped; for one that was stopped."""
        with self._host.wake:
            frames = [f.frame for f in list(self.sender.flights)]
            frames += [self._mailbox] if self._mailbox is not None else []
            for frame in frames:
                self.sender.flights.pop(frame.frame_id)
            self._mailbox = None
        for frame in frames:
            self.end_bare(frame, Outcome.DROPPED, reason)

    # -- who decides

    def decide_after(self, before: Deployment) -> None:
        """Decide from here on, in place of another: two would write one journal, and count one
        day's bytes."""
        if before.adaptation is not None:
            before.adaptation.stop()
        if self.adaptation is not None:
            self.adaptation.start()

    def decide_again(self) -> None:
        """Whoever was to take over does not."""
        if self.adaptation is not None and self.adaptation.stopped:
            following = self._new_adaptation(self.config, self.adaptation)
            self.adaptation = following
            following.start()

    # -- settings

    @property
    def plan(self) -> Plan:
        """The one in force."""
        return self.plans.current

    def set_plan(self, cut: int, rung: Rung, worker: str | None, reason: str) -> Plan:
        """Fix the plan from the next frame on. Raises BundleError, ConfigError."""
        with self._host.wake:
            plan = Plan(self.plans.next_id(), self.bundle.cut(cut).cut, rung, reason, worker)
            check_plan(plan, self.bundle, self.config)
            expected_s = 1e-3 * self.config.frame.deadline_ms / 2
            self.plans.switch(plan, expected_s)
            self.sender.gate.on_switch(expected_s)
            self._host.wake.notify_all()
        return plan

    def reconfigure(self, config: AgentConfig) -> Plan | None:
        """Other settings for the same bundle, between two frames; the plan, if it is one that
        was set. Raises ConfigError, and nothing has changed then."""
        plan = following = None
        if self.adaptation is not None:
            following = self._new_adaptation(config, self.adaptation)
        else:
            before, after = self.config.plan, config.plan
            cut = after.cut if after.cut is not None else default_cut(self.bundle).cut
            rung = config.rung() or default_rung(self.bundle, cut)
            check_plan(Plan(0, self.bundle.cut(cut).cut, rung), self.bundle, config)
            self.config = config
            if before != after:
                plan = self.set_plan(cut, rung, after.worker, "configured")
        with self._host.wake:
            self.sender.workers.limit(config.plan.worker, config.policy.trusted_workers)
            self.sender.choose_worker()
        if following is not None:
            self.adaptation.stop()
            self.config, self.adaptation = config, following
            following.start()
        return plan

    # -- frames in

    def prepare(self, frame) -> dict[str, np.ndarray]:
        """Model inputs of a frame; see `inputs.model_inputs`. Raises InputError."""
        return model_inputs(self.bundle, frame)

    def put(self, frame: FrameInput) -> bool:
        """Hand in a frame that was prepared here. It waits alone: the one it finds is dropped.
        False where this deployment takes no more."""
        with self._host.wake:
            if self._closed:
                return False
            old, self._mailbox = self._mailbox, frame
            if self.adaptation is not None:
                self.adaptation.on_frame()
            self._host.wake.notify_all()
        if old is not None:
            self.end_bare(old, Outcome.DROPPED, "newer frame came")
        return True

    def _peek(self) -> FrameInput | None:
        return self._mailbox if self._host.may_begin(self) else None

    def _take(self) -> FrameInput | None:
        frame, self._mailbox = self._mailbox, None
        if frame is not None and self.state:
            frame = replace(frame, arrays=frame.arrays | self.state.arrays)
        return frame

    def _next_frame(self) -> tuple[float, float | None]:
        """Until when the interpreter is busy, and since when a frame waits for it."""
        frame = self._mailbox
        return self.head.free_s, None if frame is None else frame.captured_s

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

    def _finish(self, frame: FrameInput, plan: Plan, outcome: Outcome, reason: str,
                tensors: dict[str, np.ndarray], stages_ms: dict[str, float],
                payload_bytes: int, **remote) -> None:
        outputs = {n: tensors[n] for n in self.bundle.manifest.outputs}
        now_s = time.monotonic()
        self._host.end(Answer(
            frame.frame_id, outcome, reason, frame.source, frame.captured_s,
            1e3 * (now_s - frame.captured_s), now_s > frame.deadline_s, plan.cut,
            plan.rung.name, plan.plan_id, payload_bytes, stages_ms=stages_ms, outputs=outputs,
            raced=plan.race, **remote), self.bundle)
        if self.adaptation is not None:
            self.adaptation.on_ended(payload_bytes + MESSAGE_BYTES if payload_bytes else 0)

    def _on_failed(self, frame: FrameInput, plan: Plan, reason: str) -> None:
        with self._host.wake:
            self.sender.flights.pop(frame.frame_id)
        self.end_bare(frame, Outcome.FAILED, reason, by_model=True)

    def _on_stale(self, frame: FrameInput) -> None:
        self.end_bare(frame, Outcome.DROPPED, "past its deadline")

    def end_bare(self, frame: FrameInput, outcome: Outcome, reason: str, *,
                 by_model: bool = False) -> None:
        """End a frame that has no outputs."""
        now_s, plan = time.monotonic(), self.plan
        self._host.end(Answer(
            frame.frame_id, outcome, reason, frame.source, frame.captured_s,
            1e3 * (now_s - frame.captured_s), now_s > frame.deadline_s, plan.cut,
            plan.rung.name, plan.plan_id, by_model=by_model), self.bundle)

    # -- the broker, on the network thread

    def on_up(self) -> None:
        self.sender.on_up()
        self._poke()

    def on_down(self, reason: str) -> None:
        self.sender.on_down(reason)
        self._poke()

    def on_worker_record(self, worker: str, channel: str, payload: bytes) -> None:
        """A worker's retained record. Raises MessageError for one that is none."""
        if self._closed:
            return
        match channel:
            case "status":
                self.sender.on_worker_status(worker, payload)
                self._poke()
            case "profile" if self.adaptation is not None and payload:
                for profile in load(payload, WorkerProfiles).profiles:
                    if profile.matches(self.bundle):
                        self.adaptation.on_worker_profile(worker, profile)
            case "load" if self.adaptation is not None and payload:
                record = load(payload, WorkerLoad)
                self.adaptation.on_worker_load(worker, record.queue_s, record.broker_rtt_s)

    def on_report(self, topic: str, payload: bytes) -> None:
        """What was published on a battery's topic, which may be one of other settings."""
        if self.adaptation is not None and topic == self.adaptation.reports_topic:
            self.adaptation.reports.push(payload, time.monotonic())

    def on_acknowledged(self, round_trip_s: float) -> None:
        """The broker has answered a publication."""
        if self.adaptation is not None:
            self.adaptation.on_acknowledged(round_trip_s)

    def _poke(self) -> None:
        if self.adaptation is not None:
            self.adaptation.thread.poke()


def default_cut(bundle: Bundle) -> CutEntry:
    """The cheapest to send of those with at most half of the work before them; a calibrated
    one where there is."""
    cuts = bundle.manifest.cuts[:-1]
    light = [c for c in cuts if 2 * c.macs_before <= bundle.manifest.macs] or list(cuts[:1])
    return min([c for c in light if c.rate] or light, key=lambda c: (c.coded_bytes, c.cut))


def default_rung(bundle: Bundle, cut: int) -> Rung:
    """Hardly to be told from the whole model where the cut is calibrated, else 4 bits."""
    return Rung.parse("q4" if bundle.rate(cut) is None else "kl0.02")


def check_plan(plan: Plan, bundle: Bundle, config: AgentConfig) -> None:
    """Raises ConfigError for a plan that the settings forbid or the bundle cannot do."""
    rung, cut = plan.rung, plan.cut
    if cut < config.policy.min_cut and cut != bundle.last_cut:
        raise ConfigError(f"cut {cut} is before op {config.policy.min_cut}, which nothing"
                          " may leave the device before (policy.min_cut)")
    if rung.codec is Codec.IMAGE and (cut != 0 or bundle.manifest.image is None):
        raise ConfigError(f"plan.rung {rung.name} is for cut 0 of a model whose"
                          f" input is a picture; the cut is {cut}")
    if rung.calibrated and cut != bundle.last_cut and bundle.rate(cut) is None:
        raise ConfigError(f"plan.rung {rung.name} needs a bundle that is calibrated at cut"
                          f" {cut}; make one with `edge-agent calibrate`, or choose q4")
