"""Belief about the uplink: the last transfers as they were, the recent ones more likely.

A cellular link is not a mean and a deviation: it has good seconds, bad seconds and outages, and
one bad transfer averaged into ten good ones describes none of them. So nothing is averaged: each
of the last transfers is a *scenario*, what a byte cost then, and the planner tries every
candidate against all of them. On the uplinks of Winstein et al. (NSDI 2013) that is 8 % above a
clairvoyant choice in the mean, exponential averages of the same transfers 10 to 11 %; and a link
that becomes a better one is used within 9 s, with averages after up to half a minute
(bench.beliefs, bench.steps; docs/decisions/0005).

A transfer ends when the worker's answer is here: on the device's clock alone, less what the worker
says it took, less the least round trip as it is known when somebody asks. Bytes that waited behind
our own earlier ones are not counted against the link. A transfer that is still open, or was given
up on the way, counts for as long as it had lasted.

Pure: time is an argument. The caller holds the lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

# Two memories, as video players have them: what just was, and what this link is like. The fast one
# alone changes plans half again as often on a drive, for it forgets that good seconds end; the slow
# one does so on a link that goes to and fro, and one of 8 s takes 11 s to use a step up. Mean
# latencies are level (bench.beliefs, bench.steps).
FAST_HALF_LIFE_S = 2.5
SLOW_HALF_LIFE_S = 30.0
SLOW_SHARE = 0.4
# Half a minute at one frame a second. 16 or 64 are 0.2 to 0.3 % better (bench.beliefs), which is
# nothing; with more, decisions take longer.
MAX_SCENARIOS = 32
# A link that never failed may: one scenario is always an outage, and this is its least weight.
# The drives of Winstein et al. have 9, 3 and 1 % of their seconds, mostly in a row (bench.beliefs).
OUTAGE_RATIO = 0.02
OUTAGE_S_PER_BYTE = 0.01
# Before the first transfer: a cellular uplink on a middling day.
PRIOR_BPS = 1e6
# An answer that has not come by then will not tell anything any more.
GIVE_UP_S = 15.0
# A transfer's say grows with its bytes up to here: what a burst of packets did to a small message
# says little of a large one, but one large one must not outvote many that came after.
TELLING_BYTES = 8_000
# What a round trip wobbles by: a transfer that seems to have taken less says no more than this.
# Broker and threads together take 0.7 ms when nothing else runs (bench.round_trip); a few of them
# on a busy board.
_WOBBLE_S = 0.003
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


@dataclass(frozen=True, slots=True)
class Ended:
    """A transfer that is over."""

    at_s: float
    lasted_s: float                  # the round trip in it
    nbytes: int

    def s_per_byte(self, rtt_s: float) -> float:
        return max(self.lasted_s - rtt_s, _WOBBLE_S) / self.nbytes


# What the ended transfers, the oldest first, say of a byte's cost, given the round trip: pairs
# of cost and weight, the weights summing to 1; nothing of none. `bench.beliefs` compares several.
Memory = Callable[[Sequence[Ended], float], list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class TwoMemories:
    """Every transfer as it was, weighted by a fast memory and a slow one."""

    fast_half_life_s: float = FAST_HALF_LIFE_S
    slow_half_life_s: float = SLOW_HALF_LIFE_S
    slow_share: float = SLOW_SHARE
    telling_bytes: float = TELLING_BYTES

    def __call__(self, ended: Sequence[Ended], rtt_s: float) -> list[tuple[float, float]]:
        weights = [0.0] * len(ended)
        for half_life_s, share in ((self.fast_half_life_s, 1 - self.slow_share),
                                   (self.slow_half_life_s, self.slow_share)):
            # Ages are counted from the newest, so that hours of silence leave no zeros.
            newest_s = ended[-1].at_s if ended else 0.0
            raw = [min(t.nbytes, self.telling_bytes)
                   * 0.5 ** ((newest_s - t.at_s) / half_life_s) for t in ended]
            total = sum(raw)
            weights = [w + share * r / total for w, r in zip(weights, raw)]
        return [(t.s_per_byte(rtt_s), w) for t, w in zip(ended, weights)]


class Transfers:
    """The transfers of one connection, and what they say of the next."""

    def __init__(self, prior_bps: float = PRIOR_BPS, memory: Memory = TwoMemories()):
        self._prior_s_per_byte, self._memory = 8 / prior_bps, memory
        self._ended: deque[Ended] = deque(maxlen=MAX_SCENARIOS)
        self._open: dict[int, _Open] = {}
        self._free_s = -1e9              # since when nothing of ours has occupied the link
        self._loss_ratio = 0.0

    def on_sent(self, key: int, nbytes: int, now_s: float) -> None:
        """A message began to leave."""
        self._open[key] = _Open(now_s, max(nbytes, 1))

    def on_answer(self, key: int, worker_s: float, rtt_s: float, now_s: float) -> None:
        """Its answer is here; the worker had it for ``worker_s``, an empty message would have
        taken ``rtt_s`` there and back."""
        transfer = self._open.pop(key, None)
        if transfer is None:
            return
        lasted_s = now_s - worker_s - max(transfer.sent_s, self._free_s)
        self._free_s = max(self._free_s, now_s - worker_s - rtt_s)
        self._end(transfer, lasted_s, now_s, lost=False)

    def on_turned_away(self, key: int) -> None:
        """The worker refused it: the link carried it, but nobody said how fast."""
        self._open.pop(key, None)

    def on_given_up(self, key: int, now_s: float) -> None:
        """We stopped sending half way: it would have lasted longer."""
        transfer = self._open.pop(key, None)
        if transfer is not None:
            self._end(transfer, now_s - max(transfer.sent_s, self._free_s), now_s, lost=False)

    def on_down(self, now_s: float) -> None:
        """The connection is gone, and with it what was open."""
        for transfer in self._open.values():
            self._end(transfer, now_s - transfer.sent_s, now_s, lost=True)
        self._open.clear()
        self._free_s = -1e9

    def sweep(self, now_s: float) -> None:
        """Give up on what has been open for too long."""
        for key, transfer in list(self._open.items()):
            if now_s - transfer.sent_s > GIVE_UP_S:
                del self._open[key]
                self._end(transfer, now_s - transfer.sent_s, now_s, lost=True)

    def _end(self, transfer: _Open, lasted_s: float, now_s: float, *, lost: bool) -> None:
        self._ended.append(Ended(now_s, lasted_s, transfer.nbytes))
        self._loss_ratio += _NEWEST_LOSS * (lost - self._loss_ratio)

    @property
    def known(self) -> bool:
        """Whether any has ended: before, a rate is only a stated guess."""
        return bool(self._ended)

    def open_bytes(self) -> int:
        """Bytes sent that nobody has answered for."""
        return sum(t.nbytes for t in self._open.values())

    def open_for_s(self, now_s: float) -> float:
        """How long the link has had for them."""
        oldest = self._oldest()
        return 0.0 if oldest is None else max(0.0, now_s - max(oldest.sent_s, self._free_s))

    def _oldest(self) -> _Open | None:
        """What the link is busy with."""
        return min(self._open.values(), key=lambda t: t.sent_s, default=None)

    def scenarios(self, rtt_s: float, now_s: float) -> tuple[Scenario, ...]:
        """What a byte may cost next, the cheapest first; the weights sum to 1."""
        found = self._memory(self._ended, rtt_s) or [(self._prior_s_per_byte, 1.0)]
        # The link is a queue: only what it is busy with says something, not what waits behind.
        oldest = self._oldest()
        if oldest is not None:
            lasted_s = self.open_for_s(now_s) - rtt_s
            if lasted_s > weighted_quantile(found, 0.5) * oldest.nbytes:
                found = [(s, 0.5 * w) for s, w in found]
                found.append((lasted_s / oldest.nbytes, 0.5))
        outage = max(OUTAGE_RATIO, self._loss_ratio)
        found = [(s, (1 - outage) * w) for s, w in found]
        return tuple(Scenario(*pair) for pair in sorted([*found, (OUTAGE_S_PER_BYTE, outage)]))

    def bps(self, rtt_s: float, now_s: float) -> float:
        """The middle scenario as a rate, for people."""
        return 8 / quantile_of(self.scenarios(rtt_s, now_s), 0.5)


def quantile_of(scenarios: Iterable[Scenario], share: float) -> float:
    """What a byte costs at most in ``share`` of the scenarios."""
    return weighted_quantile(((s.s_per_byte, s.weight) for s in scenarios), share)


def weighted_quantile(pairs: Iterable[tuple[float, float]], share: float) -> float:
    """The least of the values that ``share`` of the weight is no greater than."""
    pairs = sorted(pairs)
    wanted, seen = share * sum(w for _, w in pairs), 0.0
    for value, weight in pairs:
        seen += weight
        if seen >= wanted:
            return value
    return pairs[-1][0]
