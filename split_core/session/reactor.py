"""One thread's loop: a selector, a wake-up, functions to call soon and functions to call later.

It knows nothing of MQTT. Functions are run bare: what may raise is wrapped by who schedules it,
and what still raises ends the loop, which is for its owner to notice.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

# An upper bound on one wait; nothing depends on it.
LONGEST_WAIT_S = 3600.0

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Timer:
    """A function that will be called at a time; see Reactor.call_at."""

    __slots__ = ("fn", "when_s")

    def __init__(self, when_s: float, fn: Callable[[], None]) -> None:
        self.when_s = when_s
        self.fn: Callable[[], None] | None = fn

    def cancel(self) -> None:
        """Never call it. Harmless afterwards, and from any thread."""
        self.fn = None


class Reactor:
    """Runs in the thread that calls run(); call_soon, call_at and stop are thread safe."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._waker = _Waker()
        self._selector.register(self._waker, READ, None)
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._thread_id: int | None = None
        self._running = True

    @property
    def inside(self) -> bool:
        """Whether the caller is on the loop's own thread."""
        return threading.get_ident() == self._thread_id

    def call_soon(self, fn: Callable[[], None]) -> None:
        """Call fn on the loop's thread, in order. After the loop has ended: never."""
        if not self._running:
            return
        self._soon.append(fn)
        if threading.get_ident() != self._thread_id:
            self._waker.wake()

    def call_at(self, when_s: float, fn: Callable[[], None]) -> Timer:
        """Call fn at a time of time.monotonic()."""
        timer = Timer(when_s, fn)
        if self.inside:
            self._push(timer)
        else:
            self.call_soon(lambda: self._push(timer))
        return timer

    def watch(self, fileobj: Any, mask: int, fn: Callable[[int], None]) -> None:
        """Call fn(ready mask) whenever the file is ready. On the loop's thread only."""
        self._selector.register(fileobj, mask, fn)

    def rewatch(self, fileobj: Any, mask: int, fn: Callable[[int], None]) -> None:
        """Change the mask."""
        self._selector.modify(fileobj, mask, fn)

    def unwatch(self, fileobj: Any) -> None:
        """Forget the file; it may be closed already."""
        try:
            self._selector.unregister(fileobj)
        except (KeyError, ValueError):
            pass  # closing an fd takes it out of epoll, and the selector then cannot find it

    def stop(self) -> None:
        """Leave run() at the end of this turn."""
        self.call_soon(self._leave)

    def run(self) -> None:
        """Loop until stop(). Always leaves the selector and the waker closed."""
        self._thread_id = threading.get_ident()
        try:
            while self._running:
                self._turn()
        finally:
            self.close()

    def close(self) -> None:
        """Free the descriptors of a reactor that does not run (any more)."""
        self._running = False
        self._soon.clear()
        self._waker.close()
        self._selector.close()

    def _leave(self) -> None:
        self._running = False

    def _push(self, timer: Timer) -> None:
        heapq.heappush(self._timers, (timer.when_s, next(self._order), timer))

    def _turn(self) -> None:
        for key, mask in self._selector.select(self._wait_s()):
            if key.data is None:
                self._waker.clear()
            else:
                key.data(mask)
        # Only what is there now: a function that calls itself soon must not starve the sockets.
        for _ in range(len(self._soon)):
            self._soon.popleft()()
        if self._timers:
            now_s = time.monotonic()
            while self._timers and self._timers[0][0] <= now_s:
                timer = heapq.heappop(self._timers)[2]
                fn, timer.fn = timer.fn, None
                if fn is not None:
                    fn()

    def _wait_s(self) -> float:
        if self._soon:
            return 0.0
        while self._timers and self._timers[0][2].fn is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return LONGEST_WAIT_S
        return min(max(0.0, self._timers[0][0] - time.monotonic()), LONGEST_WAIT_S)


class _Waker:
    """Makes a sleeping selector return; any number of wakes before that cost one write."""

    def __init__(self) -> None:
        # The lock keeps wake() from writing into a descriptor that close() has given back.
        self._lock = threading.Lock()
        self._awake = False
        self._closed = False
        self._pair: tuple[socket.socket, socket.socket] | None = None
        if hasattr(os, "eventfd"):
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)
            self._fd = self._pair[0].fileno()

    def fileno(self) -> int:
        return self._fd

    def wake(self) -> None:
        with self._lock:
            if self._awake or self._closed:
                return
            self._awake = True
            if self._pair is None:
                os.eventfd_write(self._fd, 1)
            else:
                self._pair[1].send(b"\0")

    def clear(self) -> None:
        # In this order. A wake() between the two is skipped, and may be: what it announces is
        # already in the queue that the loop empties next. The other way round its write would
        # be eaten while the flag stays up, and every later wake() would be skipped too.
        if self._pair is None:
            os.eventfd_read(self._fd)
        else:
            self._pair[0].recv(16)
        self._awake = False

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._pair is None:
                os.close(self._fd)
            else:
                for end in self._pair:
                    end.close()
