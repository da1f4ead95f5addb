"""The agent's metrics, off by default. docs/observability.md lists them; a test compares.

All labels are from closed lists, but those of `split_agent_plan_info` and of
`split_agent_bundle_info`, which have one series at a time.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.frames import ANSWERED, Answer, Outcome
from edge_agent.observers.base import Observer
from split_core.errors import ConfigError
from split_core.listen import parse_listen
from split_core.metrics import BYTES, Family, Metrics, counter, gauge, session_families
from split_core.version import VERSION
from split_core.webserver import Reply, WebServer

# In the order in which a frame goes through them; `refine` and `fallback` not every one does.
STAGES = ("wait", "head", "encode", "link", "queue", "decode", "tail", "reply", "refine",
          "fallback")
_P = "split_agent"
_log = logging.getLogger(__name__)


class AgentMetrics(Observer):
    """Counts what an agent does, and serves it while it is entered."""

    def __init__(self, agent: EdgeAgent, listen: tuple[str, int] | None = None):
        """Raises ConfigError for an address that cannot be had, or without the package."""
        self._agent, self._metrics = agent, (made := Metrics())
        self._stage = made.histogram(
            f"{_P}_stage_seconds", "What a stage of an answered frame took", "stage", STAGES)
        self._frames = made.counter(
            f"{_P}_frames", "Frames by how they ended", "outcome", [o.value for o in Outcome])
        self._total = made.histogram(
            f"{_P}_answer_seconds", "From capture to answer", "outcome",
            [o.value for o in ANSWERED])
        self._late = made.counter(f"{_P}_late_frames", "Answers after their deadline")
        self._payload = made.histogram(
            f"{_P}_frame_bytes", "Coded bytes of a frame that was sent", buckets=BYTES)
        self._sent = made.counter(f"{_P}_sent_bytes", "Coded bytes of frames that were sent")
        made.read(self._read)
        self._server = None if listen is None else WebServer(listen, {
            "/metrics": lambda query: Reply(self.render(), Metrics.content_type)})

    def __enter__(self) -> AgentMetrics:
        if self._server is not None:
            self._server.start()
        return self

    def __exit__(self, *_exc) -> None:
        if self._server is not None:
            self._server.stop()

    @property
    def url(self) -> str:
        """Where it is served."""
        return self._server.url + "metrics"

    def render(self) -> bytes:
        """All of it in the text format."""
        return self._metrics.render()

    def on_answer(self, answer: Answer) -> None:
        self._frames[answer.outcome.value](1)
        if answer.payload_bytes:
            self._payload[""](answer.payload_bytes)
            self._sent[""](answer.payload_bytes)
        if answer.outcome not in ANSWERED:
            return
        for stage, ms in answer.stages_ms.items():
            observe = self._stage.get(stage)
            if observe is not None:
                observe(1e-3 * ms)
        self._total[answer.outcome.value](1e-3 * answer.total_ms)
        if answer.late:
            self._late[""](1)

    def _read(self) -> Iterable[Family]:
        agent = self._agent
        plan, bundle, session = agent.plan, agent.bundle, agent.node.session
        yield Family("gauge", f"{_P}_build_info", "1; what runs", (
            ((VERSION, agent.head.runtime, platform.python_version()), 1.0),),
            ("version", "runtime", "python"))
        yield Family("gauge", f"{_P}_bundle_info", "1; the bundle in force", (
            ((bundle.id_hex[:16], bundle.manifest.name[:80]), 1.0),), ("bundle", "model"))
        yield Family("gauge", f"{_P}_plan_info", "1; the plan in force", (
            ((plan.rung.name, plan.worker or "", agent.config.policy.aim), 1.0),),
            ("rung", "worker", "aim"))
        yield gauge(f"{_P}_cut", "Op before which the model is cut now", plan.cut)
        yield gauge(f"{_P}_all_local_cut", "The cut that means: all of it here", bundle.last_cut)
        yield counter(f"{_P}_plans", "Plans so far; each change is one more", plan.plan_id)
        yield gauge(f"{_P}_deadline_seconds", "What is wanted of every frame",
                    1e-3 * agent.config.frame.deadline_ms)
        yield gauge(f"{_P}_open_frames", "Frames that have not ended yet",
                    len(agent.ledger.open_frames))
        yield counter(f"{_P}_late_results", "Answers of workers for frames that had ended",
                      agent.ledger.late_results)
        yield gauge(f"{_P}_results_waiting", "Results that the broker has not taken",
                    agent.results.waiting)
        yield counter(f"{_P}_results_lost", "Results given up", agent.results.lost)
        yield gauge(f"{_P}_backlog_bytes", "Bytes of frames that the link has not taken yet",
                    agent.node.backlog_bytes)
        link = agent.node.link_info()
        yield gauge(f"{_P}_link_rtt_seconds", "Least round trip of the first hop, by the kernel",
                    None if link is None else link.min_rtt_s)
        yield from self._read_sensors()
        yield from session_families(_P, agent.node.is_up, session.stats)

    def _read_sensors(self) -> Iterable[Family]:
        adaptation = self._agent.adaptation
        health = None if adaptation is None else adaptation.monitor.latest
        for name, help, field in (
                ("battery_ratio", "Charge, 0 to 1", "battery_ratio"),
                ("temperature_celsius", "Of the processor", "temperature_c"),
                ("throttled", "1 while the processor is held back", "throttled"),
                ("cpu_busy_ratio", "Of all processors, 0 to 1", "cpu_busy_ratio")):
            value = None if health is None else getattr(health, field)
            yield gauge(f"{_P}_{name}", help, value)


def metrics_parts(agent: EdgeAgent, config: AgentConfig) -> list[Observer]:
    """Nothing when it is off, or when the address cannot be had: frames matter more than their
    count, and the log says so. Raises ConfigError for an address that is none."""
    listen = parse_listen(config.metrics.listen, "metrics.listen")
    if listen is None:
        return []
    try:
        return [AgentMetrics(agent, listen)]
    except ConfigError as e:
        _log.warning("event=metrics-off reason=%r", str(e))
        return []
