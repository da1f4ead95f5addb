"""How much of a model to ask for at once, and how long to wait for it. Pure.

What has been asked for waits at the broker, where results of frames wait behind it. A window is
therefore as large as comes within a moment: it doubles while it does, and is halved when it does
not. A slow link must not be asked again for what is on its way, either.
"""

from __future__ import annotations

from split_core.blobs import RETRY_S, WINDOW_BYTES

# 0.4 s at 20 kB/s, and five round trips away from a whole window on a fast link.
FIRST_BYTES = 8_192
LEAST_BYTES = 4_096
# What a result may wait behind a window, beyond what the quickest window took.
MOMENT_S = 0.25
MAX_PATIENCE_S = 60.0


class Pace:
    """Of one transfer."""

    def __init__(self):
        self.window_bytes = FIRST_BYTES
        self.patience_s = RETRY_S        # without anything, until the same is asked for again
        self._asked_s: float | None = None
        self._heard_s = 0.0
        self._least_s = float("inf")
        self._again = False

    def on_asked(self, now_s: float) -> None:
        """A window has been asked for, or again."""
        self._again = self._asked_s is not None
        if self._again:
            # Lost, or only slow: what is on its way comes, if there is time for it.
            self.patience_s = min(2 * self.patience_s, MAX_PATIENCE_S)
            self.window_bytes = max(self.window_bytes // 2, LEAST_BYTES)
        self._asked_s = self._heard_s = now_s

    def on_part(self, now_s: float) -> None:
        """Some of it has come, the last time before this one so long ago."""
        self.patience_s = min(max(RETRY_S, 4 * (now_s - self._heard_s)), MAX_PATIENCE_S)
        self._heard_s = now_s

    def on_window(self, now_s: float) -> None:
        """All of it has come."""
        took_s, self._asked_s = now_s - self._asked_s, None
        if self._again:
            return                       # nobody knows of which of the two requests
        self._least_s = min(self._least_s, took_s)
        if took_s <= self._least_s + MOMENT_S:
            self.window_bytes = min(2 * self.window_bytes, WINDOW_BYTES)
        else:
            self.window_bytes = max(self.window_bytes // 2, LEAST_BYTES)

    def is_due(self, now_s: float) -> bool:
        """Whether to ask: for the next, or again."""
        return self._asked_s is None or now_s - self._heard_s >= self.patience_s
