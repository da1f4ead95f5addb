"""What hangs behind the plate: a wall of some material, perhaps a pipe."""

from __future__ import annotations

import numpy as np

from split_lab.demo.shapes import HEIGHT_PX, WIDTH_PX, X, Y, colour, over, to_float32, value_noise


def wall(rng: np.random.Generator) -> np.ndarray:
    """Plaster, wood, brick or brushed metal."""
    base = colour(rng.uniform(0.10, 0.62) * (1.0 + rng.uniform(-0.22, 0.22, 3)))
    kind = rng.integers(4)
    if kind == 0:
        tone = 0.75 + 0.3 * value_noise(rng, 4, 6) + 0.2 * value_noise(rng, 32, 54)
    elif kind == 1:
        rings = Y * to_float32(rng.uniform(4.0, 10.0)) + 1.6 * value_noise(rng, 3, 4) + 0.5 * X
        base = base * colour((1.25, 0.85, 0.50))
        tone = 0.8 + 0.18 * np.sin(rings * to_float32(np.pi)) + 0.25 * value_noise(rng, 48, 5)
    elif kind == 2:
        row = Y * to_float32(rng.uniform(2.6, 4.5)) + to_float32(rng.random())
        column = X * to_float32(rng.uniform(2.0, 3.2)) + 0.5 * (np.floor(row) % 2)
        joint = np.minimum(np.abs(row - np.round(row)), np.abs(column - np.round(column)) * 1.3)
        base = base * colour((1.35, 0.80, 0.62))
        tone = 0.62 + 0.45 * np.clip(joint * 14.0 - 0.6, 0.0, 1.0) + 0.3 * (value_noise(rng, 16, 26) - 0.5)
    else:
        tone = 0.85 + 0.30 * (rng.random((HEIGHT_PX, 1), np.float32) - 0.5) + 0.3 * value_noise(rng, 3, 4)
    return (base * tone).astype(np.float32)


def pipe(light: np.ndarray, rng: np.random.Generator) -> None:
    """A pipe that runs behind the plate, across or up and down."""
    along, size_px = (X, WIDTH_PX) if rng.random() < 0.4 else (Y, HEIGHT_PX)
    radius = to_float32(rng.uniform(8.0, 15.0) * 2.0 / size_px)
    off = (along - to_float32(rng.uniform(-0.6, 0.6))) / radius
    round_off = np.sqrt(np.clip(1.0 - off * off, 0.0, 1.0))
    metal_colour = colour(((0.45, 0.20, 0.10), (0.35, 0.36, 0.38), (0.55, 0.53, 0.48))[rng.integers(3)])
    shine = np.clip(1.0 - np.abs(off + 0.35) * 3.0, 0.0, 1.0) * 0.5
    light *= 1.0 - 0.35 * np.clip(1.6 - np.abs(off), 0.0, 0.6)
    over(light, metal_colour * (0.25 + 0.75 * round_off + shine), np.clip((1.0 - np.abs(off)) * 8.0, 0.0, 1.0))
