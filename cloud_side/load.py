"""How busy the worker is, and when that is worth saying. Pure: time is an argument.

Samples of the last seconds go in; a record comes out when it differs from the last one by more
than samples do by chance, and from time to time. It is a hint for devices that sent nothing
here lately; to the others every answer says how long it waited.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from split_core.wire.records import WorkerLoad

# How often a sample is due. No multiple of it is a common frame interval's: what a camera sends
# in step would be seen at the same moment of every frame, always waiting or never.
SAMPLE_S = 0.31
# 13 samples. Shorter, and one burst is the mean; longer, and a crowd is told of too late.
WINDOW_S = 4.0
# A fleet reads what is said here, some of it over metered links: 150 bytes with all headers are
# 6 MB a day and device every 2 s, and 0.4 MB every 30 s.
LEAST_INTERVAL_S, MOST_INTERVAL_S = 2.0, 30.0
# Waits vary about as much as their mean, so the mean of 13 has an error of 28 %; half as much
# again is then no chance. Below 5 ms no plan changes: the network varies by more.
_CHANGE, _CHANGE_FLOOR_S = 0.5, 0.005
# Waits grow as b / (1 - b) of the busy ratio b: at half load, this makes them half as long again.
_BUSY_CHANGE = 0.1


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    queue_s: float
    busy_s: float                    # since the start


class LoadReport:
    """The last seconds of one worker, and what was last said of them."""

    def __init__(self):
        self._samples: deque[_Sample] = deque()
        self._said: WorkerLoad | None = None
        self._said_s = 0.0

    def add(self, queue_s: float, busy_s: float, now_s: float) -> None:
        """How long a frame would wait now, and the time spent on jobs since the start."""
        self._samples.append(_Sample(now_s, queue_s, busy_s))
        while now_s - self._samples[0].at_s > WINDOW_S:
            self._samples.popleft()

    def due(self, broker_rtt_s: float, now_s: float) -> WorkerLoad | None:
        """The record, if it is to be published now."""
        if not self._samples:
            return None
        load, age_s = self._load(broker_rtt_s), now_s - self._said_s
        if self._said is not None and (
                age_s < LEAST_INTERVAL_S
                or age_s < MOST_INTERVAL_S and not _differs(load, self._said)):
            return None
        self._said, self._said_s = load, now_s
        return load

    def renew(self) -> None:
        """Another connection: what was said may not have arrived."""
        self._said = None

    @property
    def busy_ratio(self) -> float:
        """Of the window."""
        if not self._samples:
            return 0.0
        first, last = self._samples[0], self._samples[-1]
        span_s = last.at_s - first.at_s
        return min(1.0, (last.busy_s - first.busy_s) / span_s) if span_s > 0 else 0.0

    def _load(self, broker_rtt_s: float) -> WorkerLoad:
        queue_s = sum(s.queue_s for s in self._samples) / len(self._samples)
        # A tenth of a millisecond says enough, in a short record.
        return WorkerLoad(round(queue_s, 4), round(self.busy_ratio, 2), round(broker_rtt_s, 4))


def _differs(new: WorkerLoad, old: WorkerLoad) -> bool:
    return (_changed(new.queue_s, old.queue_s) or _changed(new.broker_rtt_s, old.broker_rtt_s)
            or abs(new.busy_ratio - old.busy_ratio) > _BUSY_CHANGE)


def _changed(new_s: float, old_s: float) -> bool:
    """Up or down alike: from 10 ms to 15 as from 15 to 10."""
    return abs(new_s - old_s) > max(_CHANGE_FLOOR_S, _CHANGE * min(new_s, old_s))
