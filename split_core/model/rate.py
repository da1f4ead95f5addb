"""Predicted curves of bytes against divergence: of one cut over the step, of the input as a
picture over its quality; and the step or quality that a divergence asks for.

Measured by `edge-agent calibrate`, stored in the manifest, used on the device for every
frame: between two points both divergence and bytes are taken as powers of the step, which
they nearly are (research: codec tables' closed form, D^2/24 * sum of sensitivities). Of a
picture's quality they are taken as exponentials: of MobileNetV2, 5 points predict those
between them to 22 % of divergence and 7 % of bytes. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import ceil, exp, floor, log

from split_core.model.manifest import PictureRate, RatePoint


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


class PictureCurve:
    """Points of one format in order of quality; divergence falls along it, bytes rise."""

    def __init__(self, points: Sequence[PictureRate]):
        self.points = tuple(points)
        self._qualities = [p.quality for p in points]
        self._kl = [log(p.kl) for p in points]
        self._bytes = [log(p.bytes) for p in points]

    def quality_for_kl(self, kl: float) -> int | None:
        """The smallest quality whose predicted divergence is at most ``kl``, of those between
        the first point and the last; None where even the last has more."""
        if log(kl) < self._kl[-1]:
            return None
        return ceil(_interpolate([-k for k in self._kl], self._qualities, -log(kl)))

    def quality_for_bytes(self, nbytes: float) -> int:
        """The largest quality whose predicted mean payload is at most ``nbytes``, of those
        between the first point and the last; the first where even that has more."""
        return floor(_interpolate(self._bytes, self._qualities, log(nbytes)))

    def kl(self, quality: int) -> float:
        """Predicted divergence at a quality, nats; beyond the points that of the nearest."""
        return exp(_interpolate(self._qualities, self._kl, quality))

    def bytes(self, quality: int) -> float:
        """Predicted mean payload at a quality."""
        return exp(_interpolate(self._qualities, self._bytes, quality))


def picture_curves(rates: Iterable[PictureRate]) -> dict[str, PictureCurve]:
    """A curve for each format that has points."""
    by_format: dict[str, list[PictureRate]] = {}
    for rate in rates:
        by_format.setdefault(rate.format, []).append(rate)
    return {name: PictureCurve(points) for name, points in by_format.items()}


def _interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Piecewise linear through rising ``xs``; the ends' values outside."""
    i = bisect_left(xs, x)
    if i == 0:
        return ys[0]
    if i == len(xs):
        return ys[-1]
    share = (x - xs[i - 1]) / (xs[i] - xs[i - 1])
    return ys[i - 1] + share * (ys[i] - ys[i - 1])
