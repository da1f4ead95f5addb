"""Frames and flights for unit tests."""

from __future__ import annotations

from edge_agent.frames import FrameInput, Plan
from edge_agent.inference.flights import Flight
from split_core.wire.rungs import RAW

PLAN = Plan(1, 3, RAW)


def frame(frame_id: int, deadline_s: float = 1.0) -> FrameInput:
    return FrameInput(frame_id, {}, "test", 0.0, deadline_s)


def flight(frame_id: int, deadline_s: float = 1.0, *, tail_s: float = 0.1, worker: str = "w",
           sent_s: float | None = None) -> Flight:
    return Flight(frame(frame_id, deadline_s), PLAN, worker, {}, tail_s, 1000, {}, sent_s)
