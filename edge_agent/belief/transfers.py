"""Belief about the uplink: the last transfers as they were, the recent ones more likely.

A cellular link is not a mean and a deviation: it has good seconds, bad seconds and outages, and
one bad transfer averaged into ten good ones describes none of them. So nothing is averaged: each
of the last transfers is a *scenario*, what a byte cost then, and the planner tries every
candidate against all of them. On the uplinks of Winstein et al. (NSDI 2013) that came within 2 to
7 % of a clairvoyant choice where exponential averages of the same transfers were 2 to 19 % away
(docs/decisions/0005).

A transfer ends when the worker's answer is here: on the device's clock alone, less what the worker
says it took, less the least round trip. Bytes that waited behind our own earlier ones are not
counted against the link. A transfer that is still open counts for as long as it has lasted.

Pure: time is an argument. The caller holds the lock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# How fast a transfer's say fades. Between 1.5 and 6 s the mean latency over nine traces and
# boards changes by 0.4 %, below 1.5 s plans follow the noise (37 switches in 140 s, not 13).
HALF_LIFE_S = 2.5
# Older ones weigh less than 0.1 % at one frame a second.
MAX_SCENARIOS = 24
# A link that never failed may: one scenario is always an outage, and this is its least weight.
# About what the drives of Winstein et al. have: 3 to 9 % of the seconds, mostly in a row.
OUTAGE_RATIO = 0.02
OUTAGE_S_PER_BYTE = 0.01
# Before the first transfer: a cellular uplink on a middling day.
PRIOR_BPS = 1e6
# An answer that has not come by then will not tell anything any more.
GIVE_UP_S = 15.0
# No link is believed to be faster: a clock's resolution is not a rate.
_LEAST_S_PER_BYTE = 8 / 1e9
_NEWEST_LOSS = 0.1


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one byte may cost next."""

    s_per_byte: float
    weight: float                    # all of them sum to 1


@dataclass(slots=True)
class _Open:
    sent_s: float
    nbytes: int


class Transfers:
    """The transfers of one connection, and what they say of the next."""

    def __init__(self, prior_bps: float = PRIOR_BPS):
        self._prior_s_per_byte = 8 / prior_bps
        self._ended: deque[tuple[float, float]] = deque(maxlen=MAX_SCENARIOS)
        self._open: dict[int, _Open] = {}
        self._free_s = -1e9              # since when nothing of ours has occupied the link
        self.loss_ratio = 0.0
        self.answered = 0

    def on_sent(self, key: int, nbytes: int, now_s: float) -> None:
        """A message began to leave."""
        self._open[key] = _Open(now_s, nbytes)

    def on_answer(self, key: int, worker_s: float, rtt_s: float, now_s: float) -> bool:
        """Its answer is here; the worker had it for ``worker_s``, an empty message would have
        taken ``rtt_s`` there and back. False for one that is not open."""
        transfer = self._open.pop(key, None)
        if transfer is None:
            return False
        through_s = now_s - worker_s - rtt_s         # when its last byte was through
        begin_s = max(transfer.sent_s, self._free_s)
        busy_s = max(through_s - begin_s, transfer.nbytes * _LEAST_S_PER_BYTE)
        self._free_s = max(self._free_s, through_s)
        self._ended.append((now_s, busy_s / max(transfer.nbytes, 1)))
        self._count(lost=False)
        return True

    def on_turned_away(self, key: int) -> None:
        """The worker refused it: the link carried it, but nobody said how fast."""
        self._open.pop(key, None)

    def on_down(self, now_s: float) -> None:
        """The connection is gone, and with it what was open."""
        for transfer in self._open.values():
            self._end_lost(transfer, now_s)
        self._open.clear()
        self._free_s = -1e9

    def sweep(self, now_s: float) -> None:
        """Give up on what has been open for too long."""
        for key, transfer in list(self._open.items()):
            if now_s - transfer.sent_s > GIVE_UP_S:
                del self._open[key]
                self._end_lost(transfer, now_s)

    def _end_lost(self, transfer: _Open, now_s: float) -> None:
        waited_s = now_s - transfer.sent_s
        self._ended.append((now_s, max(waited_s / max(transfer.nbytes, 1), _LEAST_S_PER_BYTE)))
        self._count(lost=True)

    def _count(self, lost: bool) -> None:
        self.loss_ratio += _NEWEST_LOSS * (lost - self.loss_ratio)
        self.answered += not lost

    def open_bytes(self) -> int:
        """Bytes sent that nobody has answered for."""
        return sum(t.nbytes for t in self._open.values())

    def scenarios(self, rtt_s: float, now_s: float) -> tuple[Scenario, ...]:
        """What a byte may cost next, the cheapest first."""
        found = [(s, 0.5 ** ((now_s - at_s) / HALF_LIFE_S)) for at_s, s in self._ended]
        usual = weighted_median(found) if found else self._prior_s_per_byte
        # The link is a queue: only what it is busy with says something, not what waits behind.
        oldest = min(self._open.values(), key=lambda t: t.sent_s, default=None)
        if oldest is not None:
            lasted_s = now_s - max(oldest.sent_s, self._free_s) - rtt_s
            if lasted_s > usual * oldest.nbytes:
                found.append((lasted_s / max(oldest.nbytes, 1), 1.0))
        total = sum(w for _, w in found)
        if total < 1e-12:                # none, or all of them ages ago
            found, total = [(usual, 1.0)], 1.0
        outage = max(OUTAGE_RATIO, self.loss_ratio)
        found = [(s, (1 - outage) * w / total) for s, w in found]
        return tuple(Scenario(*pair) for pair in sorted([*found, (OUTAGE_S_PER_BYTE, outage)]))

    def bps(self, now_s: float) -> float:
        """The middle scenario as a rate, for people."""
        found = [(s.s_per_byte, s.weight) for s in self.scenarios(0.0, now_s)]
        return 8 / weighted_median(found)


def weighted_median(pairs: list[tuple[float, float]]) -> float:
    pairs = sorted(pairs)
    half, seen = 0.5 * sum(w for _, w in pairs), 0.0
    for value, weight in pairs:
        seen += weight
        if seen >= half:
            return value
    return pairs[-1][0]
