"""How sure a classification is of its best class.

A worker compares this with the margin that came with a base layer; who chooses that margin
measures by the same function. Pure.
"""

from __future__ import annotations

import numpy as np

# Integer models round each of a thousand probabilities: those that vanish make the sum fall
# short by any amount, those that are rounded up hardly exceed it.
_LARGEST_SUM = 1.1
_LARGEST = 1.001


def certainty(scores: np.ndarray) -> float:
    """The best probability less the second best, 0 to 1, of real ``scores``; of their softmax
    where they are none. NaN where a score is not finite."""
    p = scores.astype(np.float64).ravel()
    if p.size < 2:
        return 1.0
    if not np.isfinite(p).all():
        return float("nan")
    if p.min() < 0 or p.max() > _LARGEST or p.sum() > _LARGEST_SUM:
        p = np.exp(p - p.max())
        p /= p.sum()
    second, best = np.partition(p, -2)[-2:]
    return min(float(best - second), 1.0)
