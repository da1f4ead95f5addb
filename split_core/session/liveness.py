"""Is the link alive? Judged by what arrives and by what the peer's kernel takes. Pure.

paho's own check counts a PINGREQ as lost when it waits behind a large message: 1 MB at 50 kB/s
with a keepalive of 5 s was disconnected every 10 s, sent again from its first byte, and never
delivered. Here a ping that still waits behind bytes that move is only slow; a ping the peer's
kernel has taken must be answered soon, however many other bytes its buffers still swallow.
"""

from __future__ import annotations

SILENCE_KEEPALIVES = 1.5
# After the next kernel has acknowledged the ping itself, the broker has this long to answer; or
# as long as the ping took to get there, because that kernel may be a relay with a queue of its
# own: behind one, 64 kB at 16 kB/s were answered 1.5 s after the acknowledgement.
ANSWER_KEEPALIVES = 0.5
# How often to look while a ping is open: the error of the moments above.
CHECKS_PER_KEEPALIVE = 8


class Liveness:
    """One connection's pulse. Positions are byte counts of the stream to the broker."""

    def __init__(self, keepalive_s: float, now_s: float) -> None:
        self._keepalive_s = keepalive_s
        self._heard_s = now_s
        self._pinged_s = now_s
        self._moved_s = now_s
        self._acked = 0
        self._ping_open = False
        self._ping_end: int | None = None
        self._answer_from_s: float | None = None
        self._doubted_s: float | None = None
        self._patience_s = 0.0

    def on_heard(self, now_s: float) -> None:
        """Bytes arrived."""
        self._heard_s = now_s
        self._ping_open = False
        self._doubted_s = None

    def on_doubt(self, patience_s: float, now_s: float) -> None:
        """Whoever waits for answers on this link suspects it: from now on it is dead after
        `patience_s` in which nothing arrives and the peer's kernel takes nothing."""
        if self._doubted_s is None:
            self._doubted_s = now_s
            self._patience_s = patience_s

    @property
    def ping_open(self) -> bool:
        """Whether a ping is unanswered."""
        return self._ping_open

    def on_ping(self, now_s: float) -> None:
        """A PINGREQ was queued."""
        self._pinged_s = now_s
        self._ping_open = True
        self._ping_end = None
        self._answer_from_s = None

    def on_progress(self, acked: int, handed: int, queued: bool, now_s: float) -> None:
        """A look at the stream: `acked` by the peer's kernel, `handed` to ours, more `queued`."""
        if acked > self._acked:
            self._acked = acked
            self._moved_s = now_s
        if not self._ping_open:
            return
        if self._ping_end is None and not queued:
            self._ping_end = handed
        if self._ping_end is not None and acked >= self._ping_end and self._answer_from_s is None:
            self._answer_from_s = now_s

    def ping_due(self, now_s: float) -> bool:
        """Whether to send a PINGREQ now; not while one is unanswered."""
        return not self._ping_open and now_s - self._pinged_s >= self._keepalive_s

    def dead(self, now_s: float) -> bool:
        """Whether the peer must be considered gone."""
        return now_s >= self._dead_s()

    def next_check_s(self, now_s: float) -> float:
        """When to look again."""
        step_s = self._keepalive_s / CHECKS_PER_KEEPALIVE
        due_s = self._pinged_s + self._keepalive_s
        if self._ping_open:
            due_s = min(self._dead_s(), now_s + step_s)
        if self._doubted_s is not None:
            due_s = min(due_s, self._dead_s(), now_s + self._patience_s / CHECKS_PER_KEEPALIVE)
        return max(due_s, now_s + 0.01)

    def _dead_s(self) -> float:
        if self._doubted_s is not None:
            doubt_s = max(self._doubted_s, self._moved_s) + self._patience_s
            return min(doubt_s, self._undoubted_dead_s())
        return self._undoubted_dead_s()

    def _undoubted_dead_s(self) -> float:
        silence_s = SILENCE_KEEPALIVES * self._keepalive_s
        dead_s = self._heard_s + silence_s
        if not self._ping_open:
            return dead_s
        if self._answer_from_s is not None:
            took_s = self._answer_from_s - self._pinged_s
            answer_s = max(ANSWER_KEEPALIVES * self._keepalive_s, took_s)
            return max(dead_s, self._answer_from_s + answer_s)
        return max(dead_s, self._moved_s + silence_s)
