"""A worker's own pulse: frames a second now and over the last hour, and what they took. Pure:
time is an argument."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

# Long enough to hold some frames of a slow camera, short enough to follow what happens.
RATE_WINDOW_S = 10.0
LATENCY_WINDOW_S = 60.0
_MOST_LATENCIES = 1000
STEP_S = 10.0


@dataclass(slots=True)
class _Bin:
    at_s: float
    answered: int = 0
    refused: int = 0


class Vitals:
    """What one worker has answered lately. The caller holds the lock."""

    def __init__(self, started_s: float, history_s: float = 3600.0):
        self._started_s = started_s
        self._seconds: deque[tuple[int, list[int]]] = deque(maxlen=int(RATE_WINDOW_S) + 1)
        self._service: deque[tuple[float, float]] = deque(maxlen=_MOST_LATENCIES)
        self._bins: deque[_Bin] = deque(maxlen=max(1, int(history_s / STEP_S)))
        self.answered = 0
        self.refused: Counter[str] = Counter()

    def on_answered(self, service_s: float, now_s: float) -> None:
        """A frame was answered, after so long here."""
        self.answered += 1
        self._service.append((now_s, service_s))
        second = int(now_s)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, [0]))
        self._seconds[-1][1][0] += 1
        self._bin(now_s).answered += 1

    def on_refused(self, reason: str, now_s: float) -> None:
        self.refused[reason] += 1
        self._bin(now_s).refused += 1

    def fps(self, now_s: float) -> float:
        """Frames answered in a second, over the last ten whole ones."""
        last = int(now_s)
        count = sum(n[0] for second, n in self._seconds
                    if last - RATE_WINDOW_S <= second < last)
        return count / min(RATE_WINDOW_S, max(1.0, now_s - self._started_s))

    def service_ms(self, ratio: float, now_s: float) -> float | None:
        """A quantile of the time that frames of the last minute spent here; the newest thousand
        count."""
        recent = [took for at_s, took in self._service if now_s - at_s <= LATENCY_WINDOW_S]
        return 1e3 * _rank(sorted(recent), ratio) if recent else None

    def history(self, now_s: float) -> dict:
        """Frames answered and refused in each step, oldest first; steps without any are there."""
        found = {b.at_s: b for b in self._bins}
        end = _begin_of(now_s)
        count = min(self._bins.maxlen, 1 + int((end - _begin_of(self._started_s)) / STEP_S))
        steps = [end - STEP_S * i for i in range(count)][::-1]
        empty = _Bin(0.0)
        return {"step_s": STEP_S,
                "answered": [found.get(at_s, empty).answered for at_s in steps],
                "refused": [found.get(at_s, empty).refused for at_s in steps]}

    def _bin(self, now_s: float) -> _Bin:
        at_s = _begin_of(now_s)
        if not self._bins or self._bins[-1].at_s != at_s:
            self._bins.append(_Bin(at_s))
        return self._bins[-1]


def _rank(ordered: list[float], ratio: float) -> float:
    """The smallest that at least this share does not exceed."""
    return ordered[max(0, math.ceil(ratio * len(ordered)) - 1)]


def _begin_of(at_s: float) -> float:
    return at_s // STEP_S * STEP_S
