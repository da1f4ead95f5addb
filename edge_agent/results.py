"""Results on their way to whoever reads them, kept for a while when the broker is away.

A result stays here until the broker has acknowledged it; after an outage those still here
are published again, marked with their age. Bounded in number and bytes: the oldest goes.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from split_core.errors import LinkDown, SplitError
from split_core.session import Publication, Session


@dataclass(slots=True)
class _Waiting:
    topic: str
    record: dict
    made_s: float
    nbytes: int


class Spool:
    """What is not acknowledged yet, oldest first. Pure; the caller holds the lock."""

    def __init__(self, max_results: int, max_bytes: int):
        self.max_results, self.max_bytes = max_results, max_bytes
        self.lost = 0
        self._held: OrderedDict[int, _Waiting] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, key: int, waiting: _Waiting) -> None:
        self._held[key] = waiting
        self._nbytes += waiting.nbytes
        while len(self._held) > self.max_results or (
                self._nbytes > self.max_bytes and len(self._held) > 1):
            self.remove(next(iter(self._held)))
            self.lost += 1

    def remove(self, key: int) -> None:
        waiting = self._held.pop(key, None)
        if waiting is not None:
            self._nbytes -= waiting.nbytes

    def items(self) -> list[tuple[int, _Waiting]]:
        return list(self._held.items())


class ResultPublisher:
    """Publishes result records with QoS 1; thread-safe."""

    def __init__(self, session: Session, *, max_results: int, max_bytes: int,
                 clock: Callable[[], float] = time.monotonic):
        self._session, self._clock = session, clock
        self._spool = Spool(max_results, max_bytes)
        self._lock = threading.Lock()
        self._keys = itertools.count()

    @property
    def lost(self) -> int:
        """Results given up because too many waited."""
        return self._spool.lost

    @property
    def waiting(self) -> int:
        return len(self._spool)

    def publish(self, topic: str, record: dict) -> None:
        """Send a record now, or once there is a broker again."""
        payload = msgspec.json.encode(record)
        key = next(self._keys)
        with self._lock:
            self._spool.add(key, _Waiting(topic, record, self._clock(), len(payload)))
        self._send(key, topic, payload)

    def on_up(self) -> None:
        """A connection: send again what was never acknowledged, with its age."""
        with self._lock:
            waiting = self._spool.items()
        for key, held in waiting:
            age_ms = round(1e3 * (self._clock() - held.made_s), 1)
            self._send(key, held.topic, msgspec.json.encode(held.record | {"age_ms": age_ms}))

    def _send(self, key: int, topic: str, payload: bytes) -> None:
        def done(ok: bool) -> None:
            if ok:
                with self._lock:
                    self._spool.remove(key)

        try:
            self._session.publish(Publication(topic, payload, qos=1), done)
        except LinkDown:
            pass                         # kept; on_up sends it
        except SplitError:
            with self._lock:             # larger than the broker takes: never will go
                self._spool.remove(key)
                self._spool.lost += 1
