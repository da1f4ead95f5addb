"""Publishes events: what an agent's parts say happened, in words, on ``up/event``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.frames import Answer, Outcome, Plan
from edge_agent.observers.base import Observer
from edge_agent.planner.planner import Ruling
from edge_agent.remote.events import EventLog, LateWatch
from edge_agent.wall_clock import rfc3339
from split_core.errors import LinkDown, MessageError
from split_core.model.bundle import Bundle
from split_core.session import Publication, Timer
from split_core.settings.changed import changed_keys
from split_core.version import VERSION

_log = logging.getLogger(__name__)
# An event that was refused is tried again after this long, and then after twice as long each time,
# or on the next connect: a broker whose access rules lack the topic refuses them all.
_AGAIN_S, _LONGEST_S = 5.0, 600.0


class Teller(Observer):
    """One agent's events. Thread-safe; `tell` is for parts that are not the agent's own."""

    def __init__(self, agent: EdgeAgent, clock: Callable[[], float] = time.monotonic):
        self._session, self._clock = agent.node.session, clock
        self._topic = agent.topics.device_up(agent.config.id, "event")
        self._lock = threading.Lock()
        self._log, self._late = EventLog(), LateWatch()
        self._config, self._bundle, self._worker = agent.config, agent.bundle, None
        self._away_s: float | None = None
        self._away_reason = ""
        # Of the network thread: one event at a time, and none while one is waited with.
        self._under_way = False
        self._again: Timer | None = None
        self._wait_s = _AGAIN_S
        self.tell("started", f"edge-agent {VERSION} runs {agent.bundle.manifest.name}",
                  version=VERSION, bundle=agent.bundle.id_hex,
                  model=agent.bundle.manifest.name)

    def tell(self, event: str, text: str, **data) -> None:
        """Something happened; ``data`` are the fields of that kind of event."""
        try:
            with self._lock:
                self._log.tell(event, text, data, rfc3339(), self._clock())
        except ValueError as e:              # a fault of ours, and no reason to end who tells it
            _log.error("event=no-event what=%r", str(e))
            return
        self._session.call_soon(self._send)

    def _send(self) -> None:
        """On the network thread: the oldest that waits. The next goes once it has arrived."""
        if self._under_way or self._again is not None or not self._session.is_up:
            return
        with self._lock:
            record = self._log.take()
        if record is not None:
            self._publish(record)

    def _publish(self, record: bytes) -> None:
        def done(acknowledged: bool) -> None:
            self._under_way = False
            if acknowledged:
                self._wait_s = _AGAIN_S
                self._send()
                return
            put_back(self._wait_s)           # the link went, or it was refused
            self._wait_s = min(2 * self._wait_s, _LONGEST_S)

        def put_back(wait_s: float) -> None:
            self._under_way = False
            with self._lock:
                self._log.put_back(record)
            self._again = self._session.call_at(self._clock() + wait_s, self._try_again)

        self._under_way = True
        try:
            self._session.publish(Publication(self._topic, record, qos=1), done)
        except LinkDown as e:                # much waits to be sent; soon it will not
            _log.debug("event=event-waits why=%s", e)
            put_back(_AGAIN_S)
        except MessageError as e:            # it never will go; the others may
            _log.warning("event=event-not-sent error=%r", str(e))
            done(True)

    def _try_again(self) -> None:
        self._again = None
        self._send()

    # -- what the agent tells

    def on_up(self) -> None:
        if self._away_s is not None:
            away_s, self._away_s = self._clock() - self._away_s, None
            self.tell("link-up", f"the broker is back after {away_s:.0f} s ({self._away_reason})",
                      away_s=round(away_s, 1), reason=self._away_reason)
        if self._again is not None:
            self._again.cancel()
        # What the last connection had to say of its messages it has said, or never will.
        self._under_way, self._wait_s = False, _AGAIN_S
        self._try_again()

    def on_down(self, reason: str) -> None:
        if self._away_s is None:             # the first reason is the one that says something
            self._away_s, self._away_reason = self._clock(), reason

    def on_plan(self, plan: Plan, ruling: Ruling | None) -> None:
        self.tell("plan", f"cut {plan.cut}, {plan.rung.name}: {plan.reason}",
                  plan_id=plan.plan_id, cut=plan.cut, rung=plan.rung.name, worker=plan.worker,
                  reason=plan.reason)

    def on_worker(self, worker: str | None) -> None:
        was, self._worker = self._worker, worker
        if worker != was:
            self.tell("worker", f"worker {worker} is there" if worker is not None
                      else f"no worker; {was} is gone", worker=worker, was=was)

    def on_model(self, bundle: Bundle) -> None:
        was, self._bundle = self._bundle, bundle
        self.tell("model", f"{bundle.manifest.name} is in force", bundle=bundle.id_hex,
                  model=bundle.manifest.name, was=was.id_hex)

    def on_config(self, config: AgentConfig) -> None:
        keys, self._config = changed_keys(self._config, config), config
        if keys:
            self.tell("config", f"other settings are in force: {', '.join(keys)}",
                      changed=list(keys))

    def on_answer(self, answer: Answer) -> None:
        if answer.outcome is Outcome.FAILED:
            return
        with self._lock:
            ratio = self._late.on_answer(answer.late)
            high, frames = self._late.high, self._late.frames
        if ratio is not None:
            self.tell("late", f"{100 * ratio:.0f} % of the last {frames} frames were late",
                      high=high, late_ratio=round(ratio, 3), frames=frames)
