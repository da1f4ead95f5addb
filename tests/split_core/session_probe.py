"""A session whose callbacks are recorded, so that a test can wait for what it expects."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

from split_core.session import BrokerLimits, BrokerOptions, Received, Session

TIMEOUT_S = 10.0
_numbers = itertools.count()


class Probe:
    """Records ups, downs and messages of one session."""

    def __init__(self, options: BrokerOptions, on_message: Callable | None = None, **more) -> None:
        self.ups: queue.Queue[BrokerLimits] = queue.Queue()
        self.downs: queue.Queue[str] = queue.Queue()
        self.messages: queue.Queue[tuple[str, bytes, Received]] = queue.Queue()
        self.fatal: list[BaseException] = []
        more.setdefault("client_id", f"test-{next(_numbers)}")
        self.session = Session(
            options,
            on_up=self.ups.put,
            on_down=self.downs.put,
            on_message=on_message or (lambda *message: self.messages.put(message)),
            on_fatal=self.fatal.append,
            **more,
        )

    def up(self, timeout_s: float = TIMEOUT_S) -> BrokerLimits:
        """The next connect."""
        return self.ups.get(timeout=timeout_s)

    def down(self, timeout_s: float = TIMEOUT_S) -> str:
        """The next reason to be down."""
        return self.downs.get(timeout=timeout_s)

    def message(self, timeout_s: float = TIMEOUT_S) -> tuple[str, bytes, Received]:
        """The next message."""
        return self.messages.get(timeout=timeout_s)

    def settle(self) -> None:
        """Wait until the network thread has done all that was asked of it before."""
        done = threading.Event()
        self.session.call_soon(done.set)
        assert done.wait(TIMEOUT_S)


@contextmanager
def probing(options: BrokerOptions, *filters: str, wait: bool = True, **more):
    """A started probe, subscribed and connected; stopped at the end."""
    probe = Probe(options, **more)
    for topic_filter in filters:
        probe.session.subscribe(topic_filter, 1)
    probe.session.start()
    try:
        if wait:
            probe.up()
        yield probe
    finally:
        probe.session.stop()
        assert not probe.session.is_alive
        assert probe.fatal == []


def wait_for(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> bool:
    """Poll for what announces itself to nobody, such as a counter."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        threading.Event().wait(0.005)
    return True
