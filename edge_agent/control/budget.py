"""What was sent today, for a daily budget. Pure: the wall clock is an argument."""

from __future__ import annotations

DAY_S = 86_400.0
_FAR_DAYS = 400
# The first of January 2026. A clock that says less has not been set since power came.
_SET_S = 1_767_225_600.0


class DailyBytes:
    """Counts bytes by local day; a new day begins at nothing."""

    def __init__(self, per_day: float, day: int = 0, used: int = 0):
        """``day`` and ``used``: as a process before this one left them."""
        self.per_day, self.day, self.used = per_day, day, used

    def add(self, nbytes: int, wall_s: float) -> None:
        """``wall_s``: seconds since some local midnight."""
        self._turn(wall_s)
        self.used += nbytes

    def left(self, wall_s: float) -> tuple[float, float]:
        """Bytes that may still be sent today, and seconds until tomorrow."""
        self._turn(wall_s)
        return self.per_day - self.used, DAY_S - wall_s % DAY_S

    def _turn(self, wall_s: float) -> None:
        day = int(wall_s // DAY_S)
        # A board without a clock of its own starts on an old day, and is put right later: that
        # gives no budget back. A day far ahead is a clock that was wrong once.
        if day > self.day or self.day - day > _FAR_DAYS and wall_s >= _SET_S:
            self.day, self.used = day, 0


def seconds_until(minutes: int, wall_s: float) -> float:
    """Until the next time that it is so many minutes after local midnight."""
    return (60.0 * minutes - wall_s) % DAY_S
