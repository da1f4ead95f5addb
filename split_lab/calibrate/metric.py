"""How far a change of a boundary tensor moves the answer: the metric in which the codec works.

For small changes d the divergence is d^T F d / 2 with F the Fisher information of the output
distribution (or the output's own squared error). What the transform needs of F are its sums
over all but one axis: a matrix over channels, one over rows, one over columns. Two ways to
get them, behind one face: gradients of sampled outcomes, and finite differences through the
real runtime, which work for any model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from split_lab.judge import log_softmax


class Metric(Protocol):
    """The metric of one tensor, seen as [H, W, C] (blocks folded by `layout.fold`)."""

    def channels(self) -> np.ndarray:
        """Mean over pixels of F between channels, [C, C]."""

    def rows(self, channel_inverse: np.ndarray) -> np.ndarray:
        """The same between rows of a block, [rows, rows], of coefficients y of channels with
        x = channel_inverse @ y."""

    def columns(self, channel_inverse: np.ndarray) -> np.ndarray:
        """The same between columns of a block."""


class GradientMetric:
    """From gradients [n, blocks_h, rows, blocks_w, columns, C] of sampled outcomes'
    log-likelihood: F is the mean of their outer products."""

    def __init__(self, gradients: np.ndarray):
        self._gradients = gradients
        self._turned: tuple[int, np.ndarray] | None = None

    def channels(self) -> np.ndarray:
        g = self._gradients.reshape(-1, self._gradients.shape[-1]).astype(np.float32)
        return _symmetric(g.T @ g) / len(g)

    def rows(self, channel_inverse: np.ndarray) -> np.ndarray:
        return second_moment(self._in(channel_inverse), axis=2)

    def columns(self, channel_inverse: np.ndarray) -> np.ndarray:
        return second_moment(self._in(channel_inverse), axis=4)

    def _in(self, channel_inverse: np.ndarray) -> np.ndarray:
        """Gradients by y: channel_inverse^T g."""
        if self._turned is None or self._turned[0] != id(channel_inverse):
            turned = self._gradients @ channel_inverse.astype(np.float32)
            self._turned = id(channel_inverse), turned
        return self._turned[1]


class ProbeMetric:
    """From finite differences: how the heads move when the tensor moves along one direction.

    A direction is one combination of all channels (or rows, or columns) times one pattern of
    random signs over everything else, the same for all, so that the expected inner product of
    two responses is F between the two combinations, summed over the rest. Combinations and
    not one channel at a time, because an integer tail answers every change with the same
    noise, however small it is: this way each moves all of the tensor.
    ``respond(frame, [m, ...] changes)`` runs the tail: the heads' change for each, scaled so
    that its squared length is the divergence's quadratic form.
    """

    def __init__(self, shape: tuple[int, ...], frames: int,
                 respond: Callable[[int, np.ndarray], np.ndarray], rng: np.random.Generator):
        self._shape, self._frames, self._respond, self._rng = shape, frames, respond, rng

    def channels(self) -> np.ndarray:
        return self._probe(5, None) / np.prod(self._shape[:-1])

    def rows(self, channel_inverse: np.ndarray) -> np.ndarray:
        return self._probe(1, channel_inverse) / (np.prod(self._shape) / self._shape[1])

    def columns(self, channel_inverse: np.ndarray) -> np.ndarray:
        return self._probe(3, channel_inverse) / (np.prod(self._shape) / self._shape[3])

    def _probe(self, axis: int, channel_inverse: np.ndarray | None) -> np.ndarray:
        axis = min(axis, len(self._shape) - 1)
        size = self._shape[axis]
        total = np.zeros((size, size))
        along = [1] * len(self._shape)
        along[axis] = size
        pattern = tuple(1 if i == axis else n for i, n in enumerate(self._shape))
        for frame in range(self._frames):
            mixes, _ = np.linalg.qr(self._rng.standard_normal((size, size)))
            signs = self._rng.choice((-1.0, 1.0), size=pattern).astype(np.float32)
            changes = signs * mixes.reshape(size, *along).astype(np.float32)
            if channel_inverse is not None:
                changes = changes @ channel_inverse.T.astype(np.float32)
            responses = mixes.T @ self._respond(frame, changes)
            total += responses @ responses.T
        return _symmetric(total / self._frames)


def second_moment(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over everything else of the outer product along ``axis``: [k, k]."""
    flat = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    return _symmetric((flat @ flat.T).astype(np.float64) / flat.shape[1])


def fisher_root(logits: np.ndarray) -> np.ndarray:
    """Weights w [classes] of one frame: a change z of the logits has the quadratic form
    sum w^2 (z - mean_p z)^2 = Var_p(z), twice the divergence to second order."""
    return np.exp(log_softmax(logits) / 2)


def head_response(reference: Sequence[np.ndarray], change: Sequence[np.ndarray], *,
                  softmax: bool, scales: Sequence[np.float32]) -> np.ndarray:
    """A change of the heads as a vector whose squared length is the quadratic form."""
    if softmax:
        root = fisher_root(reference[0].reshape(-1, reference[0].shape[-1]))
        z = change[0].reshape(root.shape).astype(np.float64)
        z = z - (root**2 * z).sum(-1, keepdims=True)
        return (root * z / np.sqrt(len(root))).ravel()
    return np.concatenate([(c / s).ravel().astype(np.float64) / np.sqrt(c.size * len(change))
                           for c, s in zip(change, scales)])


def _symmetric(m: np.ndarray) -> np.ndarray:
    return (m + m.T) / 2
