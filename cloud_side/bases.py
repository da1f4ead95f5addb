"""Frames answered by their base layer alone, which wait for their refinement.

Each keeps its answer: what cannot wait any longer, or has to make room, is not lost but less
exact. Pure: time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cloud_side.admission import Job
from split_core.wire.messages import Refinement, Result
from split_core.wire.payload import Layers

# A device has at most 8 frames in flight; these are those of 32 devices, all unsure at once.
MAX_BASES = 256
MAX_BYTES = 64 << 20
# Asking and being answered takes the link as long as the frame's way here and its result's way
# back, so half of what is left is for the one and half for the other.
WAIT_SHARE = 0.5
# No budget, however long, holds memory for longer.
MAX_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Base:
    """A frame, what its base layer decoded to, and the answer that gave."""

    job: Job
    layers: Layers
    result: Result
    give_up_s: float                 # then the answer goes out as it is

    @property
    def key(self) -> tuple[str, int, int]:
        """Who may refine it, and as what."""
        return self.job.sender, self.job.frame.session, self.job.frame.frame_id

    @property
    def nbytes(self) -> int:
        arrays = (*self.layers.symbols.values(), *self.layers.arrays.values())
        return (sum(a.nbytes for a in arrays) + len(self.result.payload)
                + len(self.job.frame.payload))


@dataclass(frozen=True, slots=True)
class RefinementJob(Job):
    """The second pass of a frame: ``frame`` is the first message, the times are the second's."""

    base: Base
    refinement: Refinement

    @property
    def deadline_s(self) -> float:
        return self.first_s + self.refinement.budget_us * 1e-6


class Bases:
    """What is held, oldest first; bounded in number and bytes. The caller holds the lock."""

    def __init__(self, max_bases: int = MAX_BASES, max_bytes: int = MAX_BYTES):
        self.max_bases, self.max_bytes = max_bases, max_bytes
        self._held: OrderedDict[tuple[str, int, int], Base] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, base: Base) -> list[Base]:
        """Keep one, the newest always; those that had to make room for it."""
        sender, session, _ = base.key
        for key in [k for k in self._held if k[0] == sender and k[1] != session]:
            self.take(*key)               # of a process that is gone: nobody takes its answer
        self.take(*base.key)              # a frame that came twice is held once
        self._held[base.key] = base
        self._nbytes += base.nbytes
        gone = []
        while len(self._held) > 1 and (
                len(self._held) > self.max_bases or self._nbytes > self.max_bytes):
            gone.append(self.take(*next(iter(self._held))))
        return gone

    def take(self, sender: str, session: int, frame_id: int) -> Base | None:
        """Out with it; None where nothing waits."""
        base = self._held.pop((sender, session, frame_id), None)
        if base is not None:
            self._nbytes -= base.nbytes
        return base

    def take_due(self, now_s: float) -> list[Base]:
        """Out with those that have waited long enough."""
        due = [k for k, b in self._held.items() if b.give_up_s <= now_s]
        return [self.take(*key) for key in due]

    def clear(self) -> None:
        self._held.clear()
        self._nbytes = 0


def give_up_s(deadline_s: float, now_s: float) -> float:
    """Until when a refinement asked for now is waited for."""
    return now_s + min(WAIT_SHARE * (deadline_s - now_s), MAX_WAIT_S)
