"""Fits the transform of one boundary tensor: a KLT in the metric of the task, axis by axis.

With F the metric and S the covariance along an axis, F^(1/2) S F^(1/2) = U L U^T gives the
matrix U^T F^(1/2): its coefficients are uncorrelated, and equally dear to the answer, so that
one step for all of them spends bits where they count (reverse water-filling in the metric of
the output distribution; after Shao and Zhang's task-oriented encoding, without training).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from split_core.model.coding import MAX_MATRIX, TensorCoding, push_halves, push_mean
from split_lab.calibrate.metric import Metric, second_moment

# Smallest eigenvalue of a metric, relative to their mean: directions that no calibration
# input moved may still matter to the next.
_FLOOR = 1e-3
# Along an axis with fewer independent observations than this times its size a calibrated
# matrix is mostly noise; the DCT is the KLT of everything that is merely smooth.
_OBSERVATIONS = 8
# Blocks are no longer than this: a longer matrix costs its length for every element.
_LONGEST_BLOCK = 16


@dataclass(frozen=True)
class Fit:
    """Matrices and statistics of one tensor, float64; blocks as in `TensorCoding`."""

    blocks: tuple[int, int, int, int, int]
    mean: np.ndarray                 # [H, W, C], real values
    channel: np.ndarray              # [C, C], or [C] where channels are only scaled
    row: np.ndarray | None
    column: np.ndarray | None
    variance: np.ndarray             # of coefficients, [rows, columns, C]

    def coefficients(self, values: np.ndarray) -> np.ndarray:
        """Coefficients of real values [n, H, W, C], float32, folded into blocks."""
        centred = fold(values - self.mean.astype(np.float32), self.blocks)
        channel = self.channel.astype(np.float32)
        y = centred @ channel.T if channel.ndim == 2 else centred * channel
        return _along(_along(y, self.row, 2), self.column, 4)


def blocks_of(shape: tuple[int, ...]) -> tuple[int, int, int, int, int]:
    """How a tensor is seen: pictures by height and width, sequences by time, all else as one
    pixel of many channels."""
    if len(shape) == 4 and shape[0] == 1:
        _, height, width, channels = shape
    elif len(shape) == 3 and shape[0] == 1:
        height, (_, width, channels) = 1, shape
    else:
        height, width, channels = 1, 1, int(np.prod(shape))
        if shape and channels:
            channels, width = shape[-1], channels // shape[-1]
    rows, columns = _block(height), _block(width)
    return height // rows, rows, width // columns, columns, channels


def _block(size: int) -> int:
    """The largest divisor up to the longest block; 1 where that is hardly a block."""
    best = max(d for d in range(1, min(size, _LONGEST_BLOCK) + 1) if size % d == 0)
    return best if best >= 4 or best == size else 1


def fold(values: np.ndarray, blocks) -> np.ndarray:
    """[n, ...] as [n, blocks_h, rows, blocks_w, columns, C]."""
    return values.reshape(len(values), *blocks)


def dct(size: int) -> np.ndarray:
    """The orthonormal DCT-II as a matrix."""
    k, j = np.arange(size)[:, None], np.arange(size)[None]
    m = np.cos(np.pi * (j + 0.5) * k / size) * np.sqrt(2 / size)
    m[0] /= np.sqrt(2)
    return m


def metric_klt(covariance: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """U^T F^(1/2), strongest coefficient first."""
    root = _root(metric)
    _, vectors = np.linalg.eigh(root @ covariance @ root)
    return vectors[:, ::-1].T @ root


def _root(metric: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(metric)
    values = np.maximum(values, _FLOOR * max(values.mean(), 1e-30))
    return (vectors * np.sqrt(values)) @ vectors.T


def fit_transform(values: np.ndarray, metric: Metric, blocks, *, photos: int) -> Fit:
    """The transform for samples ``values`` [n, H, W, C] (real, float32) of ``photos``
    independent inputs."""
    mean = values.mean(0, dtype=np.float64)
    centred = fold(values - mean.astype(np.float32), blocks)
    _, rows, _, columns, channels = blocks
    pixels = centred.size // channels // len(values)
    flat = centred.reshape(-1, channels)
    fisher = metric.channels()
    if channels > MAX_MATRIX or photos * pixels < _OBSERVATIONS * channels:
        channel = np.sqrt(np.maximum(np.diag(fisher), _FLOOR * np.diag(fisher).mean() + 1e-30))
        y, inverse = centred * channel.astype(np.float32), np.diag(1 / channel)
    else:
        covariance = (flat.T @ flat).astype(np.float64) / len(flat)
        channel = metric_klt(covariance, fisher)
        y, inverse = centred @ channel.T.astype(np.float32), np.linalg.inv(channel)
    row = _spatial(y, 2, rows, lambda: metric.rows(inverse), photos)
    y = _along(y, row, 2)
    column = _spatial(y, 4, columns, lambda: metric.columns(inverse), photos)
    y = _along(y, column, 4)
    variance = np.mean(y.astype(np.float64) ** 2, axis=(0, 1, 3))
    return Fit(tuple(blocks), mean, channel, row, column, variance)


def _spatial(y: np.ndarray, axis: int, size: int, metric, photos: int) -> np.ndarray | None:
    if size == 1:
        return None
    if photos < _OBSERVATIONS:
        return dct(size)
    return metric_klt(second_moment(y, axis), metric())


def _along(y: np.ndarray, matrix: np.ndarray | None, axis: int) -> np.ndarray:
    if matrix is None:
        return y
    return np.moveaxis(np.tensordot(y, matrix.astype(np.float32), (axis, 1)), -1, axis)


def scaled(fit: Fit, factor: float) -> Fit:
    """The same with all coefficients times ``factor``."""
    return Fit(fit.blocks, fit.mean, fit.channel * factor, fit.row, fit.column,
               fit.variance * factor**2)


def to_coding(name: str, fit: Fit, finest_step: float) -> TensorCoding:
    """The tables as they travel; the mean is kept to a quarter of the finest step."""
    rows, columns, channels = _exponents(fit.variance)
    scale = float(np.abs(fit.channel).max()) / 1024          # well inside of float16
    mean = Fit(fit.blocks, np.zeros_like(fit.mean), fit.channel, fit.row, fit.column,
               fit.variance).coefficients(fit.mean[None].astype(np.float32))
    return TensorCoding(
        name, fit.blocks, scale, push_halves(fit.channel / scale), push_halves(fit.row),
        push_halves(fit.column), finest_step / 4, push_mean(mean, finest_step / 4),
        rows, columns, channels)


def _exponents(variance: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """16 * log2(variance) [rows, columns, C] as a sum of three, the nearest in the mean.

    Keeping all of them instead saves 0.7 % of the bytes at 14x14x64, 0.1 % at 7x7x160, and
    would be a byte an element in every bundle.
    """
    log = 16 * np.log2(np.maximum(variance, variance.max() * 1e-12 + 1e-30))
    mean = log.mean()
    parts = log.mean((1, 2)) - mean, log.mean((0, 2)) - mean, log.mean((0, 1))
    return tuple(tuple(int(v) for v in np.rint(p)) for p in parts)
