"""What a field test leaves, arm by arm: one row a frame, and what was decided on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FrameRow:
    """One frame of one arm."""

    arm: str
    index: int                       # the same input in every arm
    offered_s: float                 # since the test began
    outcome: str                     # remote, local, fallback, dropped, failed
    reason: str
    late: bool                       # past the deadline, or without an answer
    total_ms: float
    cut: int
    rung: str
    worker: str | None
    nbytes: int                      # payload sent
    energy_j: float                  # the device's, above its base load; modelled
    kl: float | None = None          # predicted divergence, nats
    plan_id: int = 0
    # wait, head, encode, link, queue, decode, tail, reply, fallback; ms, in order
    stages_ms: dict[str, float] = field(default_factory=dict)


def busy_s(stages_ms: Mapping[str, float], total_ms: float, *, raced: bool) -> float:
    """How long the device computed for a frame; ``raced``: it did until the answer came."""
    if raced:
        return 1e-3 * (total_ms - stages_ms.get("wait", 0.0))
    return 1e-3 * sum(stages_ms.get(k, 0.0) for k in ("head", "encode", "fallback"))


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision of the adaptive arm."""

    at_s: float
    what: str
    reason: str
    switched: bool
    cut: int
    predicted_ms: float
    battery_wh: float | None = None


@dataclass(frozen=True, slots=True)
class LinkRow:
    """Belief and truth at one moment; truth is None on a real link."""

    at_s: float
    believed_bps: float
    true_bps: float | None


@dataclass(frozen=True, slots=True)
class FieldRun:
    """A whole test."""

    settings: dict[str, object]
    frames: tuple[FrameRow, ...]
    decisions: tuple[DecisionRow, ...] = ()
    link: tuple[LinkRow, ...] = ()
    faults: tuple[tuple[float, str], ...] = ()       # when, what was done
    notes: tuple[str, ...] = ()                      # said in the report, a sentence each
    switches: dict[str, int] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """In the order of their first frame."""
        return tuple(dict.fromkeys(f.arm for f in self.frames))
