"""How many frames come in a second. Pure."""

from __future__ import annotations

from collections import deque

# Long enough for a frame every few seconds, short enough to notice a source that changed.
_FRAMES = 20
_WINDOW_S = 60.0


class Pace:
    """The rate of the last frames."""

    def __init__(self):
        self._at_s: deque[float] = deque(maxlen=_FRAMES)

    def add(self, now_s: float) -> None:
        """A frame came."""
        self._at_s.append(now_s)

    def next_in_s(self, now_s: float) -> float:
        """When the next frame may come, at the rate of the last; 0 when that is due."""
        rate = self.rate(now_s)
        if len(self._at_s) < 2 or rate <= 0:
            return 0.0
        return max(0.0, self._at_s[-1] + 1 / rate - now_s)

    def rate(self, now_s: float) -> float:
        """Frames a second; 0 when none came lately."""
        while self._at_s and now_s - self._at_s[0] > _WINDOW_S:
            self._at_s.popleft()
        if len(self._at_s) < 2:
            return len(self._at_s) / _WINDOW_S
        # A source that stopped slows down in here, too.
        span_s = max(self._at_s[-1] - self._at_s[0],
                     (now_s - self._at_s[0]) * (len(self._at_s) - 1) / len(self._at_s))
        return (len(self._at_s) - 1) / max(span_s, 1e-3)
