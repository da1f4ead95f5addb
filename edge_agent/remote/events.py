"""Events: what happened to an agent, in words, for whoever reads the topic. Pure.

At most so many of a kind in a while: a link that flaps or a plan that wavers must not fill a data
plan. Those left out are counted in the next of the kind. While the broker is away the newest wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import msgspec

# All there are, with the fields each carries beside those of every event. docs/mqtt-topics.md has
# the same table, and docs/asyncapi.json is made of this; tests compare them.
TYPES: dict[str, dict[str, Any]] = {
    "started": {"version": str, "bundle": str, "model": str},
    "link-up": {"away_s": float, "reason": str},
    "plan": {"plan_id": int, "cut": int, "rung": str, "worker": str | None, "reason": str},
    "worker": {"worker": str | None, "was": str | None},
    "model": {"bundle": str, "model": str, "was": str},
    "model-fetching": {"bundle": str, "bytes": int, "worker": str},
    "model-verifying": {"bundle": str},
    "model-testing": {"bundle": str},
    "model-confirmed": {"bundle": str, "frames": int},
    "model-refused": {"bundle": str, "reason": str},
    "model-rolled-back": {"bundle": str, "was": str, "reason": str},
    "config": {"changed": list[str]},
    "config-refused": {"reason": str},
    "late": {"high": bool, "late_ratio": float, "frames": int},
    "throttled": {"throttled": bool, "temperature_c": float | None},
    "under-voltage": {"under_voltage": bool},
    "hot": {"hot": bool, "temperature_c": float},
    "mains": {"mains": bool, "battery_ratio": float | None},
    "battery": {"low": bool, "battery_ratio": float},
}
FIELDS = {event: tuple(types) for event, types in TYPES.items()}
COMMON = ("at", "event", "text", "skipped")
# Of one kind. A burst says what is going on; what goes on for longer, one in ten seconds does.
BURST, EVERY_S = 3, 10.0
MAX_WAITING = 32
# Longer words come from outside, such as the reason of a refusal.
MAX_TEXT = 500


@dataclass(slots=True)
class _Kind:
    tokens: float
    since_s: float
    skipped: int = 0


class EventLog:
    """Makes event records, holds back what is too much, keeps what cannot be sent yet."""

    def __init__(self):
        self._kinds: dict[str, _Kind] = {}
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)

    def tell(self, event: str, text: str, data: dict, at: str, now_s: float) -> None:
        """Put an event in line, unless there were too many like it. Raises ValueError for one
        that is not in the table."""
        if event not in FIELDS or set(data) != set(FIELDS[event]):
            raise ValueError(f"event {event} with {sorted(data)} is not as in the table of events")
        kind = self._kinds.setdefault(event, _Kind(BURST, now_s))
        kind.tokens = min(kind.tokens + (now_s - kind.since_s) / EVERY_S, BURST)
        kind.since_s = now_s
        if kind.tokens < 1:
            kind.skipped += 1
            return
        kind.tokens -= 1
        record = {"at": at, "event": event, "text": text[:MAX_TEXT]}
        for name, value in data.items():
            record[name] = value[:MAX_TEXT] if isinstance(value, str) else value
        if kind.skipped:
            record["skipped"], kind.skipped = kind.skipped, 0
        self._waiting.append(msgspec.json.encode(record))

    def take(self) -> bytes | None:
        """The oldest that waits."""
        return self._waiting.popleft() if self._waiting else None

    def put_back(self, record: bytes) -> None:
        """It could not be sent; it is the next again, if there is room."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.appendleft(record)


# Late frames: told when more than the first share is late of the last frames, and over when it is
# less than the second. Fewer frames than these say little.
LATE_HIGH_RATIO, LATE_OVER_RATIO, LATE_FRAMES = 0.10, 0.03, 30


class LateWatch:
    """Tells when a noticeable share of the frames is late, and when that is over."""

    def __init__(self):
        self._late: deque[bool] = deque(maxlen=100)
        self.high = False

    def on_answer(self, late: bool) -> float | None:
        """One more frame; the share that is late when that has become news."""
        self._late.append(late)
        if len(self._late) < LATE_FRAMES:
            return None
        ratio = sum(self._late) / len(self._late)
        if (ratio > LATE_HIGH_RATIO) if not self.high else (ratio < LATE_OVER_RATIO):
            self.high = not self.high
            return ratio
        return None

    @property
    def frames(self) -> int:
        """How many the share is of."""
        return len(self._late)
