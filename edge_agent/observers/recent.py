"""What the last frames were like: for the status line, health records and metrics."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median

from edge_agent.frames import ANSWERED, Answer, Outcome
from edge_agent.observers.base import Observer

WINDOW_S = 60.0
# Of faster sources the newest of the window count; 50 frames a second fill it.
_MOST = 3000


@dataclass(frozen=True, slots=True)
class RecentSummary:
    """Frames of the window. Latencies are of answered frames, capture to answer."""

    window_s: float
    outcomes: dict[str, int]         # all five, by name
    late: int
    fps: float                       # answered frames a second
    p50_ms: float | None
    p95_ms: float | None
    stages_ms: dict[str, float]      # medians, of the frames that went through them
    payload_bytes: float | None      # mean of those that sent something


class Recent(Observer):
    """The frames that ended in the last ``window_s``. Thread-safe."""

    def __init__(self, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic):
        self.window_s, self._clock, self._started_s = window_s, clock, clock()
        self._lock = threading.Lock()
        self._ended: deque[tuple[float, Answer]] = deque(maxlen=_MOST)

    def on_answer(self, answer: Answer) -> None:
        # Without the tensors: a minute of them is a lot of memory.
        slim = Answer(answer.frame_id, answer.outcome, "", "", answer.captured_s,
                      answer.total_ms, answer.late, answer.cut, answer.rung, answer.plan_id,
                      answer.payload_bytes, answer.worker, answer.stages_ms)
        with self._lock:
            self._ended.append((self._clock(), slim))

    def summary(self, window_s: float | None = None) -> RecentSummary:
        """Of the whole window, or of its last ``window_s``."""
        now_s, window_s = self._clock(), window_s or self.window_s
        with self._lock:
            while self._ended and now_s - self._ended[0][0] > self.window_s:
                self._ended.popleft()
            full_s = self._ended[0][0] if len(self._ended) == _MOST else self._started_s
            answers = [a for at_s, a in self._ended if now_s - at_s <= window_s]
        seconds = max(min(window_s, now_s - full_s), 1e-3)
        counts = Counter(a.outcome for a in answers)
        answered = [a for a in answers if a.outcome in ANSWERED]
        totals = sorted(a.total_ms for a in answered)
        stages: dict[str, list[float]] = {}
        for answer in answered:
            for stage, ms in answer.stages_ms.items():
                stages.setdefault(stage, []).append(ms)
        sent = [a.payload_bytes for a in answers if a.payload_bytes]
        return RecentSummary(
            seconds, {o.value: counts[o] for o in Outcome}, sum(a.late for a in answered),
            len(answered) / seconds,
            median(totals) if totals else None,
            totals[max(0, -(-95 * len(totals) // 100) - 1)] if totals else None,
            {stage: round(median(ms), 3) for stage, ms in stages.items()},
            fmean(sent) if sent else None)
