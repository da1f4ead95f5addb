"""Progress on standard error, for what takes longer than two seconds."""

from __future__ import annotations

import sys
import time


class Progress:
    """A bar on standard error, from two seconds on; lines where that is no terminal."""

    def __init__(self, what: str):
        self._what, self._terminal = what, sys.stderr.isatty()
        self._begin_s = time.monotonic()
        self._next_s, self._shown = self._begin_s + 2.0, False

    def __call__(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s and not (self._shown and done == total):
            return
        self._shown, self._next_s = True, now_s + (0.1 if self._terminal else 10.0)
        bar = ("#" * (24 * done // total)).ljust(24, ".")
        text = f"{self._what:<12} [{bar}] {done}/{total}"
        if 0 < done < total:
            left_s = (now_s - self._begin_s) * (total - done) / done
            text += f", {left_s / 60:.0f} min left" if left_s > 90 else f", {left_s:.0f} s left"
        if self._terminal:
            text = "\r\033[K" + (text if done < total else "")
        print(text, end="" if self._terminal else "\n", file=sys.stderr, flush=True)
