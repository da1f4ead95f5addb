"""How long each segment takes on this device, learned from the runs it makes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# About the last ten runs count; a throttled board is believed within a few frames.
_NEWEST = 0.1
# Mean and three mean deviations: for the run times of one segment on a loaded two-core
# machine about 98 of 100 stay below, which is what a deadline needs.
_DEVIATIONS = 3.0


@dataclass(slots=True)
class _Belief:
    mean_s: float
    deviation_s: float


class SegmentTimes:
    """A careful estimate of every segment's run time."""

    def __init__(self, segments: int):
        self._beliefs: list[_Belief | None] = [None] * segments

    def add(self, segment: int, seconds: float) -> None:
        """One run of one segment."""
        belief = self._beliefs[segment]
        if belief is None:
            self._beliefs[segment] = _Belief(seconds, 0.0)
            return
        error = seconds - belief.mean_s
        # Slower is believed at once, faster over many: a deadline forgives only one of them.
        weight = 0.5 if error > 3 * belief.deviation_s and error > 0 else _NEWEST
        belief.mean_s += weight * error
        belief.deviation_s += _NEWEST * (abs(error) - belief.deviation_s)

    def one_s(self, segment: int) -> float:
        """A careful estimate for one segment; 0 before it first ran."""
        belief = self._beliefs[segment]
        return 0.0 if belief is None else belief.mean_s + _DEVIATIONS * belief.deviation_s

    def span_s(self, first: int, end: int) -> float:
        """A careful estimate for segments ``first`` up to, not including, ``end``."""
        return sum(self.one_s(i) for i in range(first, end))

    def longest_s(self) -> float:
        """The longest that the interpreter cannot be interrupted for."""
        return max((self.one_s(i) for i in range(len(self._beliefs))), default=0.0)
