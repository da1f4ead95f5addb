"""Whether the next frame may be sent now, should wait, or is better finished here.

Three beliefs decide: a window on frames in flight that narrows when answers come later than
they could (delay is the earliest sign of a queue somewhere), what the first hop still holds,
and whether the link is suspect. Pure: time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MAX_WINDOW = 8
# While the link is suspect one frame at this interval is sent all the same, to learn when it
# is not. It is covered by its fallback, and recovery is noticed within two of these.
PROBE_S = 0.25
# Answers are expected within smoothed round trip + 4 deviations (RFC 6298), twice that for
# the odd slow one; below this floor a thread that was not scheduled would look like an outage.
MIN_EXPECTED_S = 0.05


class Verdict(Enum):
    SEND = "send"
    WAIT = "wait"
    LOCAL = "local"
    DROP = "drop"                    # past its deadline; not the gate's to say


@dataclass(frozen=True, slots=True)
class Ruling:
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known as a frame is about to start."""

    link_up: bool
    worker_ready: bool
    bundle_there: bool
    in_flight: int
    oldest_sent_s: float | None
    backlog_bytes: int               # not acknowledged by the broker's machine
    path_s: float                    # least round trip of the first hop; 0 if unknown
    head_s: float                    # predicted time until the frame would be handed over
    latest_local_s: float            # then finishing here is better than waiting any longer
    stateful: bool                   # the next frame needs this one's answer


class Gate:
    """The beliefs, and the ruling that follows from them."""

    def __init__(self, first_expected_s: float):
        self._first_expected_s = first_expected_s
        self.reset()

    def reset(self) -> None:
        """A new plan or connection: nothing is known of it yet."""
        self.window = 2.0
        self._srtt_s: float | None = None
        self._rttvar_s = 0.0
        self._base_s = float("inf")
        self._rate_Bps: float | None = None
        self._suspect = False
        self._probed_s = -PROBE_S
        self._busy_until_s = 0.0

    def on_switch(self, expected_s: float) -> None:
        """Another plan: its answers take their own time; the window and doubts stay."""
        self._first_expected_s = max(2 * expected_s, MIN_EXPECTED_S)
        self._srtt_s, self._rttvar_s, self._base_s = None, 0.0, float("inf")

    def expected_s(self) -> float:
        """An answer that takes longer is a sign of trouble."""
        if self._srtt_s is None:
            return self._first_expected_s
        return max(2 * (self._srtt_s + 4 * self._rttvar_s), MIN_EXPECTED_S)

    def on_answer(self, round_trip_s: float, nbytes: int) -> None:
        """A result came ``round_trip_s`` after its message began to leave."""
        self._suspect = False
        if self._srtt_s is None:
            self._srtt_s, self._rttvar_s = round_trip_s, round_trip_s / 2
        else:
            self._rttvar_s += 0.25 * (abs(self._srtt_s - round_trip_s) - self._rttvar_s)
            self._srtt_s += 0.125 * (round_trip_s - self._srtt_s)
        # A lower bound of the link's rate: it counts the round trip as sending.
        rate = nbytes / max(round_trip_s, 1e-4)
        self._rate_Bps = rate if self._rate_Bps is None else (
            self._rate_Bps + 0.25 * (rate - self._rate_Bps))
        # The base creeps up so that one lucky answer is not the measure for ever.
        self._base_s = min(self._base_s * 1.01, round_trip_s)
        if round_trip_s < 1.5 * self._base_s + 0.002:
            self.window = min(MAX_WINDOW, self.window + 1 / self.window)
        elif round_trip_s > 2 * self._base_s + 0.002:
            self.window = max(1.0, 0.7 * self.window)

    def on_late_answer(self) -> None:
        """An answer to a frame that had ended: late, but the way is open."""
        self._suspect = False

    def on_loss(self) -> None:
        """A frame had to be finished here because no answer came."""
        self._suspect = True
        self.window = max(1.0, self.window / 2)

    def on_shed(self, retry_after_s: float, now_s: float) -> None:
        """The worker is crowded: leave it alone for a while."""
        self.window = max(1.0, 0.7 * self.window)
        self._busy_until_s = now_s + min(max(retry_after_s, PROBE_S), 5.0)

    def rule(self, s: Situation, now_s: float) -> Ruling:
        """What to do with the frame that waits."""
        if not s.link_up:
            return Ruling(Verdict.LOCAL, "link down")
        if not s.worker_ready:
            return Ruling(Verdict.LOCAL, "no worker")
        if not s.bundle_there:
            return Ruling(Verdict.LOCAL, "worker lacks the bundle")
        if now_s < self._busy_until_s:
            return Ruling(Verdict.LOCAL, "worker busy")
        if s.oldest_sent_s is not None and now_s - s.oldest_sent_s > self.expected_s():
            self._suspect = True
        if self._suspect:
            if now_s - self._probed_s < PROBE_S or s.in_flight >= MAX_WINDOW or (
                    s.stateful and s.in_flight):
                return Ruling(Verdict.LOCAL, "link suspect")
            self._probed_s = now_s
            return Ruling(Verdict.SEND, "probe")
        waits = self._waits_for(s)
        if waits is None:
            return Ruling(Verdict.SEND, "")
        # Before the first answer nobody knows what waiting is good for.
        if now_s >= s.latest_local_s or (self._srtt_s is None and not s.stateful):
            return Ruling(Verdict.LOCAL, waits)
        return Ruling(Verdict.WAIT, waits)

    def _waits_for(self, s: Situation) -> str | None:
        if s.stateful and s.in_flight:
            return "state of the last frame not back"
        if s.in_flight >= int(self.window):
            return "window full"
        # Bytes that have been on the way for less than a round trip are not waiting, and the
        # next frame's will not be there before its head has run.
        moving_bytes = (self._rate_Bps or 0.0) * (s.head_s + s.path_s)
        if s.backlog_bytes > moving_bytes + 2048:
            return "link busy"
        return None
