"""Belief about the round trip of an empty message: the least seen lately. Pure.

Every message takes the path's own time and then what its bytes and the queues add, so the least
of a while is the path's own (as BBR takes it). Devices and workers each measure their own way to
the broker, on what it acknowledged; the smallest thing that was sent says most.
"""

from __future__ import annotations

# A path that got longer (another cell, another route) is believed after one to two of these, one
# that got shorter at once.
WINDOW_S = 30.0
# Before the first: a cellular link.
PRIOR_S = 0.06


class LeastRoundTrip:
    """The least of two neighbouring windows, so that it never forgets all at once."""

    def __init__(self, prior_s: float = PRIOR_S):
        self._prior_s = prior_s
        self._this_s = self._last_s = float("inf")
        self._since_s: float | None = None

    def add(self, seconds: float, now_s: float) -> None:
        """Something went to the broker or the worker and back in ``seconds``."""
        if self._since_s is None or now_s - self._since_s > WINDOW_S:
            self._last_s, self._this_s = self._this_s, float("inf")
            self._since_s = now_s
        self._this_s = min(self._this_s, max(seconds, 0.0))

    def reset(self) -> None:
        """Another connection, perhaps another path."""
        self._this_s = self._last_s = float("inf")
        self._since_s = None

    @property
    def known(self) -> bool:
        return min(self._this_s, self._last_s) < float("inf")

    @property
    def least_s(self) -> float:
        """The belief; before the first measurement a stated guess."""
        least_s = min(self._this_s, self._last_s)
        return least_s if least_s < float("inf") else self._prior_s
