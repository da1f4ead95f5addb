"""Drawing by arithmetic: where a shape is, pixel by pixel, and paint over light.

A shape is its signed distance in plate units; coverage turns that into an
antialiased mask. Everything stays float32: float64 is twice the memory to move.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

HEIGHT_PX = 96
WIDTH_PX = 160

# Pixel centres, -1..1 across the frame in each direction.
X = ((np.arange(WIDTH_PX, dtype=np.float32) + 0.5) / (WIDTH_PX / 2) - 1.0)[None, :]
Y = ((np.arange(HEIGHT_PX, dtype=np.float32) + 0.5) / (HEIGHT_PX / 2) - 1.0)[:, None]


def to_float32(value: float) -> np.float32:
    """A NumPy float32: plain floats from a generator would widen whole images."""
    return np.float32(value)


def over(light: np.ndarray, paint: np.ndarray, mask: np.ndarray) -> None:
    """Put `paint` over `light` in place; where the mask is 1 it hides what was there."""
    light += (paint - light) * mask


def colour(rgb: Sequence[float] | np.ndarray) -> np.ndarray:
    """Three numbers as [3, 1, 1], to be spread over an image."""
    return np.asarray(rgb, np.float32)[:, None, None]


def rounded_box(u: np.ndarray, v: np.ndarray, half: tuple[float, float], radius: float) -> np.ndarray:
    """Signed distance to a box around the origin; negative inside."""
    du = np.abs(u) - to_float32(half[0] - radius)
    dv = np.abs(v) - to_float32(half[1] - radius)
    out_u, out_v = np.maximum(du, 0.0), np.maximum(dv, 0.0)
    return np.sqrt(out_u * out_u + out_v * out_v) + np.minimum(np.maximum(du, dv), 0.0) - to_float32(radius)


def where_inside(u: np.ndarray, v: np.ndarray, half_u: float, half_v: float) -> tuple[slice, slice]:
    """The smallest rows and columns that hold every pixel within a box around the origin."""
    inside = (np.abs(u) < half_u) & (np.abs(v) < half_v)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def coverage(distance: np.ndarray, px_per_unit: np.float32) -> np.ndarray:
    """How much of each pixel a shape covers, 0..1."""
    return np.clip(0.5 - distance * px_per_unit, 0.0, 1.0)


def value_noise(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Smooth random tones, 0..1, with about rows x columns bumps over the frame."""
    tones = rng.random((rows, columns), np.float32)
    return _stretch(rows, HEIGHT_PX) @ tones @ _stretch(columns, WIDTH_PX).T


@cache
def _stretch(n_in: int, n_out: int) -> np.ndarray:
    """Matrix that enlarges n_in samples to n_out with a smooth ramp between them."""
    at = np.linspace(0.0, n_in - 1.0, n_out)
    low = np.minimum(at.astype(int), max(n_in - 2, 0))
    part = at - low
    part = part * part * (3.0 - 2.0 * part)
    matrix = np.zeros((n_out, n_in), np.float32)
    matrix[np.arange(n_out), low] = 1.0 - part
    matrix[np.arange(n_out), np.minimum(low + 1, n_in - 1)] += part
    return matrix
