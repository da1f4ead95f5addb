"""The nearest published peer's policy, as plain frozen code to compare with.

A linear search for the cut with the least sum of device, transfer and edge time, all of them
exponential averages; transfers by one-way times between two clocks that nobody synchronised; raw
tensors; five seconds until a frame is given up and finished here; now and then a frame forced
local. Written from a description of UBICO/SCIoT (CCNC 2024), none of whose code is here.

Kept as it is on purpose: with the clocks apart the transfer time may come out negative, and the
largest tensor then wins; sending everything is evaluated, and never chosen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

ALPHA = 0.2                          # of the averages
TIMEOUT_S = 5.0
FORCED_LOCAL = 0.05                  # of frames
FIRST_BYTES_PER_S = 125_000.0


@dataclass(slots=True)
class PeerPolicy:
    """``sizes``: raw bytes at each cut, in order; the last is all-local and sends nothing."""

    sizes: Sequence[int]
    device_s: list[float]            # each segment's average here
    edge_s: list[float]              # and there
    skew_s: float                    # the worker's clock is ahead by so much
    random: random.Random
    bytes_per_s: float = FIRST_BYTES_PER_S

    def choose(self) -> int:
        """The index of the cut for the next frame."""
        last = len(self.sizes) - 1
        if self.random.random() < FORCED_LOCAL:
            return last
        costs = [sum(self.device_s[:k]) + self.sizes[k] / self.bytes_per_s
                 + sum(self.edge_s[k:]) for k in range(last + 1)]
        return min(range(1, last + 1), key=lambda k: costs[k])

    def on_segments(self, first: int, seconds: Sequence[float], *, edge: bool) -> None:
        """Segments ran here, or there."""
        averages = self.edge_s if edge else self.device_s
        for i, s in enumerate(seconds, first):
            averages[i] += ALPHA * (s - averages[i])

    def on_transfer(self, nbytes: int, one_way_s: float) -> None:
        """A tensor arrived, ``one_way_s`` later in truth."""
        seen_s = one_way_s + self.skew_s
        speed = 1.0 if seen_s == 0 else nbytes / seen_s
        self.bytes_per_s += ALPHA * (speed - self.bytes_per_s)
