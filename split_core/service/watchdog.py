"""Feeds systemd's watchdog only while every thread that matters moves.

Each watched thread counts its turns. Every third of the watchdog's time all are woken, for an
idle one turns only when it is woken, and the watchdog is fed if every count has moved since it
was fed last. So a thread may take nearly the whole time for one turn, and a process of which
one part hangs is killed although the others work.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from split_core.service.notify import Notifier

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watch:
    """A thread that is watched: ``turns()`` moves whenever it goes round, ``poke()`` wakes an
    idle one so that it does. A poke may block, where the thread hangs with a lock it needs."""

    name: str
    poke: Callable[[], None]
    turns: Callable[[], int]


def watch_calls(name: str, call_soon: Callable[[Callable[[], None]], None]) -> Watch:
    """The thread that runs what ``call_soon`` is given."""
    count = 0

    def turn() -> None:
        nonlocal count
        count += 1

    return Watch(name, lambda: call_soon(turn), lambda: count)


def watchdog_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """How long systemd waits for this process to be fed; None where it does not."""
    try:
        pid = int(environment.get("WATCHDOG_PID", os.getpid()))
        usec = int(environment.get("WATCHDOG_USEC", 0))
    except ValueError:
        _log.warning("event=watchdog-off note=$WATCHDOG_USEC or $WATCHDOG_PID is no number")
        return None
    return 1e-6 * usec if usec > 0 and pid == os.getpid() else None


class _Seen:
    """What is known of a watched thread: its count when the watchdog was last fed."""

    def __init__(self, watch: Watch, now_s: float):
        self.watch, self.moved_s, self.still = watch, now_s, False
        self.turns = self.fed_at = watch.turns()
        self._poker: threading.Thread | None = None

    def look(self, now_s: float) -> None:
        turns = self.watch.turns()
        if turns != self.turns:
            self.turns, self.moved_s = turns, now_s

    def poke(self) -> None:
        # In a thread of its own, once at a time: a poke that waits for a lock the hung thread
        # holds must neither keep the others from being poked, nor us from saying who hangs.
        if self._poker is None or not self._poker.is_alive():
            self._poker = threading.Thread(target=self.watch.poke, daemon=True,
                                           name=f"poke {self.watch.name}")
            self._poker.start()


class Watchdog:
    """Call `tick` every third of ``timeout_s``, or `start` a thread that does."""

    def __init__(self, watches: Sequence[Watch], notifier: Notifier, timeout_s: float,
                 now_s: float | None = None):
        self.timeout_s, self.period_s = timeout_s, timeout_s / 3
        self._notifier = notifier
        now_s = time.monotonic() if now_s is None else now_s
        self._seen = [_Seen(watch, now_s) for watch in watches]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    @property
    def standing_still(self) -> list[str]:
        """Those that have not moved since the watchdog was last fed, as of the last tick."""
        return [seen.watch.name for seen in self._seen if seen.still]

    def tick(self, now_s: float) -> bool:
        """Feed if all have moved, say who has not, and wake them for the next time."""
        for seen in self._seen:
            seen.look(now_s)
        still = [seen for seen in self._seen if seen.turns == seen.fed_at]
        for seen in still:
            seen.still = True
            quiet_s = now_s - seen.moved_s
            # One long turn may make a thread miss one feeding, but hardly two.
            level = logging.ERROR if quiet_s > 1.5 * self.period_s else logging.WARNING
            _log.log(
                level, "event=standing-still thread=%r for_s=%.0f turns=%d note=the watchdog is"
                " not fed; systemd ends this process %.0f s after it was fed last, and starts it"
                " anew", seen.watch.name, quiet_s, seen.turns, self.timeout_s)
        if not still:
            for seen in self._seen:
                if seen.still:
                    _log.warning("event=moving-again thread=%r", seen.watch.name)
                seen.still, seen.fed_at = False, seen.turns
            self._notifier.feed_watchdog()
        for seen in self._seen:
            seen.poke()
        return not still

    def _run(self) -> None:
        for seen in self._seen:
            seen.poke()                      # so that the first tick can feed
        while not self._stop.wait(self.period_s):
            self.tick(time.monotonic())
