"""Listens on a broker and remembers, so that a test can wait for what it expects to see."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from split_core.session import BrokerOptions, Publication, Session

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Seen:
    """One publication as it arrived."""

    topic: str
    payload: bytes
    retain: bool
    seen_s: float

    @property
    def record(self) -> dict:
        """The JSON document it carries; empty for a cleared topic."""
        return json.loads(self.payload) if self.payload else {}


class Observer:
    """A client of its own, directly on the broker."""

    def __init__(self, url: str, *filters: str):
        self._changed = threading.Condition()
        self._up = threading.Event()
        self.seen: list[Seen] = []
        self._session = Session(
            BrokerOptions.from_url(url), client_id=f"observer-{os.getpid()}-{next(_numbers)}",
            on_up=lambda limits: self._up.set(), on_down=lambda reason: None,
            on_message=self._on_message)
        for topic_filter in filters:
            self._session.subscribe(topic_filter, 1)

    def start(self, timeout_s: float = 15.0) -> Observer:
        """Connect, and be subscribed."""
        self._session.start()
        if not self._up.wait(timeout_s):
            raise AssertionError(f"no connection to the broker: {self._session.trouble}")
        return self

    def stop(self) -> None:
        self._session.stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, **properties) -> None:
        self._session.publish(Publication(topic, payload, retain=retain, **properties))

    def _on_message(self, topic: str, payload: bytes, received) -> None:
        with self._changed:
            self.seen.append(Seen(topic, payload, received.retain, time.monotonic()))
            self._changed.notify_all()

    def forget(self) -> None:
        """Let go of what has been seen, in a run that is judged by its memory."""
        with self._changed:
            self.seen.clear()

    def on(self, topic: str) -> list[Seen]:
        """What has arrived on one topic."""
        return [s for s in list(self.seen) if s.topic == topic]

    def wait(self, condition: Callable[[Seen], bool], timeout_s: float, what: str, *,
             after_s: float = 0.0) -> Seen:
        """The first publication since ``after_s`` for which ``condition`` holds."""
        def first() -> Seen | None:
            return next((s for s in self.seen if s.seen_s >= after_s and condition(s)), None)

        with self._changed:
            if not self._changed.wait_for(lambda: first() is not None, timeout_s):
                raise AssertionError(f"{what}: not within {timeout_s} s; seen last:"
                                     f" {self.seen[-3:]}")
            return first()
