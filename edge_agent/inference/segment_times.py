"""How long each segment takes on this device, learned from the runs it makes. Pure.

A board that throttles slows down as a whole: the factor is learned on the segments that run and
applied to those that do not, so that the belief about a cut not in use stays true.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

# About the last ten runs count; a throttled board is believed within a few frames.
_NEWEST = 0.1
# Mean and three mean deviations: for the run times of one segment on a loaded two-core
# machine about 98 of 100 stay below, which is what a deadline needs.
_DEVIATIONS = 3.0
# A segment's run moves the common factor by its share of the model, up to this.
_SLOW_SHARE = 0.3
# Runs between two readings of the sensors: more are forgotten, not taken for healthy.
_UNJUDGED_RUNS = 5000
# Outside these a factor is a mistake of measuring, not a clock speed.
_LEAST_SLOW, _MOST_SLOW = 0.2, 20.0


@dataclass(slots=True)
class _Belief:
    mean_s: float
    deviation_s: float
    slow: float                      # the common factor when it last ran


class SegmentTimes:
    """What every segment takes: in the mean, and with the care that a deadline needs.

    Without a lock: the inference thread alone adds, the control thread alone judges, and whoever
    reads meanwhile gets single numbers, each from before a run or from after it.
    """

    def __init__(self, segments: int, baseline_s: Sequence[float] | None = None):
        """``baseline_s``: a profile's medians; without them the first runs are the baseline."""
        self._baseline_s: list[float | None] = list(baseline_s or [None] * segments)
        self._beliefs: list[_Belief | None] = [
            None if s is None else _Belief(s, 0.0, 1.0) for s in self._baseline_s]
        self.slow_down = 1.0             # 2: everything takes twice as long as in the profile
        self._runs: deque[tuple[int, float]] = deque(maxlen=_UNJUDGED_RUNS)
        self._kept: SegmentTimes | None = None

    def add(self, segment: int, seconds: float) -> None:
        """One run of one segment."""
        self._runs.append((segment, seconds))
        belief = self._beliefs[segment]
        if belief is None:
            self._beliefs[segment] = _Belief(seconds, 0.0, self.slow_down)
            self._baseline_s[segment] = seconds / self.slow_down
            return
        self._learn_slow_down(segment, seconds)
        error = seconds - belief.mean_s
        # Slower is believed at once, faster over many: a deadline forgives only one of them.
        weight = 0.5 if error > 3 * belief.deviation_s and error > 0 else _NEWEST
        belief.mean_s += weight * error
        belief.deviation_s += _NEWEST * (abs(error) - belief.deviation_s)
        belief.slow = self.slow_down

    def _learn_slow_down(self, segment: int, seconds: float) -> None:
        baseline_s, whole_s = self._baseline_s[segment], sum(filter(None, self._baseline_s))
        if not baseline_s:
            return
        ratio = min(max(seconds / baseline_s, _LEAST_SLOW), _MOST_SLOW)
        share = min(_SLOW_SHARE, baseline_s / whole_s)
        self.slow_down += share * (ratio - self.slow_down)

    def mean_s(self, segment: int) -> float:
        """What it takes; 0 before it first ran."""
        belief = self._beliefs[segment]
        return 0.0 if belief is None else belief.mean_s * self._since(belief)

    def whole_s(self) -> float:
        """What the whole model takes."""
        return sum(self.mean_s(i) for i in range(len(self._beliefs)))

    def one_s(self, segment: int) -> float:
        """A careful estimate for one segment; 0 before it first ran."""
        belief = self._beliefs[segment]
        if belief is None:
            return 0.0
        return (belief.mean_s + _DEVIATIONS * belief.deviation_s) * self._since(belief)

    def _since(self, belief: _Belief) -> float:
        """How much slower the board has become since a segment ran."""
        return self.slow_down / belief.slow

    def span_s(self, first: int, end: int) -> float:
        """A careful estimate for segments ``first`` up to, not including, ``end``."""
        return sum(self.one_s(i) for i in range(first, end))

    def longest_s(self) -> float:
        """The longest that the interpreter cannot be interrupted for."""
        return max((self.one_s(i) for i in range(len(self._beliefs))), default=0.0)

    def judge(self, *, throttled: bool) -> None:
        """Whether the board held itself back in the runs since the last call. Beliefs are of the
        board as it is; for the next start only the other runs are kept."""
        if self._kept is None:
            self._kept = SegmentTimes(len(self), self._baseline_s)
        runs = [self._runs.popleft() for _ in range(len(self._runs))]
        if not throttled:
            for segment, seconds in runs:
                self._kept.add(segment, seconds)

    def kept_s(self, segment: int) -> float:
        """What a segment takes in the mean while the board does not throttle; where nobody told
        whether it does, what it takes."""
        return (self if self._kept is None else self._kept).mean_s(segment)

    def __len__(self) -> int:
        return len(self._beliefs)
