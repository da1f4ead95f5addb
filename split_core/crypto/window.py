"""Which counters of a sender were taken already. Pure.

A window holds the highest counter seen and the 64 before it; what is older counts as taken.
One connection keeps the order of messages, so an honest sender never comes near its edge.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

WINDOW = 64
# Senders' sessions remembered, about 400 bytes each. One is a process of a node that holds a
# key, so strangers cannot fill this; a session is forgotten once so many others were heard
# after it.
MAX_SESSIONS = 16_384

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class ReplayWindow:
    """The counters of one session."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest = -1
        self._seen = 0                # bit k: the counter k below the highest was taken

    def is_fresh(self, counter: int) -> bool:
        """Whether this counter was not taken yet, as far as is remembered."""
        behind = self._highest - counter
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def take(self, counter: int) -> bool:
        """Take a counter whose message has been proven; False if it was taken before."""
        if not self.is_fresh(counter):
            return False
        ahead = counter - self._highest
        if ahead > 0:
            # A jump beyond the window leaves nothing of it.
            self._seen = (self._seen << ahead if ahead < WINDOW else 0) & ((1 << WINDOW) - 1)
            self._highest = counter
            self._seen |= 1
        else:
            self._seen |= 1 << -ahead
        return True


class Sessions(Generic[K, T]):
    """Something for each session, at most ``limit`` of them: the longest unheard goes first."""

    def __init__(self, limit: int = MAX_SESSIONS):
        self._limit = limit
        self._held: OrderedDict[K, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, session: K) -> T | None:
        return self._held.get(session)

    def keep(self, session: K, value: T) -> None:
        """Hold it as the one heard last."""
        self._held[session] = value
        self._held.move_to_end(session)
        if len(self._held) > self._limit:
            self._held.popitem(last=False)
