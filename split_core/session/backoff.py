"""When to try again, and with which protocol. Pure: time and chance are arguments."""

from __future__ import annotations

from collections.abc import Callable

# The first retry after a lost connection; most are a broker that restarts at once.
FIRST_CEILING_S = 0.2
# While the broker has been away for less than a minute, a retry comes within a second of its
# return. A refused connection on a LAN costs three packets; a fleet of a thousand devices makes
# two thousand of them a second, which one broker takes.
NEAR_CEILING_S = 1.0
NEAR_S = 60.0
# After that the waits double up to this.
FAR_CEILING_S = 30.0
# What only an operator can mend (wrong password, wrong certificate) is asked rarely: many
# brokers ban addresses that keep failing.
REFUSED_CEILING_S = 30.0
# A connection that dies sooner than this was no recovery: two clients with one client id throw
# each other out as fast as they may reconnect. On a link that breaks every few seconds longer
# connections do carry frames: with 5 s here, recoveries of 12 and 14 s were seen.
STABLE_S = 1.0


class Backoff:
    """Full-jitter exponential back-off: each wait is uniform between 0 and a rising ceiling."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._ceiling_s = FIRST_CEILING_S
        self._away_since_s: float | None = None
        self._up_since_s: float | None = None

    def on_up(self, now_s: float) -> None:
        """The broker let us in."""
        self._up_since_s = now_s

    def on_down(self, now_s: float) -> None:
        """A connection ended, or an attempt failed."""
        stable = self._up_since_s is not None and now_s - self._up_since_s >= STABLE_S
        self._up_since_s = None
        if stable or self._away_since_s is None:
            self._away_since_s = now_s
            self._ceiling_s = FIRST_CEILING_S

    def next_delay_s(self, now_s: float, *, refused: bool = False) -> float:
        """How long to wait before the next attempt."""
        if refused:
            return REFUSED_CEILING_S * (0.5 + 0.5 * self._chance())
        away_s = 0.0 if self._away_since_s is None else now_s - self._away_since_s
        limit_s = NEAR_CEILING_S if away_s < NEAR_S else FAR_CEILING_S
        ceiling_s = min(self._ceiling_s, limit_s)
        self._ceiling_s = min(2.0 * ceiling_s, limit_s)
        return ceiling_s * self._chance()


class ProtocolChoice:
    """MQTT 5 first, 3.1.1 where the broker refuses it; what worked is kept.

    Not every old broker answers a CONNECT that it does not know. Some hang up; so does a broker
    that is starting, so it takes two of those. amqtt (0.12) takes the MQTT 5 properties for the
    length of a client id and waits for the rest of it for ever. Then the other protocol gets a
    try, and is kept only if it is accepted.
    """

    def __init__(self, wanted: str) -> None:
        self.current = "5" if wanted == "auto" else wanted
        self.settled = wanted != "auto"
        self._hang_ups = 0

    def on_accepted(self) -> None:
        """CONNACK with success."""
        self.settled = True

    def on_version_refused(self) -> bool:
        """CONNACK with 'unsupported protocol version'; true when the other is worth a try."""
        return self._try_other()

    def on_no_answer(self) -> bool:
        """No CONNACK in time; true when the other is worth a try."""
        return self._try_other()

    def on_hang_up(self) -> None:
        """The broker closed the connection before any CONNACK."""
        self._hang_ups += 1
        if self._hang_ups % 2 == 0 or self.current == "3.1.1":
            self._try_other()

    def _try_other(self) -> bool:
        if self.settled:
            return False
        self.current = "3.1.1" if self.current == "5" else "5"
        self._hang_ups = 0
        return self.current == "3.1.1"
