"""Belief about each worker: how long a frame waits there, and how long it is worked on.

From three sources, the nearer the better: the stage times that come back with every answer, the
load that a worker publishes, and its profile for cuts it never ran for us. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# About the last five answers count.
_NEWEST = 0.2
# An answer's queueing says little after this long; the published load then says more.
_QUEUE_LIFE_S = 3.0
_MOST_WORKERS = 256


@dataclass(slots=True)
class _Known:
    profile_s: tuple[float, ...] | None = None   # decode and tail, by first segment
    by_cut_s: dict[int, float] = field(default_factory=dict)
    ratio: float = 1.0                           # what it takes over what its profile says
    queue_s: float = 0.0
    queue_at_s: float = -1e9
    load_queue_s: float = 0.0
    broker_rtt_s: float = 0.0


class WorkerBeliefs:
    """What is known of every worker, by its id."""

    def __init__(self):
        self._known: dict[str, _Known] = {}

    def on_profile(self, worker: str, service_s: tuple[float, ...]) -> None:
        """Its published profile: decoding and the tail, by first segment."""
        self._of(worker).profile_s = service_s

    def on_load(self, worker: str, queue_s: float, broker_rtt_s: float) -> None:
        """Its published load."""
        known = self._of(worker)
        known.load_queue_s, known.broker_rtt_s = queue_s, broker_rtt_s

    def on_answer(self, worker: str, segment: int, queue_s: float, service_s: float,
                  now_s: float) -> None:
        """An answer came from its ``segment`` on."""
        known = self._of(worker)
        before = known.by_cut_s.get(segment, service_s)
        known.by_cut_s[segment] = before + _NEWEST * (service_s - before)
        if known.profile_s is not None and known.profile_s[segment] > 0:
            known.ratio += _NEWEST * (service_s / known.profile_s[segment] - known.ratio)
        # A queue that grows is believed at once.
        recent = now_s - known.queue_at_s < _QUEUE_LIFE_S
        weight = 1.0 if not recent or queue_s > known.queue_s else _NEWEST
        known.queue_s += weight * (queue_s - known.queue_s)
        known.queue_at_s = now_s

    def keep(self, workers: tuple[str, ...]) -> None:
        """Forget the longest known of those that are not there, when there are too many: ids
        come from the broker."""
        while len(self._known) > _MOST_WORKERS:
            gone = next((w for w in self._known if w not in workers), None)
            if gone is None:
                return
            del self._known[gone]

    def queue_s(self, worker: str, now_s: float) -> float:
        known = self._of(worker)
        recent = now_s - known.queue_at_s < _QUEUE_LIFE_S
        return known.queue_s if recent else known.load_queue_s

    def broker_rtt_s(self, worker: str) -> float:
        """Its own way to the broker and back, as it measured it."""
        return self._of(worker).broker_rtt_s

    def service_s(self, worker: str, guess_s: tuple[float, ...]) -> tuple[float, ...]:
        """By first segment: seen where it was, else its profile at the pace seen lately, else
        ``guess_s``."""
        known = self._of(worker)
        told = guess_s if known.profile_s is None else [
            known.ratio * s for s in known.profile_s]
        return tuple(known.by_cut_s.get(i, s) for i, s in enumerate(told))

    def _of(self, worker: str) -> _Known:
        return self._known.setdefault(worker, _Known())
