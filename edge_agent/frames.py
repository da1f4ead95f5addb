"""A frame's journey as values, and the ledger in which each ends exactly once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from split_core.wire.messages import U32_MAX
from split_core.wire.rungs import Rung


class Outcome(StrEnum):
    """How a frame ended."""

    REMOTE = "remote"                # the worker answered
    LOCAL = "local"                  # all on the device, as planned
    FALLBACK = "fallback"            # finished on the device: the answer would have been late
    DROPPED = "dropped"              # a newer frame took its place, or it was stale
    FAILED = "failed"                # its input or the model could not be run


# Those that have an answer.
ANSWERED = (Outcome.REMOTE, Outcome.LOCAL, Outcome.FALLBACK)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where frames are cut and how they are coded, until the next plan."""

    plan_id: int
    cut: int
    rung: Rung                       # the quality asked for
    reason: str = "configured"
    worker: str | None = None        # None: whichever the sender has chosen
    coarsest: Rung | None = None     # how far the step may go where `rung` would be late
    race: bool = False               # finish it here at once, too: whichever is first counts


@dataclass(frozen=True, slots=True)
class FrameInput:
    """One input on its way: model inputs by name, without the state that the device keeps."""

    frame_id: int
    arrays: dict[str, np.ndarray]
    source: str
    captured_s: float                # monotonic
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """How one frame ended, and what came out."""

    frame_id: int
    outcome: Outcome
    reason: str
    source: str
    captured_s: float
    total_ms: float
    late: bool
    cut: int
    rung: str
    plan_id: int
    payload_bytes: int = 0
    worker: str | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, np.ndarray] | None = None
    # Of remote answers: what the coded boundary was predicted to cost, nats, with a calibrated
    # rung; whether the refinement is in it, with one in two layers.
    predicted_kl: float | None = None
    refined: bool | None = None
    raced: bool = False              # the device went on while the worker was asked
    by_model: bool = False           # failed, and not for its input: the model could not be run


class Ledger:
    """Counts every frame once. Thread-safe."""

    def __init__(self):
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._next_id = 1
        self.counts = dict.fromkeys(Outcome, 0)
        self.late_results = 0        # answers from the worker for frames that had ended
        self.idle_requests = 0       # for refinements: of those, or asked for before

    def open(self) -> int:
        """A new frame's id."""
        with self._lock:
            frame_id = self._next_id
            self._next_id = frame_id % U32_MAX + 1       # what a message has room for
            self._open.add(frame_id)
            return frame_id

    def close(self, frame_id: int, outcome: Outcome) -> bool:
        """End a frame; False when it has ended already, and nothing is counted then."""
        with self._lock:
            if frame_id not in self._open:
                return False
            self._open.remove(frame_id)
            self.counts[outcome] += 1
            return True

    @property
    def open_frames(self) -> frozenset[int]:
        with self._lock:
            return frozenset(self._open)
