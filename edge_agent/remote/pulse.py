"""Publishes the health record: every few seconds, when asked, and when something changes.

On a thread of its own: of a source with 50 frames a second a record takes 10 ms on a desktop, and
the network thread has answers to take.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.frames import Answer, Plan
from edge_agent.observers.base import Observer
from edge_agent.observers.recent import Recent
from edge_agent.planner.planner import Ruling
from edge_agent.remote.health import SensorWatch, Standing, device_health
from edge_agent.remote.teller import Teller
from edge_agent.sensors import Health, Monitor, SensorsConfig, TopicReports, open_sensors
from edge_agent.wall_clock import rfc3339
from split_core.errors import SplitError
from split_core.model.bundle import Bundle
from split_core.service.memory import Memory
from split_core.session import Publication, Received
from split_core.wire.records import DeviceHealth, dump

_log = logging.getLogger(__name__)
# How often sensors are compared with what was said last.
_LOOK_S = 1.0
# What changes is told at once, but no more often than this.
_LEAST_S = 1.0


class Pulse(Observer):
    """One agent's health. `start` once the agent has been made, `stop` before it stops."""

    def __init__(self, agent: EdgeAgent, recent: Recent, teller: Teller,
                 memory: Memory | None = None, clock: Callable[[], float] = time.monotonic):
        """``memory``: that of the process, where somebody keeps its ceiling."""
        self._agent, self._recent, self._teller, self._clock = agent, recent, teller, clock
        self._memory, self._own_look = memory or Memory(0), Memory(0)
        self._session = agent.node.session
        self._topic = agent.topics.device_up(agent.config.id, "health")
        self._started_s, self._said_s = clock(), -1e9
        self._watch, self._sent_bytes = SensorWatch(), 0
        self._changed = threading.Condition()
        self._due, self._stopped = False, False
        self._asked: list[Callable[[DeviceHealth], None]] = []
        # Where the plan is fixed: the sensors as they are read here, and what reads them.
        self._read_as: SensorsConfig | None = None
        self._monitor: Monitor | None = None
        self._reports: TopicReports | None = None
        self._subscribed: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        self._follow_plan(self._agent.config)
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(2.0)
        self._follow_plan(self._agent.config)

    def soon(self) -> None:
        """Something has changed that a reader would want to know now."""
        with self._changed:
            self._due = True
            self._changed.notify()

    def ask(self, then: Callable[[DeviceHealth], None]) -> None:
        """Publish a record now and call ``then`` with it, on this part's thread. Whoever asks at
        the same time gets the same record."""
        with self._changed:
            self._asked.append(then)
            self._changed.notify()

    # -- the record

    @property
    def sensors(self) -> Health:
        """The last reading; where the plan is fixed nothing else reads, and a monitor of its
        own does."""
        adaptation, monitor = self._agent.adaptation, self._monitor
        if adaptation is not None:
            return adaptation.monitor.latest
        return monitor.latest if monitor is not None else Health()

    def record(self) -> DeviceHealth:
        """How the device fares."""
        return device_health(self._standing(), self._recent.summary(), self.sensors)

    def _standing(self) -> Standing:
        agent, now_s = self._agent, self._clock()
        memory_bytes = self._memory.used_bytes   # as somebody looked, who keeps its ceiling
        if memory_bytes is None:
            self._own_look.look()
            memory_bytes = self._own_look.used_bytes or 0
        rtt_s, rate_bps = self._link(now_s)
        stats, bundle, plan = self._session.stats, agent.bundle, agent.plan
        with agent.wake:
            worker = (None if plan.cut == bundle.last_cut
                      else agent.deployment.sender.worker_for(plan))
        return Standing(
            at=rfc3339(), uptime_s=now_s - self._started_s, state="ready", plan=plan,
            worker=worker, totals={k.value: n for k, n in agent.ledger.counts.items()},
            sent_bytes=self._sent_bytes, link_up=self._session.is_up,
            reconnects=max(0, stats.connects - 1), rtt_s=rtt_s, rate_bps=rate_bps,
            memory_bytes=memory_bytes,
            memory_max_bytes=self._memory.max_bytes or None,
            results_waiting=agent.results.waiting, results_lost=agent.results.lost,
            bundle_hex=bundle.id_hex, model=bundle.manifest.name[:256],
            aim=agent.config.policy.aim)

    def _link(self, now_s: float) -> tuple[float | None, float | None]:
        """Round trip to the broker and the uplink's rate, as far as either is known."""
        rtt_s = rate_bps = None
        adaptation = self._agent.adaptation
        if adaptation is not None:
            with self._agent.wake:
                beliefs = adaptation.beliefs
                if beliefs.round_trip.known:
                    rtt_s = beliefs.round_trip.least_s
                if beliefs.transfers.known:
                    rate_bps = beliefs.bps(now_s)
        if rtt_s is None:
            info = self._session.link_info()     # the kernel's own view of the first hop
            rtt_s = info.rtt_s if info is not None else None
        return rtt_s, rate_bps

    # -- the thread

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._asked or self._may_say(),
                                           _LOOK_S)
                    if self._stopped:
                        return
                    asked, self._asked = self._asked, []
                self._look()
                if asked or self._may_say():
                    self._say(asked)
        except BaseException as e:  # a thread that dies takes the process with it, loudly
            self._agent.fail(e)

    def _look(self) -> None:
        """What has changed, and whether a record is due."""
        for change in self._watch.look(self.sensors):
            self._teller.tell(change.event, change.text, **change.data)
            self._due = True
        if self._clock() - self._said_s > self._agent.config.health.every_s - 0.5 * _LOOK_S:
            self._due = True

    def _may_say(self) -> bool:
        return self._due and self._session.is_up and self._clock() - self._said_s >= _LEAST_S

    def _say(self, asked: list[Callable[[DeviceHealth], None]]) -> None:
        self._due, self._said_s = False, self._clock()
        record = self.record()
        try:
            self._session.publish(Publication(self._topic, dump(record)))
        except SplitError as e:                  # down, or nothing fits: the next one will say
            _log.debug("event=health-unsaid why=%s", e)
        for then in asked:
            then(record)

    # -- what the agent tells

    def on_up(self) -> None:
        self.soon()

    def on_plan(self, plan: Plan, ruling: Ruling | None) -> None:
        self.soon()

    def on_worker(self, worker: str | None) -> None:
        self.soon()

    def on_model(self, bundle: Bundle) -> None:
        self.soon()

    def on_answer(self, answer: Answer) -> None:
        with self._changed:                      # two threads end frames
            self._sent_bytes += answer.payload_bytes

    def on_config(self, config: AgentConfig) -> None:
        self._follow_plan(config)
        self.soon()

    def _follow_plan(self, config: AgentConfig) -> None:
        """Read the sensors here if nobody else does."""
        wanted = None if self._agent.adaptation is not None or self._stopped else config.sensors
        if wanted == self._read_as:
            return
        old, self._monitor, self._reports = self._monitor, None, None
        if old is not None:
            old.stop()
        self._read_as = wanted
        if wanted is None:
            return
        sensors = open_sensors(wanted)
        self._reports = sensors.reports
        self._monitor = Monitor(sensors.sensors, wanted.interval_s, on_fatal=self._agent.fail)
        self._monitor.start()
        if sensors.reports is not None and wanted.topic not in self._subscribed:
            self._subscribed.add(wanted.topic)
            self._agent.subscribe(wanted.topic, self._on_report)

    def _on_report(self, topic: str, payload: bytes, received: Received) -> None:
        """What a battery's owner published."""
        reports = self._reports
        if reports is not None and self._read_as is not None and topic == self._read_as.topic:
            reports.push(payload, time.monotonic())
