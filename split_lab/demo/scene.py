"""The scene before the camera: a wall, perhaps a pipe, a plate, four digits.

Everything is drawn by evaluating shapes at each pixel's place on the plate
(signed distances, so edges come out antialiased); only the handwriting is
sampled from pictures. Lengths without a unit are in plate units: one is about
the height of a digit window. The light returned is linear, 0..1, [3, H, W].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from split_lab.demo.backdrop import pipe, wall
from split_lab.demo.shapes import colour, coverage, over, rounded_box, to_float32, value_noise, where_inside
from split_lab.demo.view import View, random_view

CELLS = 4

_PITCH = 0.98                      # from one window's middle to the next one's
_WINDOW_HALF = (0.41, 0.56)
_PLATE_HALF = (2.22, 0.98)
_WINDOW_V = -0.10                  # windows sit a little above the middle, the bar code below
_GLYPH_PX = 40                     # a digit enlarged five times: strokes get smooth edges
_GLYPH_MARGIN_PX = 4               # paper around it, so that sampling outside finds none of its ink


@dataclass(frozen=True, slots=True)
class Look:
    """Colours (linear RGB) of one kind of plate."""

    body: tuple[float, float, float]
    window: tuple[float, float, float]
    last_window: tuple[float, float, float]
    ink: tuple[float, float, float]
    print: tuple[float, float, float]
    drum: float
    """How strongly the windows are shaded as if they showed rollers."""


LOOKS = (
    Look((0.03, 0.04, 0.06), (0.015, 0.015, 0.018), (0.30, 0.02, 0.02), (0.90, 0.90, 0.86), (0.55, 0.56, 0.58), 0.7),
    Look((0.05, 0.14, 0.30), (0.85, 0.83, 0.76), (0.85, 0.83, 0.76), (0.02, 0.02, 0.05), (0.75, 0.78, 0.82), 0.4),
    Look((0.72, 0.72, 0.68), (0.02, 0.02, 0.025), (0.34, 0.03, 0.02), (0.88, 0.88, 0.84), (0.06, 0.06, 0.07), 0.7),
    Look((0.80, 0.76, 0.62), (0.93, 0.92, 0.86), (0.93, 0.92, 0.86), (0.02, 0.04, 0.20), (0.10, 0.09, 0.08), 0.0),
    Look((0.40, 0.42, 0.44), (0.80, 0.81, 0.80), (0.80, 0.81, 0.80), (0.03, 0.03, 0.03), (0.05, 0.05, 0.06), 0.3),
    Look((0.55, 0.38, 0.04), (0.90, 0.86, 0.70), (0.90, 0.86, 0.70), (0.05, 0.03, 0.02), (0.04, 0.03, 0.02), 0.2),
    Look((0.05, 0.20, 0.10), (0.88, 0.90, 0.84), (0.88, 0.90, 0.84), (0.25, 0.02, 0.02), (0.80, 0.84, 0.78), 0.0),
)


def draw(digits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, View]:
    """Draw a plate that shows `digits` (uint8 [4, 8, 8], 0..16) before a wall."""
    light = wall(rng)
    if rng.random() < 0.6:
        pipe(light, rng)
    view = random_view(rng, 1.5 * _PITCH + _WINDOW_HALF[0])
    u, v = view.plate_from_pixels()
    _plate(light, digits, u, v, to_float32(view.px_per_unit), LOOKS[rng.integers(len(LOOKS))], rng)
    return light, view


def window_middles_px(view: View) -> tuple[tuple[float, float], ...]:
    """(column, row) of each window's middle, from left to right."""
    return tuple(view.pixel_from_plate((cell - 1.5) * _PITCH, _WINDOW_V) for cell in range(CELLS))


def _plate(light: np.ndarray, digits: np.ndarray, u: np.ndarray, v: np.ndarray,
           px_per_unit: np.float32, look: Look, rng: np.random.Generator) -> None:
    """Paint shadow, body, rivets, bar code, windows and ink over `light`."""
    grain = 1.0 + 0.10 * (value_noise(rng, 16, 26) - 0.5)
    # Only the part of the frame that the plate can touch: the rest is never painted.
    part = where_inside(u, v, _PLATE_HALF[0] + 0.4, _PLATE_HALF[1] + 0.4)
    light, grain, u, v = light[(slice(None), *part)], grain[part], u[part], v[part]

    tint = rng.uniform(0.85, 1.15, 3)
    body = colour(look.body) * tint.astype(np.float32)[:, None, None]
    distance = rounded_box(u, v, _PLATE_HALF, 0.16)
    drop_u, drop_v = to_float32(rng.uniform(-0.14, 0.14)), to_float32(rng.uniform(0.03, 0.16))
    light *= 1.0 - np.clip(0.5 - 2.5 * rounded_box(u - drop_u, v - drop_v, _PLATE_HALF, 0.16), 0.0, 0.6)
    # A bevel: the rim facing the lamp (above) is lighter, the other darker.
    rim = np.clip(1.0 - np.abs(distance + 0.05) * 16.0, 0.0, 1.0) * np.clip(-v * 1.2, -0.35, 0.5)
    over(light, body * (grain + rim), coverage(distance, px_per_unit))

    # Four rivets at once: the plate is symmetric.
    rivet_u, rivet_v = np.abs(u) - to_float32(2.05), np.abs(v) - to_float32(0.80)
    rivet = np.sqrt(rivet_u * rivet_u + rivet_v * rivet_v) - to_float32(0.075)
    metal = np.clip(0.45 - 2.5 * rivet_v * np.sign(v), 0.15, 0.7)
    over(light, metal[None], coverage(rivet, px_per_unit))
    over(light, colour(look.print), 0.9 * _bar_code(u, v, px_per_unit, rng))

    part = where_inside(u, v - to_float32(_WINDOW_V), 2.0 * _PITCH, _WINDOW_HALF[1] + 0.12)
    _windows(light[(slice(None), *part)], digits, u[part], v[part] - to_float32(_WINDOW_V),
             px_per_unit, body, look, rng)


def _windows(light: np.ndarray, digits: np.ndarray, u: np.ndarray, v: np.ndarray, px_per_unit: np.float32,
             body: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    """Paint the four windows and what is written in them; v is 0 at their middle."""
    cell = np.clip(np.floor(u / to_float32(_PITCH) + 2.0), 0, CELLS - 1)
    local_u = u - (cell - 1.5) * to_float32(_PITCH)
    window = rounded_box(local_u, v, _WINDOW_HALF, 0.07)
    over(light, body * to_float32(rng.uniform(0.25, 0.7)), coverage(window - to_float32(0.06), px_per_unit))
    roller = 1.0 - to_float32(look.drum) * np.clip(v * 1.5, -1.0, 1.0) ** 2
    paper = np.where(cell == CELLS - 1, colour(look.last_window), colour(look.window))
    ink = _ink(digits, cell.astype(np.intp), local_u, v, rng)
    face = (paper + (colour(look.ink) - paper) * ink) * roller
    # The windows are recessed: their upper edge throws a thin shadow on the paper.
    face *= np.clip(0.45 + (v + to_float32(_WINDOW_HALF[1])) * 6.0, 0.45, 1.0)
    over(light, face, coverage(window, px_per_unit))


def _ink(digits: np.ndarray, cell: np.ndarray, local_u: np.ndarray, local_v: np.ndarray,
         rng: np.random.Generator) -> np.ndarray:
    """How much ink (0..1) of its window's digit each pixel sees."""
    side = _GLYPH_PX + 2 * _GLYPH_MARGIN_PX
    glyphs = np.zeros((CELLS, side, side), np.float32)
    inner = slice(_GLYPH_MARGIN_PX, _GLYPH_MARGIN_PX + _GLYPH_PX)
    smooth = _ENLARGE @ (digits.astype(np.float32) / 16.0) @ _ENLARGE.T
    # The bitmaps count inked dots in 4x4 blocks; a soft threshold turns the
    # blurred counts back into strokes. Pens differ in width.
    pen = to_float32(rng.uniform(0.38, 0.52))
    glyphs[:, inner, inner] = np.clip((smooth - pen) * to_float32(2.4) + 0.5, 0.0, 1.0)
    # Each digit sits a little differently in its window.
    half_w, half_h = rng.uniform(0.29, 0.36, CELLS), rng.uniform(0.40, 0.48, CELLS)
    off_u, off_v = rng.uniform(-0.035, 0.035, CELLS), rng.uniform(-0.05, 0.05, CELLS)
    lean = rng.uniform(-0.12, 0.12, CELLS)
    row_units = local_v - off_v.astype(np.float32)[cell]
    column_units = local_u - off_u.astype(np.float32)[cell] + lean.astype(np.float32)[cell] * row_units
    middle, scale = to_float32((side - 1) / 2), to_float32(_GLYPH_PX / 2)
    row = np.clip(row_units * (scale / half_h).astype(np.float32)[cell] + middle, 0.0, side - 1.001)
    column = np.clip(column_units * (scale / half_w).astype(np.float32)[cell] + middle, 0.0, side - 1.001)
    r, c = row.astype(np.intp), column.astype(np.intp)
    dr, dc = row - r, column - c
    flat, base = glyphs.ravel(), (cell * side + r) * side + c
    top = flat[base] * (1 - dc) + flat[base + 1] * dc
    bottom = flat[base + side] * (1 - dc) + flat[base + side + 1] * dc
    return (top + (bottom - top) * dr) * to_float32(rng.uniform(0.85, 1.0))


def _bar_code(u: np.ndarray, v: np.ndarray, px_per_unit: np.float32, rng: np.random.Generator) -> np.ndarray:
    """A printed strip below the windows, as serial numbers are."""
    left = rng.uniform(-1.7, 0.2)
    bars = rng.random(28) < 0.55
    index = np.clip((u - to_float32(left)) * to_float32(18.0), 0, 27).astype(np.intp)
    strip = rounded_box(u - to_float32(left + 28 / 36), v - to_float32(0.76), (28 / 36, 0.10), 0.0)
    return coverage(strip, px_per_unit) * bars.astype(np.float32)[index]


def _enlarger() -> np.ndarray:
    """Matrix that enlarges one side of a digit from 8 to _GLYPH_PX by cubic interpolation.

    Cubic passes through the samples: a smoother kernel closes the loops of 4, 6 and 8.
    """
    at = (np.arange(_GLYPH_PX) + 0.5) * 8 / _GLYPH_PX - 0.5
    far = np.abs(at[:, None] - np.arange(8))
    near_part = (1.5 * far - 2.5) * far * far + 1.0
    far_part = ((-0.5 * far + 2.5) * far - 4.0) * far + 2.0
    return np.where(far < 1.0, near_part, np.where(far < 2.0, far_part, 0.0)).astype(np.float32)


_ENLARGE = _enlarger()
