"""What a link does to bytes, as arithmetic: when they leave the bottleneck, when they arrive.

The one idea is the position: how many bytes a bottleneck could have delivered since time zero.
It only grows; a sender that had nothing to send lost what passed. A queue is then one number,
the position of its last byte, and a message of n bytes ends n positions after the later of that
number and of the moment's own. Nothing here reads a clock: the same arithmetic answers a
simulator and the emulator. Times are seconds since the link's time zero, before which nothing
moves.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

# What mahimahi's traces call one delivery opportunity: a full packet.
OPPORTUNITY_BYTES = 1500
# What a modest modem holds: at 1 Mbit/s a quarter of a second.
QUEUE_BYTES = 32_000
# Stands for "no limit": 30 kB take 24 us, and positions keep their precision for days.
UNLIMITED_BPS = 1e10
# Below what any message is, above what floating point loses in a day at 100 Mbit/s.
_BYTES_TOLERANCE = 1e-3


class Rate:
    """How fast a bottleneck delivers, over time. Each question costs O(log n) at most."""

    def position(self, at_s: float, *, through: bool = False) -> float:
        """Bytes that could be delivered before `at_s`; `through` counts that instant too."""
        raise NotImplementedError

    def time_at_s(self, position: float) -> float:
        """The earliest time at which this many bytes could have been delivered."""
        raise NotImplementedError

    def finish_s(self, start_s: float, nbytes: int) -> float:
        """When the last of `nbytes` is through, if the first is served from `start_s` on."""
        return max(start_s, self.time_at_s(self.position(start_s) + nbytes))

    def bytes_between(self, t0_s: float, t1_s: float) -> float:
        """What could be delivered from `t0_s` until before `t1_s`."""
        return self.position(t1_s) - self.position(t0_s)

    def mean_bps(self, t0_s: float, t1_s: float) -> float:
        """The mean rate from `t0_s` until before `t1_s`."""
        return 8.0 * self.bytes_between(t0_s, t1_s) / (t1_s - t0_s)


@dataclass(frozen=True)
class Constant(Rate):
    """The same rate at all times, byte by byte."""

    bps: float

    def position(self, at_s: float, *, through: bool = False) -> float:
        return max(0.0, at_s) * self.bps / 8.0

    def time_at_s(self, position: float) -> float:
        return max(0.0, position) * 8.0 / self.bps


class Steps(Rate):
    """One rate for so many seconds, then the next; after the last the first again."""

    def __init__(self, steps: Iterable[tuple[float, float]]) -> None:
        self.steps = tuple(steps)
        bps, length_s = (np.array(column, dtype=float) for column in zip(*self.steps, strict=True))
        self._edges_s = [0.0, *np.cumsum(length_s).tolist()]
        self._edge_bytes = [0.0, *np.cumsum(length_s * bps / 8.0).tolist()]

    def position(self, at_s: float, *, through: bool = False) -> float:
        loops, rest_s = divmod(max(0.0, at_s), self._edges_s[-1])
        i = bisect_right(self._edges_s, rest_s) - 1
        return (loops * self._edge_bytes[-1] + self._edge_bytes[i]
                + (rest_s - self._edges_s[i]) * self.steps[i][0] / 8.0)

    def time_at_s(self, position: float) -> float:
        loops, rest = divmod(max(0.0, position), self._edge_bytes[-1])
        if rest <= _BYTES_TOLERANCE:
            # The end of a loop comes before the start of the next when its last rate is zero.
            if loops == 0:
                return 0.0
            loops, rest = loops - 1, self._edge_bytes[-1] + rest
        # Where the rate is zero one position holds for long; rounding must not skip to its end.
        i = bisect_left(self._edge_bytes, rest - _BYTES_TOLERANCE) - 1
        inside_s = (rest - self._edge_bytes[i]) * 8.0 / self.steps[i][0]
        return loops * self._edges_s[-1] + min(self._edges_s[i] + inside_s, self._edges_s[i + 1])


class Opportunities(Rate):
    """Delivery opportunities in mahimahi's meaning.

    At each of the times up to 1500 bytes leave, whole or parts of packets; small packets share
    one, and what is not used is lost. The times loop with the period of the last.
    """

    def __init__(self, times_ms: Sequence[int] | np.ndarray) -> None:
        self.times_ms = np.asarray(times_ms, dtype=np.int64)
        self.times_ms.setflags(write=False)
        if not len(self.times_ms) or self.times_ms[-1] <= 0 or self.times_ms[0] < 0:
            raise ValueError("opportunities need a last time after zero and none before it")
        if np.any(np.diff(self.times_ms) < 0):
            raise ValueError("opportunities must be sorted")
        # A list, because bisect is ten times as fast on one as searchsorted with a scalar.
        self._times_ms: list[int] = self.times_ms.tolist()

    @property
    def period_s(self) -> float:
        """After how long the times repeat."""
        return self._times_ms[-1] / 1000.0

    def position(self, at_s: float, *, through: bool = False) -> float:
        # To the nanosecond: a time that came from a millisecond must return to it.
        at_ms = round(at_s * 1000.0, 6)
        period_ms = self._times_ms[-1]
        if through:
            if at_ms < 0:
                return 0.0
            loops, rest_ms = divmod(math.floor(at_ms), period_ms)
            count = bisect_right(self._times_ms, rest_ms)
        else:
            if at_ms <= 0:
                return 0.0
            # The period's end belongs to the loop that it ends.
            loops, rest_ms = divmod(math.ceil(at_ms) - 1, period_ms)
            count = bisect_left(self._times_ms, rest_ms + 1)
        return float((loops * len(self._times_ms) + count) * OPPORTUNITY_BYTES)

    def time_at_s(self, position: float) -> float:
        needed = math.ceil(position / OPPORTUNITY_BYTES)
        if needed <= 0:
            return 0.0
        loops, i = divmod(needed - 1, len(self._times_ms))
        return (loops * self._times_ms[-1] + self._times_ms[i]) / 1000.0


class Faulty(Rate):
    """Another rate, begun at `offset_s` of it, with outages in which nothing is delivered.

    An outage is (start_s, length_s), counted from the new time zero; its end is not part of it.
    """

    def __init__(self, rate: Rate, offset_s: float = 0.0,
                 outages: Iterable[tuple[float, float]] = ()) -> None:
        self.rate = rate
        self.offset_s = offset_s
        self.outages = merged(outages)
        self._origin = rate.position(offset_s)
        # To the nanosecond: 0.1 + 0.2 must end at 0.3.
        self._starts_s = [round(start_s, 9) for start_s, _ in self.outages]
        self._ends_s = [round(start_s + length_s, 9) for start_s, length_s in self.outages]
        # For each outage the position it holds on to, and all that was lost until before it.
        self._at_start: list[float] = []
        self._lost = [0.0]
        for start_s, end_s in zip(self._starts_s, self._ends_s, strict=True):
            before = rate.position(offset_s + start_s) - self._origin
            after = rate.position(offset_s + end_s) - self._origin
            self._at_start.append(before - self._lost[-1])
            self._lost.append(self._lost[-1] + after - before)

    def position(self, at_s: float, *, through: bool = False) -> float:
        if at_s < 0.0:
            return 0.0
        at_s = round(at_s, 9)
        passed = (bisect_right if through else bisect_left)(self._starts_s, at_s)
        if passed:
            end_s = self._ends_s[passed - 1]
            if at_s < end_s or (at_s == end_s and not through):
                return self._at_start[passed - 1]
        inner = self.rate.position(self.offset_s + at_s, through=through)
        return max(0.0, inner - self._origin - self._lost[passed])

    def time_at_s(self, position: float) -> float:
        if position <= 0.0:
            return 0.0
        passed = bisect_left(self._at_start, position - _BYTES_TOLERANCE)
        inner_s = self.rate.time_at_s(position + self._origin + self._lost[passed])
        return max(0.0, inner_s - self.offset_s)


def merged(spans: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Spans of (start_s, length_s) in order, with those that touch made one."""
    joined: list[tuple[float, float]] = []
    for start_s, length_s in sorted(spans):
        if joined and start_s <= joined[-1][0] + joined[-1][1]:
            first_s, so_far_s = joined[-1]
            joined[-1] = (first_s, max(so_far_s, start_s + length_s - first_s))
        else:
            joined.append((start_s, length_s))
    return tuple(joined)


class Path:
    """The way after the bottleneck: half the round trip, jitter, and black holes.

    Jitter is a function of time, not of the packet: a line through seeded points between 0 and
    `jitter_s`, which stand at least `jitter_s` apart. It never falls faster than time passes, so
    nothing overtakes, and it is the same however the bytes are packed. What would arrive in a
    black hole arrives when that ends.
    """

    # Above that spacing of the points, jitter within one message would look constant.
    MIN_SPACING_S = 0.02
    POINTS = 1024

    def __init__(self, one_way_s: float, jitter_s: float = 0.0, seed: int | Sequence[int] = 0,
                 black_holes: Iterable[tuple[float, float]] = ()) -> None:
        self.base_s = one_way_s
        self.black_holes = merged(black_holes)
        self._spacing_s = max(jitter_s, self.MIN_SPACING_S)
        points = np.random.default_rng(seed).uniform(0.0, jitter_s, self.POINTS)
        self._points_s: list[float] = points.tolist() if jitter_s else []

    def one_way_s(self, at_s: float) -> float:
        """How long what leaves the bottleneck at `at_s` is under way."""
        if not self._points_s:
            return self.base_s
        i, part = divmod(max(0.0, at_s) / self._spacing_s, 1.0)
        before = self._points_s[int(i) % self.POINTS]
        after = self._points_s[int(i + 1) % self.POINTS]
        return self.base_s + before + part * (after - before)

    def arrives_s(self, delivered_s: float) -> float:
        """When what leaves the bottleneck at `delivered_s` is at the other end."""
        arrival_s = delivered_s + self.one_way_s(delivered_s)
        return self.black_hole_end_s(arrival_s) or arrival_s

    def black_hole_end_s(self, at_s: float) -> float | None:
        """The end of the black hole that `at_s` is in; None outside."""
        for start_s, length_s in self.black_holes:
            if start_s <= at_s < start_s + length_s:
                return start_s + length_s
        return None


@dataclass(slots=True)
class Uplink:
    """One direction of a link: a first-in-first-out bottleneck, then the path.

    A downlink is another of the same, mostly with no limit. Times of `send` must not fall.
    """

    rate: Rate
    path: Path = field(default_factory=lambda: Path(0.0))
    # The position of the last byte that was sent.
    end: float = 0.0

    def copy(self) -> Uplink:
        """One that goes its own way from here; what never changes is shared."""
        return replace(self)

    def send(self, nbytes: int, at_s: float) -> float:
        """Queue `nbytes` at `at_s`; when the last of them leaves the bottleneck."""
        self.end = max(self.end, self.rate.position(at_s)) + nbytes
        return max(at_s, self.rate.time_at_s(self.end))

    def send_pieces(self, nbytes: int, at_s: float, grain_s: float) -> list[tuple[int, float]]:
        """`send`, told in pieces that leave within `grain_s` each: (bytes, when it has left)."""
        pieces = []
        while nbytes > 0:
            start = max(self.end, self.rate.position(at_s))
            first_s = max(at_s, self.rate.time_at_s(start + 1))
            piece = max(1, min(nbytes, int(self.rate.position(first_s + grain_s) - start)))
            pieces.append((piece, self.send(piece, at_s)))
            nbytes -= piece
        return pieces

    def backlog_bytes(self, at_s: float) -> int:
        """Bytes that were sent and have not left the bottleneck at `at_s`."""
        return max(0, math.ceil(self.end - self.rate.position(at_s, through=True)
                                - _BYTES_TOLERANCE))

    def drained_s(self, nbytes: int) -> float:
        """When no more than `nbytes` of what was sent until now will be waiting."""
        return self.rate.time_at_s(self.end - nbytes)

    def one_way_s(self, at_s: float) -> float:
        """How long what leaves the bottleneck at `at_s` is under way after it."""
        return self.path.one_way_s(at_s)

    def arrives_s(self, delivered_s: float) -> float:
        """When what left the bottleneck at `delivered_s` is at the other end."""
        return self.path.arrives_s(delivered_s)


def synthetic(seed: int, mean_bps: float, duration_s: float, *, spread: float = 0.7,
              memory_s: float = 4.0, outage_every_s: float = 20.0, outage_min_s: float = 0.5,
              outage_tail: float = 1.35, outage_max_s: float = 20.0) -> Opportunities:
    """A cellular-like uplink by chance, the same for the same seed.

    The logarithm of the rate is a random walk that returns to its mean (Ornstein-Uhlenbeck,
    standard deviation `spread`, correlation exp(-t/memory_s)). Outages begin `outage_every_s`
    apart on average, exponentially; their lengths are Pareto distributed from `outage_min_s` on
    with exponent `outage_tail`, cut at `outage_max_s`. Opportunities are scattered as by a
    Poisson process of that rate, as many as give `mean_bps` over the whole, outages included.

    The defaults are those of two recorded drives (ATT LTE and TMobile UMTS of mahimahi): a
    standard deviation of the log rate of 0.8 in seconds with any delivery; a correlation of 0.7
    to 0.8 between successive seconds; a gap over 0.5 s every 16 to 22 s, and of these one in
    six over 2 s, which is an exponent of 1.25 to 1.5.
    """
    rng = np.random.default_rng(seed)
    step_s = 0.1
    steps = max(1, math.ceil(duration_s / step_s))
    keep = math.exp(-step_s / memory_s)
    log_rate = np.empty(steps)
    level = rng.normal(0.0, spread)
    for i, push in enumerate(rng.normal(0.0, spread * math.sqrt(1.0 - keep * keep), steps)):
        log_rate[i] = level = keep * level + push
    # Finer than the walk, so that an outage's edges are to 10 ms.
    fine_s = 0.01
    edges_s = np.minimum(np.arange(steps * 10 + 1) * fine_s, duration_s)
    intensity = np.repeat(np.exp(log_rate), 10)
    at_s = rng.exponential(outage_every_s)
    while at_s < duration_s:
        length_s = min(outage_max_s, outage_min_s * (1.0 + rng.pareto(outage_tail)))
        intensity[int(at_s / fine_s):int((at_s + length_s) / fine_s)] = 0.0
        at_s += length_s + rng.exponential(outage_every_s)
    expected = np.concatenate([[0.0], np.cumsum(intensity * np.diff(edges_s))])
    if expected[-1] == 0.0:  # all of a short trace is one outage
        expected = np.linspace(0.0, 1.0, len(edges_s))
    count = max(1, round(mean_bps * duration_s / 8.0 / OPPORTUNITY_BYTES))
    drawn = np.sort(rng.uniform(0.0, expected[-1], count))
    times_ms = np.ceil(np.interp(drawn, expected, edges_s) * 1000.0).astype(np.int64)
    times_ms[-1] = round(duration_s * 1000.0)  # the last is also the period
    return Opportunities(np.minimum(times_ms, times_ms[-1]))
