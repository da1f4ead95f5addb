"""Where the camera stands: which place on the plate each pixel sees, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from split_lab.demo.shapes import HEIGHT_PX, WIDTH_PX, X, Y, to_float32


@dataclass(frozen=True, slots=True)
class View:
    """How the camera sees the plate: a mild perspective, as a pair of inverse maps."""

    matrix: np.ndarray
    """float64 [2, 2], pixels from the plate's middle to plate units, before perspective."""
    tilt: np.ndarray
    """float64 [2], how the plate recedes along x and y, per pixel."""
    middle_px: np.ndarray
    """float64 [2], where the plate's middle is, from the frame's."""
    px_per_unit: float

    def plate_from_pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """The place (u, v) on the plate that each pixel of the frame looks at."""
        x_px = X * to_float32(WIDTH_PX / 2) - to_float32(self.middle_px[0])
        y_px = Y * to_float32(HEIGHT_PX / 2) - to_float32(self.middle_px[1])
        (uu, uv), (vu, vv) = self.matrix.astype(np.float32)
        tilt_x, tilt_y = self.tilt.astype(np.float32)
        depth = 1.0 + tilt_x * x_px + tilt_y * y_px
        return (uu * x_px + uv * y_px) / depth, (vu * x_px + vv * y_px) / depth

    def pixel_from_plate(self, u: float, v: float) -> tuple[float, float]:
        """The (column, row) in the frame, from its upper left, that shows (u, v)."""
        place = np.array([u, v])
        x_px, y_px = np.linalg.solve(self.matrix - np.outer(place, self.tilt), place) + self.middle_px
        return float(x_px + WIDTH_PX / 2), float(y_px + HEIGHT_PX / 2)


def random_view(rng: np.random.Generator, half_row: float) -> View:
    """A view in which a row of windows, reaching half_row to both sides, stays in the frame."""
    px_per_unit = rng.uniform(25.0, 33.0)
    angle = np.deg2rad(rng.uniform(-8.0, 8.0))
    shear = rng.uniform(-0.08, 0.08)
    # The farthest the middle may go with the whole row in the frame; perspective
    # (`tilt`, at most 0.0009 a pixel) enlarges its near end by up to 7 %.
    half_row_px = half_row * px_per_unit * 1.07
    reach_x_px = WIDTH_PX / 2 - half_row_px - 2.0
    reach_y_px = HEIGHT_PX / 2 - 0.72 * px_per_unit - abs(np.sin(angle)) * half_row_px
    middle_px = rng.uniform(-1.0, 1.0, 2) * (reach_x_px, reach_y_px)
    tilt = rng.uniform(-1.0, 1.0, 2) * (0.0009, 0.0012)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return View(np.array([[1.0, -shear], [0.0, 1.0]]) @ turn / px_per_unit, tilt, middle_px, px_per_unit)
