"""Frames that were sent and are not answered yet, and when each must be finished here.

The fallback starts at the deadline less the time it takes, so that its answer is on time and
not merely begun in time. Several flights share one interpreter, so they are planned backwards
from the last deadline. Pure: time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.frames import FrameInput, Plan
from split_core.outbox import Outgoing
from split_core.wire.payload import Layers


@dataclass(slots=True)
class Flight:
    """One frame in flight, with the boundary that the device still holds."""

    frame: FrameInput
    plan: Plan
    worker: str
    live: dict[str, np.ndarray]      # boundary tensors and outputs the head made
    tail_s: float                    # what finishing it here is predicted to take
    payload_bytes: int               # of its refinement too, once that leaves
    stages_ms: dict[str, float]
    sent_s: float | None = None      # its first chunk left
    outgoing: Outgoing | None = None
    due: str | None = None           # why it must be finished now
    finishing: bool = False          # the fallback runs
    hopeless: bool = False           # finishing it here was too slow even as it was launched
    predicted_kl: float | None = None
    base_kl: float | None = None     # the same while only the base layer is there
    layers: Layers | None = None     # what a refinement is made of, until it is asked for
    refining_s: float | None = None  # it was asked for; then: its first chunk left

    @property
    def waiting_since_s(self) -> float | None:
        """Since when the worker owes an answer, or else the link owes it the refinement."""
        return self.sent_s if self.refining_s is None else self.refining_s


class Flights:
    """The flights of one agent, by frame id. The caller holds the lock."""

    def __init__(self):
        self._flights: dict[int, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self):
        return iter(self._flights.values())

    def add(self, flight: Flight) -> None:
        self._flights[flight.frame.frame_id] = flight

    def get(self, frame_id: int) -> Flight | None:
        return self._flights.get(frame_id)

    def pop(self, frame_id: int) -> Flight | None:
        flight = self._flights.pop(frame_id, None)
        if flight is not None:
            flight.layers = None
        return flight

    def oldest_sent_s(self) -> float | None:
        """Since when the flight that has waited longest for an answer to what has begun to
        leave has done so."""
        return min((f.waiting_since_s for f in self if f.sent_s is not None and not f.finishing),
                   default=None)

    def make_due(self, reason: str, worker: str | None = None) -> int:
        """All flights (to one worker) are to be finished now; how many those are."""
        found = [f for f in self if f.due is None and worker in (None, f.worker)]
        for flight in found:
            flight.due = reason
        return len(found)

    def fallback_times(self, guard_s: float) -> dict[int, float]:
        """Latest moment to start each flight's fallback, ``guard_s`` kept in hand."""
        times, next_start_s = {}, float("inf")
        for f in sorted(self, key=lambda f: f.frame.deadline_s, reverse=True):
            if f.finishing:
                continue
            if f.hopeless:
                # Begun now it would be late all the same, and in the way of others: the worker
                # has until the deadline.
                times[f.frame.frame_id] = f.frame.deadline_s
                continue
            next_start_s = min(f.frame.deadline_s - guard_s, next_start_s) - f.tail_s
            times[f.frame.frame_id] = next_start_s
        return times

    def next_due(self, now_s: float, guard_s: float) -> Flight | None:
        """The flight to finish here now, the most urgent first; None if all may still wait."""
        for frame_id, start_s in sorted(self.fallback_times(guard_s).items(),
                                        key=lambda item: item[1]):
            flight = self._flights[frame_id]
            if flight.due is not None:
                return flight
            if start_s <= now_s:
                flight.due = "no answer in time"
                return flight
        return None

    def next_due_s(self, guard_s: float) -> float:
        """When the next fallback has to start."""
        return min(self.fallback_times(guard_s).values(), default=float("inf"))
