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

# Results handed to the session and not acknowledged yet. It takes 20 QoS 1 messages at once
# and refuses what exceeds a hundred more; the rest of a long outage waits here for its turn.
MAX_UNDER_WAY = 16


@dataclass(slots=True)
class Waiting:
    """One result, as JSON."""

    topic: str
    payload: bytes
    made_s: float
    tried: bool = False              # handed to the session on this connection
    aged: bool = False               # has outlived a connection, or waited for one


class Spool:
    """What is not acknowledged yet, oldest first. Pure; the caller holds the lock."""

    def __init__(self, max_results: int, max_bytes: int):
        self.max_results, self.max_bytes = max_results, max_bytes
        self.lost = 0
        self._held: OrderedDict[int, Waiting] = OrderedDict()
        self._under_way: set[int] = set()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, key: int, waiting: Waiting) -> None:
        """Keep a result; the oldest go when there are too many. The newest always stays."""
        self._held[key] = waiting
        self._nbytes += len(waiting.payload)
        while len(self._held) > 1 and (
                len(self._held) > self.max_results or self._nbytes > self.max_bytes):
            self.give_up(next(iter(self._held)))

    def take(self) -> tuple[int, Waiting] | None:
        """The oldest that was not tried on this connection; None while enough are under way."""
        if len(self._under_way) >= MAX_UNDER_WAY:
            return None
        for key, waiting in self._held.items():
            if not waiting.tried:
                waiting.tried = True
                self._under_way.add(key)
                return key, waiting
        return None

    def settle(self, key: int, acknowledged: bool) -> None:
        """How it went. What was not acknowledged is tried again on the next connection."""
        self._under_way.discard(key)
        if acknowledged:
            self._remove(key)

    def put_back(self, key: int) -> None:
        """It could not be handed over; it is the next again."""
        self._under_way.discard(key)
        if key in self._held:
            self._held[key].tried = False

    def give_up(self, key: int) -> None:
        """It will never be published."""
        self._remove(key)
        self.lost += 1

    def renew(self) -> None:
        """A new connection: all that is here is old, and tried again."""
        self._under_way.clear()
        for waiting in self._held.values():
            waiting.tried, waiting.aged = False, True

    def _remove(self, key: int) -> None:
        self._under_way.discard(key)
        waiting = self._held.pop(key, None)
        if waiting is not None:
            self._nbytes -= len(waiting.payload)


class ResultPublisher:
    """Publishes result records with QoS 1, in the order in which they were made.

    `publish` from any thread; all sending is done on the network thread.
    """

    def __init__(self, session: Session, *, max_results: int, max_bytes: int,
                 on_acknowledged: Callable[[float], None] = lambda round_trip_s: None,
                 clock: Callable[[], float] = time.monotonic):
        """``on_acknowledged(round_trip_s)``: on the network thread, for each result taken."""
        self._session, self._clock = session, clock
        self._on_acknowledged = on_acknowledged
        self._spool = Spool(max_results, max_bytes)
        self._lock = threading.Lock()
        self._keys = itertools.count()

    @property
    def lost(self) -> int:
        """Results given up: too many waited, or larger than the broker takes."""
        return self._spool.lost

    @property
    def waiting(self) -> int:
        return len(self._spool)

    def limit(self, max_results: int, max_bytes: int) -> None:
        """How much may wait from now on."""
        with self._lock:
            self._spool.max_results, self._spool.max_bytes = max_results, max_bytes

    def publish(self, topic: str, record: dict) -> None:
        """Send a record now, or once there is a broker again."""
        payload = msgspec.json.encode(record)
        with self._lock:
            self._spool.add(next(self._keys), Waiting(topic, payload, self._clock()))
        self._session.call_soon(self._send_more)

    def on_up(self) -> None:
        """A connection: send again what was never acknowledged, with its age."""
        with self._lock:
            self._spool.renew()
        self._send_more()

    def _send_more(self) -> None:
        more = self._session.is_up
        while more:
            with self._lock:
                taken = self._spool.take()
            more = taken is not None and self._send(*taken)

    def _send(self, key: int, waiting: Waiting) -> bool:
        """Hand one over; False when the session takes no more now."""
        sent_s = self._clock()

        def done(ok: bool) -> None:
            with self._lock:
                self._spool.settle(key, ok)
            if ok:
                self._on_acknowledged(self._clock() - sent_s)
            self._send_more()

        payload = waiting.payload
        if waiting.aged:
            age_ms = round(1e3 * (sent_s - waiting.made_s), 1)
            record = msgspec.json.decode(payload) | {"age_ms": age_ms}
            payload = msgspec.json.encode(record)
        try:
            self._session.publish(Publication(waiting.topic, payload, qos=1), done)
        except LinkDown:
            with self._lock:
                self._spool.put_back(key)
            return False
        except SplitError:               # larger than the broker takes: never will go
            with self._lock:
                self._spool.give_up(key)
        return True
