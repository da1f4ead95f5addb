"""`edge-agent run`: an agent, its source, and what ends them."""

from __future__ import annotations

import logging
import time

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.sources import Pump, open_source
from split_core.errors import InputError
from split_core.program import on_stop_signals

_log = logging.getLogger(__name__)


def run_agent(config: AgentConfig) -> None:
    """Run until a signal, the source's end, or a failure, which is raised."""
    agent = EdgeAgent(config)
    on_stop_signals(agent.request_stop)
    pump = _make_pump(agent, config)
    with agent:
        if pump is not None:
            pump.start()
        agent.wait()
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
        agent.subscribe(config.source.topic or agent.topics.device_frames(config.id), source.push)
    else:
        source = open_source(config.source)

    def offer(name: str, frame, captured_s: float) -> None:
        if isinstance(frame, InputError):
            agent.fail_frame(name, str(frame), captured_s)
        else:
            agent.offer(frame, name, captured_s)

    return Pump(source, offer, max_fps=config.frame.max_fps, stopping=agent.stopping,
                on_end=lambda: _finish(agent), on_fatal=agent.fail)


def _finish(agent: EdgeAgent) -> None:
    """The source has ended: let what is open end, then stop."""
    limit_s = time.monotonic() + 1e-3 * agent.config.frame.deadline_ms + 5.0
    while agent.ledger.open_frames and time.monotonic() < limit_s:
        if agent.stopping.wait(0.01):
            return
    agent.drain_results(2.0)
    agent.request_stop()
