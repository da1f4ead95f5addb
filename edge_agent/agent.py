"""The agent: wires the parts. A picture comes in, one answer goes out.

    with EdgeAgent(config) as agent:
        answer = agent.infer(picture)

Sources offer frames (the latest wins), the inference thread runs heads and fallbacks, the
network thread sends and receives. Every frame ends in one counted outcome. What belongs to one
bundle is its `Deployment`; the agent keeps the broker, the frames' numbers and their ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from edge_agent.config import AgentConfig, parse_rung
from edge_agent.control.adaptation import Adaptation
from edge_agent.deployment import Deployment
from edge_agent.deployments import Deployments
from edge_agent.frames import Answer, FrameInput, Ledger, Outcome, Plan
from edge_agent.inference.head import HeadThread
from edge_agent.machine import Machine
from edge_agent.observers.base import Observer, Observers, Told
from edge_agent.planner.planner import Ruling
from edge_agent.results.endings import Endings
from edge_agent.results.publisher import ResultPublisher
from edge_agent.results.topic import fill
from edge_agent.settings import changes
from split_core.errors import ConfigError, SplitError
from split_core.model.bundle import Bundle, open_bundle
from split_core.node import Node
from split_core.session import Received
from split_core.version import VERSION
from split_core.wire.chunks import VERSIONS_ACCEPTED, Message
from split_core.wire.messages import BlobPart, Kind, pull_blob_part
from split_core.wire.records import DeviceInfo, DeviceStatus, PlanRecord
from split_core.wire.topics import Topics, matches

_log = logging.getLogger(__name__)
# What a frame with no deadline of its own may take in `infer`, beyond its deadline.
_INFER_GRACE_S = 60.0
# Of workers: what there is to know before frames are sent there.
_WORKER_CHANNELS = ("status", "profile", "load")


class StoppedEarly(SplitError):
    """The agent was told to stop before its model was loaded."""


class EdgeAgent:
    """One device's agent. Thread-safe. ``on_answer`` is called for every frame's end, on the thread
    on which that happens; what it raises is said in the log and harms nothing else."""

    def __init__(self, config: AgentConfig, on_answer: Callable[[Answer], None] | None = None, *,
                 ephemeral: bool = False, machine: Machine | None = None):
        config.check()
        self.config, self._ephemeral, self._machine = config, ephemeral, machine or Machine()
        self.topics = Topics(config.root)
        self.ledger = Ledger()
        self.observers = Observers()
        if on_answer is not None:
            self.attach(Told(on_answer))
        self.wake = threading.Condition(threading.RLock())
        # Who takes a bundle's parts, where something does: (sender, part), network thread.
        self.on_blob_part: Callable[[str, BlobPart], None] | None = None
        self._infer_turn, self._changing = threading.Lock(), threading.Lock()
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._offline = False
        self._subscribers: list[tuple[str, Callable[[str, bytes, Received], None]]] = []
        self.node = Node(
            config.broker.options(), self.topics, node_id=config.id,
            status_topic=self.topics.device_up(config.id, "status"),
            inbox_filter=self.topics.device_inbox_filter(config.id),
            status_of=DeviceStatus, on_message=self._on_message,
            on_publication=self._on_publication, on_up=self._on_up,
            on_down=self._on_down, on_fatal=self.fail, ephemeral=ephemeral,
            keyring=config.seal.keyring())
        self.results = ResultPublisher(self.node.session,
                                       max_results=config.result.spool_results,
                                       max_bytes=config.result.spool_kb << 10,
                                       on_acknowledged=self._on_acknowledged)
        self._endings = Endings(config.result, self.ledger,
                                None if ephemeral else self.results, self._result_topic,
                                self.observers.on_answer)
        try:
            self._deployments = Deployments(
                self._deploy, config, wake=self.wake, stopped=self._stopped,
                raise_failure=self._raise_failure)
        except BaseException:
            self.node.stop()
            raise
        self._subscribe(config)

    def _deploy(self, config: AgentConfig, before: Deployment | None) -> Deployment:
        return Deployment(config, open_bundle(config.model.bundle), self, self._machine,
                          adapts=not config.plan.fixed and not self._ephemeral, before=before)

    def _subscribe(self, config: AgentConfig) -> None:
        """Have the broker tell what workers there are, once more if it was asked before, and what
        the battery's owner publishes."""
        adapt = any(d.adaptation is not None for d in self._deployments)
        for channel in _WORKER_CHANNELS if adapt else _WORKER_CHANNELS[:1]:
            self.node.session.subscribe(self.topics.workers_filter(channel), 1)
        topic = config.sensors.topic
        if adapt and topic is not None and topic not in (t for t, _ in self._subscribers):
            self.subscribe(topic, self._on_report)

    # -- what it consists of

    @property
    def bundle(self) -> Bundle:
        return self.deployment.bundle

    @property
    def plan(self) -> Plan:
        """The one in force."""
        return self.deployment.plan

    @property
    def deployment(self) -> Deployment:
        """The one in force."""
        return self._deployments.current

    @property
    def adaptation(self) -> Adaptation | None:
        """None where the plan is fixed."""
        return self.deployment.adaptation

    @property
    def head(self) -> HeadThread:
        return self.deployment.head

    def attach(self, observer: Observer) -> None:
        """Let somebody see what happens. Before `start`."""
        self.observers.attach(observer)

    # -- life

    def __enter__(self) -> EdgeAgent:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        self.stop()

    def start(self) -> None:
        """Load the model and connect. Raises what keeps the model from running, and StoppedEarly
        where `request_stop` comes first; an absent broker is no error."""
        current = self.deployment
        current.start(self._raise_failure_or_stop)
        if current.adaptation is not None:
            current.adaptation.start()
        if not self._offline:
            self.node.set_state("ready")
            self.node.start()
        _log.info("event=started bundle=%s model=%r cut=%d rung=%s runtime=%s"
                  " whole_model_ms=%.1f", self.bundle.id_hex[:16], self.bundle.manifest.name,
                  self.plan.cut, self.plan.rung.name, self.head.runtime,
                  1e3 * self.head.times.whole_s())

    def stop(self) -> None:
        """End every open frame, say goodbye, stop the threads."""
        self._stopped.set()
        with self._changing:                     # a change that is under way gives up
            for deployment in self._deployments:
                deployment.stop()
                deployment.end_open("agent stopped")
        for frame_id in self.ledger.open_frames:
            self.deployment.end_bare(FrameInput(frame_id, {}, "", time.monotonic(), float("inf")),
                                     Outcome.DROPPED, "agent stopped")
        self.node.stop()                         # frees what one that never connected has, too
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
        if not isinstance(error, SplitError):    # one of ours says in its words why we end
            _log.critical("event=thread-died error=%r", error)
        self._failure = error
        self._stopped.set()
        self._endings.wake()

    def on_failure(self, deployment: Deployment, error: BaseException) -> None:
        """A deployment's thread died; one that is not in force yet never will be."""
        if self._deployments.on_failure(deployment, error):
            self.fail(error)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _raise_failure_or_stop(self) -> None:
        self._raise_failure()
        if self._stopped.is_set():
            raise StoppedEarly("the agent was stopped before its model was loaded")

    def set_local(self) -> None:
        """Run everything here, and do not connect. Before `start`."""
        plans = self.deployment.plans
        plans.switch(Plan(plans.next_id(), self.bundle.last_cut, self.plan.rung))
        self._offline = True

    def missing(self) -> str | None:
        """What a remote answer waits for; None when nothing is in the way."""
        if not self.node.is_up:
            trouble = self.node.session.trouble
            return f"no broker ({trouble})" if trouble else "no broker"
        return self.deployment.missing()

    # -- changes

    def set_plan(self, cut: int, rung: str, worker: str | None = None) -> Plan:
        """Fix the plan from the next frame on, in an agent that does not plan for itself. No
        frame is lost, waits or is run twice for it. Raises BundleError, ConfigError."""
        if self.adaptation is not None:
            raise ConfigError("this agent plans for itself; fix plan.cut or plan.rung first")
        plan = self.deployment.set_plan(cut, parse_rung(rung), worker, "set")
        self.on_plan(self.deployment, plan, None)
        return plan

    def reconfigure(self, config: AgentConfig | Callable[[AgentConfig], AgentConfig], *,
                    reread_model: bool = False) -> tuple[str, ...]:
        """Put other settings into force between two frames; no frame is lost. A model that is
        another is loaded beside the one in force first; ``reread_model`` looks whether the file
        has been replaced, too.

        Returns the keys that differ but take a restart, and stay as they were. Raises
        ConfigError and BundleError, and then nothing has changed. Takes as long as loading does:
        not for the network thread or the inference thread. Whoever changes a part of the settings
        gives a function of those in force: others may be changing another part meanwhile.
        """
        with self._changing:                     # observers, too, hear of changes in their order
            if self._stopped.is_set():
                raise SplitError("the agent is stopping")
            if callable(config):
                config = config(self.config)
            config.check()
            config, left = changes(self.config, config)
            with self._endings.changed(config.result):
                before, plan = self.deployment, self._put_into_force(config, reread_model)
            deadline_ms, self.config = self.config.frame.deadline_ms, config
            replaced = self.deployment is not before
            if replaced or config.frame.deadline_ms != deadline_ms:
                self._publish_births()
            if replaced:
                self.observers.on_model(self.deployment.bundle)
            if plan is not None:
                self.on_plan(self.deployment, plan, None)
            self.observers.on_config(config)
        return left

    def _put_into_force(self, config: AgentConfig, reread_model: bool) -> Plan | None:
        """In the deployment that there is, if one can be kept; the plan, if it was set."""
        current, plan = self.deployment, None
        adapts = not config.plan.fixed and not self._ephemeral
        if (config.model != self.config.model or reread_model and current.bundle.has_changed
                or adapts != (current.adaptation is not None)):
            self._deployments.replace(config, lambda: self._subscribe(config))
        elif config != self.config:
            plan = current.reconfigure(config)
            self._subscribe(config)
        return plan

    def may_begin(self, deployment: Deployment) -> bool:
        """Whether a deployment's next frame may start; the lock is held."""
        return self._deployments.may_begin(deployment)

    # -- frames in

    def prepare(self, frame) -> dict[str, np.ndarray]:
        """Model inputs of a frame; see `inputs.model_inputs`. Raises InputError."""
        return self._prepared(frame)[1]

    def _prepared(self, frame) -> tuple[Deployment, dict[str, np.ndarray]]:
        current = self.deployment
        return current, current.prepare(frame)

    def offer(self, frame, source: str = "", captured_s: float | None = None) -> int:
        """Hand in a frame and return its id. It waits alone: the frame it finds is dropped."""
        frame_id = self.ledger.open()
        self._put(frame_id, frame, source, time.monotonic() if captured_s is None else captured_s)
        return frame_id

    def _deadline_s(self, captured_s: float) -> float:
        return captured_s + 1e-3 * self.config.frame.deadline_ms

    def fail_frame(self, source: str, reason: str, captured_s: float) -> None:
        """Count a frame whose input could not be read."""
        frame = FrameInput(self.ledger.open(), {}, source, captured_s, float("inf"))
        self.deployment.end_bare(frame, Outcome.FAILED, reason)

    def _put(self, frame_id: int, frame, source: str, captured_s: float,
             prepared: tuple[Deployment, dict[str, np.ndarray]] | None = None) -> None:
        """Prepare a frame for the deployment in force and hand it in there; one that does not fit
        it has failed."""
        end = Outcome.DROPPED, "agent stopped"
        try:
            while not self._stopped.is_set():
                deployment, arrays = prepared or self._prepared(frame)
                if deployment.put(FrameInput(frame_id, arrays, source, captured_s,
                                             self._deadline_s(captured_s))):
                    return
                prepared = None              # for a model that was replaced meanwhile
            # A source that has not noticed yet: nobody would take the frame, or end it.
        except SplitError as e:
            end = Outcome.FAILED, str(e)
        self.deployment.end_bare(FrameInput(frame_id, {}, source, captured_s,
                                            self._deadline_s(captured_s)), *end)

    def infer(self, frame, source: str = "") -> Answer:
        """One frame's answer. Raises InputError for a frame that does not fit the model."""
        timeout_s = 1e-3 * self.config.frame.deadline_ms + _INFER_GRACE_S
        with self._infer_turn:
            prepared = self._prepared(frame)     # what does not fit is no frame at all
            frame_id = self.ledger.open()
            self._endings.expect(frame_id)
            self._put(frame_id, frame, source, time.monotonic(), prepared)
            answer = self._endings.wait(frame_id, timeout_s, self._stopped.is_set)
        self._raise_failure()
        if answer is None:
            raise SplitError("the agent was stopped before the frame ended"
                             if self._stopped.is_set() else
                             f"the frame did not end in {timeout_s:.0f} s")
        return answer

    def drain_results(self, timeout_s: float) -> None:
        """Wait until the broker has taken the results made so far, or has not in time."""
        limit_s = time.monotonic() + timeout_s
        while self.results.waiting and self.node.is_up and time.monotonic() < limit_s:
            time.sleep(0.01)

    # -- frames out

    def end(self, answer: Answer, bundle: Bundle) -> None:
        """A frame has ended."""
        self._endings.end(answer, bundle)

    def _result_topic(self, record: dict) -> str:
        template = self.config.result.topic
        return self._up("result") if template is None else fill(
            template, self.config.id, record)

    # -- the broker, on the network thread

    def subscribe(self, topic_filter: str,
                  handler: Callable[[str, bytes, Received], None]) -> None:
        """Call ``handler(topic, payload, received)`` on the network thread for what matches."""
        self._subscribers.append((topic_filter, handler))
        self.node.session.subscribe(topic_filter, 0)

    def _on_up(self, limits) -> None:
        for deployment in self._deployments:
            deployment.on_up()
        self.results.on_up()
        self._publish_births()
        self.observers.on_up()

    def _publish_births(self) -> None:
        """The retained records, but for an ephemeral agent: that leaves nothing behind."""
        if self._ephemeral:
            return
        current, publish = self.deployment, self.node.publish_record
        publish(self._up("info"), DeviceInfo(
            VERSION, VERSIONS_ACCEPTED, current.bundle.id_hex, current.bundle.manifest.name,
            tuple(c.cut for c in current.bundle.manifest.cuts), current.head.runtime,
            self.config.frame.deadline_ms))
        if current.profile is not None:
            publish(self._up("profile"), current.profile)
        self._publish_plan(current.plan, None)

    def _up(self, channel: str) -> str:
        return self.topics.device_up(self.config.id, channel)

    def _on_down(self, reason: str) -> None:
        _log.info("event=link-down reason=%r", reason)
        for deployment in self._deployments:
            deployment.on_down(reason)
        self.observers.on_down(reason)

    def _on_message(self, sender: str, message: Message) -> None:
        if message.kind is Kind.BLOB_PART and self.on_blob_part is not None:
            self.on_blob_part(sender, pull_blob_part(message.body))
            return
        deployments = list(self._deployments)
        owner = deployments[0]
        if len(deployments) > 1 and message.kind is not Kind.BLOB_PART:
            owner = next((d for d in deployments if d.sender.claims(message)), owner)
        owner.sender.on_message(sender, message)

    def _on_publication(self, topic: str, payload: bytes, received: Received) -> None:
        match self.topics.parse_worker_up(topic):
            case worker, channel if channel in _WORKER_CHANNELS:
                for deployment in self._deployments:
                    deployment.on_worker_record(worker, channel, payload)
        for topic_filter, handler in self._subscribers:
            if matches(topic_filter, topic):
                handler(topic, payload, received)

    def _on_report(self, topic: str, payload: bytes, _received: Received) -> None:
        """What a battery's owner published."""
        for deployment in self._deployments:
            deployment.on_report(topic, payload)

    def _on_acknowledged(self, round_trip_s: float) -> None:
        self.deployment.on_acknowledged(round_trip_s)

    # -- plans

    def on_plan(self, deployment: Deployment, plan: Plan, ruling: Ruling | None) -> None:
        """Another plan is in force: say so. On the control thread."""
        if deployment is not self.deployment:
            return                               # said when it takes over
        if ruling is not None:
            _log.info("event=plan plan=%d what=%r reason=%r", plan.plan_id,
                      ruling.decision.chosen.what, plan.reason)
        self._publish_plan(plan, ruling)
        self.observers.on_plan(plan, ruling)

    def on_worker(self, deployment: Deployment, worker: str | None) -> None:
        """A deployment sends to another worker. Called with the lock held, which who looks on must
        not hold."""
        if deployment is self.deployment:
            self.node.session.call_soon(partial(self.observers.on_worker, worker))

    def _publish_plan(self, plan: Plan, ruling: Ruling | None) -> None:
        if self._ephemeral:
            return
        self.node.publish_record(
            self._up("plan"),
            PlanRecord(plan.plan_id, plan.cut, plan.rung.name, plan.worker, plan.reason,
                       plan.coarsest and plan.coarsest.name, plan.race,
                       ruling and ruling.decision.chosen.costs))
