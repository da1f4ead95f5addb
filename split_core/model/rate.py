"""The predicted curve of bytes against divergence at one cut, and the step it asks for.

Measured by `edge-agent calibrate`, stored in the manifest, used on the device for every
frame: between two points both divergence and bytes are taken as powers of the step, which
they nearly are (research: codec tables' closed form, D^2/24 * sum of sensitivities). Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import exp, log

from split_core.model.manifest import RatePoint


class RateCurve:
    """Points in order of their step index; divergence rises along it, bytes fall."""

    def __init__(self, points: Sequence[RatePoint]):
        self.points = tuple(points)
        self._indices = [p.index for p in points]
        self._kl = [log(p.kl) for p in points]
        self._bytes = [log(p.bytes) for p in points]

    def index_for_kl(self, kl: float) -> int:
        """The largest step index whose predicted divergence is at most ``kl``; the finest
        there is where even that has more (the noise floor of an integer model)."""
        return int(_interpolate(self._kl, self._indices, log(kl)) // 1)

    def index_for_bytes(self, nbytes: float) -> int:
        """The smallest step index whose predicted mean size is at most ``nbytes``."""
        falling = [-b for b in self._bytes]
        return -int(-_interpolate(falling, self._indices, -log(nbytes)) // 1)

    def kl(self, index: int) -> float:
        """Predicted divergence at a step index, nats."""
        return exp(_interpolate(self._indices, self._kl, index))

    def bytes(self, index: int) -> float:
        """Predicted mean payload at a step index."""
        return exp(_interpolate(self._indices, self._bytes, index))


def _interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Piecewise linear through rising ``xs``; the ends' values outside."""
    i = bisect_left(xs, x)
    if i == 0:
        return ys[0]
    if i == len(xs):
        return ys[-1]
    share = (x - xs[i - 1]) / (xs[i] - xs[i - 1])
    return ys[i - 1] + share * (ys[i] - ys[i - 1])
