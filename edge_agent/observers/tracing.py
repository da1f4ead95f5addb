"""Traces of single frames, whole, from the device alone: the worker's stage times come back with
its answer, as durations, so nothing has to be known of its clock."""

from __future__ import annotations

import time

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.frames import Answer, Outcome
from edge_agent.observers.base import Observer
from split_core.tracing import LINK_SPAN, FrameIds, Piece, Tracer, in_a_row, open_tracer

_HERE = ("wait", "head", "encode")
_THERE = ("queue", "decode", "tail", "reply")


class AgentTracing(Observer):
    """Makes one tree for each chosen frame, while it is entered."""

    def __init__(self, agent: EdgeAgent, tracer: Tracer):
        self._agent, self._tracer = agent, tracer

    def __enter__(self) -> AgentTracing:
        return self

    def __exit__(self, *_exc) -> None:
        self._tracer.close()

    def on_answer(self, answer: Answer) -> None:
        ids = FrameIds(self._agent.node.session_id, answer.frame_id)
        if ids.is_sampled(self._tracer.sample):
            self._tracer.trace(ids, frame_tree(answer), time.monotonic(), named=(LINK_SPAN,))


def frame_tree(answer: Answer) -> Piece:
    """A frame's spans, by the device's monotonic clock. What the worker did is put in the middle
    of the link's time: how that divides into there and back, no clock of ours knows."""
    begin_s = answer.captured_s
    end_s = begin_s + 1e-3 * answer.total_ms
    stages = {name: 1e-3 * ms for name, ms in answer.stages_ms.items()}
    pieces = in_a_row(begin_s, [(n, stages[n]) for n in _HERE if n in stages])
    if answer.outcome is Outcome.REMOTE:
        pieces.append(_link(end_s, stages, answer))
    elif "fallback" in stages:
        pieces.append(Piece("fallback", end_s - stages["fallback"], end_s))
    return Piece("frame", begin_s, end_s, {
        "split.frame_id": answer.frame_id, "split.source": answer.source,
        "split.outcome": answer.outcome.value, "split.reason": answer.reason,
        "split.late": answer.late, "split.cut": answer.cut, "split.rung": answer.rung,
        "split.plan_id": answer.plan_id, "split.payload_bytes": answer.payload_bytes,
    }, pieces)


def _link(end_s: float, stages: dict[str, float], answer: Answer) -> Piece:
    there = [(n, stages[n]) for n in _THERE if n in stages]
    there_s, link_s = sum(s for _, s in there), stages.get("link", 0.0)
    refine_s = stages.get("refine", 0.0)
    begin_s = end_s - link_s - there_s - refine_s
    worker_s = begin_s + link_s / 2
    worker = Piece("worker", worker_s, worker_s + there_s, {
        "split.worker": answer.worker or "", "split.placed": "middle of the link's time"},
        in_a_row(worker_s, there))
    return Piece(LINK_SPAN, begin_s, end_s, {
        "split.link_ms": 1e3 * link_s, "split.refined": bool(answer.refined)}, [worker])


def tracing_parts(agent: EdgeAgent, config: AgentConfig) -> list[Observer]:
    """Nothing when it is off. Raises ConfigError where a package is missing."""
    tracer = open_tracer("edge-agent", config.id, config.trace)
    return [] if tracer is None else [AgentTracing(agent, tracer)]
