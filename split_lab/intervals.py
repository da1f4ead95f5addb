"""Bootstrap intervals of 95 %: whole photographs are drawn, because the views of one are not
independent; two results on the same frames are compared draw by draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from split_lab.evaluate import Evaluation

_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its bootstrap interval of 95 %."""

    value: float
    low: float
    high: float


def mean_interval(values: np.ndarray, groups: np.ndarray) -> Interval | None:
    """Of the mean over frames, NaN left out; None where nothing else is there."""
    if not np.isfinite(values).any():
        return None
    return _interval(_mean(values, groups, w) for w in _weights(groups))


def p95_interval(values: np.ndarray, groups: np.ndarray) -> Interval:
    """Of the smallest value that 95 % of the frames do not exceed."""
    order = np.argsort(values, kind="stable")
    reached = (np.cumsum(w[:, groups[order]], axis=1) for w in _weights(groups))
    return _interval(values[order][(r < 0.95 * r[:, -1:]).sum(1)] for r in reached)


def paired_ratio(a: Evaluation, b: Evaluation, figure: str = "bytes") -> Interval:
    """Of the mean of ``figure`` in ``a`` over that in ``b``, on the same frames."""
    groups = _same_groups([a, b])
    return _interval(_mean(getattr(a, figure), groups, w) / _mean(getattr(b, figure), groups, w)
                     for w in _weights(groups))


def bytes_at(points: Sequence[Evaluation], divergence: float) -> Interval:
    """Mean bytes at a mean divergence, between measured points (straight in logarithms).
    Raises ValueError unless they enclose it."""
    groups = _same_groups(points)
    return _interval(_bytes_at(points, divergence, w) for w in _weights(groups))


def ratio_at(a: Sequence[Evaluation], b: Sequence[Evaluation], divergence: float) -> Interval:
    """Mean bytes of ``a`` over those of ``b`` where both have the same mean divergence."""
    groups = _same_groups([*a, *b])
    return _interval(_bytes_at(a, divergence, w) / _bytes_at(b, divergence, w)
                     for w in _weights(groups))


def _weights(groups: np.ndarray):
    """How often each input is drawn [draws, inputs]: once each, then by chance."""
    inputs = int(groups.max()) + 1
    yield np.ones((1, inputs))
    # The same for everyone: comparisons are paired.
    yield np.random.default_rng(0).multinomial(inputs, np.full(inputs, 1 / inputs), _RESAMPLES)


def _interval(draws) -> Interval:
    (value,), resampled = draws
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    return Interval(float(value), float(low), float(high))


def _mean(values: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means [draws]; NaN of a draw without a known value."""
    known, inputs = np.isfinite(values), weights.shape[1]
    sums = np.bincount(groups[known], values[known], inputs)
    counts = weights @ np.bincount(groups[known], minlength=inputs)
    return np.divide(weights @ sums, counts, out=np.full(len(weights), np.nan), where=counts > 0)


def _bytes_at(points: Sequence[Evaluation], divergence: float, weights: np.ndarray) -> np.ndarray:
    groups = points[0].frames.groups
    rows = sorted(((_mean(p.divergence, groups, weights), _mean(p.bytes, groups, weights))
                   for p in points), key=lambda row: row[0].mean())
    kl, size = (np.log(np.maximum(np.array(a), 1e-12)) for a in zip(*rows))
    resampled = len(weights) > 1
    if not (resampled or kl[0, 0] <= np.log(divergence) <= kl[-1, 0]):
        raise ValueError(f"divergence {divergence} is not between the measured"
                         f" {np.exp(kl[0, 0]):.4g} and {np.exp(kl[-1, 0]):.4g}")
    # By chance close neighbours may change places, and the ends may come inside.
    kl = np.maximum.accumulate(kl, axis=0)
    return np.exp([np.interp(np.log(divergence), k, s) for k, s in zip(kl.T, size.T)])


def _same_groups(evaluations: Sequence[Evaluation]) -> np.ndarray:
    kinds = {(*f.files, f.crops, f.seed, len(f)) for f in (e.frames for e in evaluations)}
    if len(kinds) > 1:
        raise ValueError("a paired comparison needs the same files, crops, views and seed")
    return evaluations[0].frames.groups
