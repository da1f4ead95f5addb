"""`edge-agent run`: an agent, its source, what watches it, and what it owes the host."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_agent.agent import EdgeAgent, StoppedEarly
from edge_agent.config import AgentConfig
from edge_agent.observers.base import Observer
from edge_agent.observers.frame_log import FrameLog
from edge_agent.observers.recent import Recent
from edge_agent.observers.status_line import status_line
from edge_agent.remote.desk import Desk
from edge_agent.sources import Pump, open_source
from split_core import logs
from split_core.errors import InputError, SplitError
from split_core.program import hold_reload
from split_core.service.host import Host, enter_parts, starting
from split_core.service.notify import Notifier
from split_core.service.watchdog import Watch, watch_calls
from split_core.session import Received

if TYPE_CHECKING:
    from edge_agent.models.keeper import Keeper
    from edge_agent.models.updater import Updater

_log = logging.getLogger(__name__)


class Daemon:
    """What the parts of a running daemon may use."""

    def __init__(self, config: AgentConfig, load: Callable[[], AgentConfig] | None,
                 set_up_logs: Callable[[AgentConfig], None], notifier: Notifier | None = None):
        self._load, self._set_up_logs = load, set_up_logs
        self.keeper = _keeper(config)
        self.agent = EdgeAgent(self.keeper.start(config) if self.keeper else config)
        self.recent = Recent()
        self.desk: Desk | None = None
        self.host = Host(config.service, status=self._status, fail=self.agent.fail,
                         stop=self.agent.request_stop, apply=load and self._apply,
                         notifier=notifier)

    def reload(self) -> tuple[str, ...]:
        """Read the file again, as SIGHUP does, and return the keys that take a restart. Raises
        what is wrong with it; then nothing has changed. Blocks while a model is loaded."""
        return self.host.reloader.now()

    def watches(self) -> list[Watch]:
        """The threads that have to move."""
        agent = self.agent
        return [
            # Another model brings another thread: look at the one in force.
            Watch("inference", lambda: agent.head.poke(), lambda: agent.head.turns),
            watch_calls("network", agent.node.session.call_soon),
        ]

    def _apply(self) -> tuple[str, ...]:
        try:
            config = self._load()
            # Which model it is, is asked when no update can come between the question and the swap.
            overlay = self.keeper.overlay if self.keeper is not None else lambda config: config
            left = self.agent.reconfigure(lambda _: overlay(config), reread_model=True)
        except SplitError as e:
            if self.desk is not None:
                self.desk.on_file_refused(str(e))
            raise
        finally:
            if self.keeper is not None:
                self.keeper.end_reload()
        if self.desk is not None:
            self.desk.on_file(config)
        self.host.use(config.service)
        self._set_up_logs(config)
        return left

    def _status(self) -> str:
        agent = self.agent
        return status_line(agent.plan, agent.bundle.last_cut,
                           agent.plan.worker or agent.deployment.sender.worker,
                           self.recent.summary(), missing=agent.missing(),
                           results_waiting=agent.results.waiting,
                           results_lost=agent.results.lost)


def compose(daemon: Daemon) -> list[Observer]:
    """Everything that sees what the agent does. Parts that have an end are context managers:
    entered before the agent starts, left after it has stopped."""
    updater = _updater(daemon)
    daemon.desk = Desk(daemon.agent, daemon.recent, reload=daemon.reload,
                       memory=daemon.host.memory, updater=updater)
    parts = [
        *_observability(daemon.agent),
        FrameLog(),
        daemon.recent,
        daemon.desk,
    ]
    if updater is not None:
        updater.tell = daemon.desk.teller.tell
        parts.append(updater)
    return parts


def _keeper(config: AgentConfig) -> Keeper | None:
    """What keeps the models that come over the broker, where any may come."""
    if not config.updates.enabled:
        return None
    from edge_agent.models.keeper import Keeper

    return Keeper(config)


def _updater(daemon: Daemon) -> Updater | None:
    if daemon.keeper is None:
        return None
    from edge_agent.models.updater import Updater

    return Updater(daemon.agent, daemon.keeper)


def _observability(agent: EdgeAgent) -> list[Observer]:
    """Metrics and traces as configured. What is off is not even loaded: memory is short here."""
    parts: list[Observer] = []
    if agent.config.metrics.listen:
        from edge_agent.observers.metrics import metrics_parts

        parts += metrics_parts(agent, agent.config)
    if agent.config.trace.sample:
        from edge_agent.observers.tracing import tracing_parts

        parts += tracing_parts(agent, agent.config)
    return parts


def run_agent(config: AgentConfig, *, load: Callable[[], AgentConfig] | None = None,
              verbose: bool = False, log_format: logs.Format | None = None) -> None:
    """Run until a signal, the source's end, or a failure, which is raised. ``load`` reads the
    settings anew for a reload; ``log_format`` and ``verbose`` go before what they say."""
    def set_up_logs(config: AgentConfig) -> None:
        logs.set_up(verbose, log_format or config.service.log_format, config.service.log_level)

    set_up_logs(config)
    reload_came = hold_reload()
    notifier = Notifier.of_environment()
    with starting(notifier):             # a model on trial is tried, a new one is measured
        daemon = Daemon(config, load, set_up_logs, notifier)
    agent, host = daemon.agent, daemon.host
    with contextlib.ExitStack() as stack:
        stack.enter_context(host)
        if reload_came():
            host.reloader.request()
        enter_parts(stack, compose(daemon), agent.attach)
        pump = _make_pump(agent, config)
        with starting(notifier):
            try:
                agent.start()
            except StoppedEarly:
                agent.stop()             # which waits for the load's end
                return
        try:
            host.ready(daemon.watches())
            if pump is not None:
                pump.start()
            agent.wait()
        finally:
            host.stopping()
            agent.stop()
            if pump is not None:
                pump.join(timeout_s=1.0)
    counts = {k.value: v for k, v in agent.ledger.counts.items()}
    _log.info("event=stopped %s", " ".join(f"{k}={v}" for k, v in counts.items()))


def _make_pump(agent: EdgeAgent, config: AgentConfig) -> Pump | None:
    kind = config.source.kind
    if kind == "none":
        return None
    if kind == "mqtt":
        from edge_agent.sources.topic import TopicSource     # loads Pillow

        source = TopicSource(agent.stopping)

        def push(topic: str, payload: bytes, received: Received) -> None:
            if received.retain:
                agent.node.tell_once(topic, "a retained picture, of nobody knows when; publish"
                                            " pictures without retain")
            else:
                source.push(payload)

        agent.subscribe(config.source.topic or agent.topics.device_frames(config.id), push)
    else:
        source = open_source(config.source)

    def offer(name: str, frame, captured_s: float) -> None:
        if isinstance(frame, InputError):
            agent.fail_frame(name, str(frame), captured_s)
        else:
            agent.offer(frame, name, captured_s)

    return Pump(source, offer, max_fps=lambda: agent.config.frame.max_fps,
                stopping=agent.stopping,
                on_end=lambda: _finish(agent), on_fatal=agent.fail)


def _finish(agent: EdgeAgent) -> None:
    """The source has ended: let what is open end, then stop."""
    limit_s = time.monotonic() + 1e-3 * agent.config.frame.deadline_ms + 5.0
    while agent.ledger.open_frames and time.monotonic() < limit_s:
        if agent.stopping.wait(0.01):
            return
    agent.drain_results(2.0)
    agent.request_stop()
