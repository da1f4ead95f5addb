"""Crops: of pictures of every shape, inside them, as large as they should be, and found at all."""

import numpy as np
import pytest

from split_lab.views import HARD_AREA, MILD_AREA, _ASPECT, _box


@pytest.mark.parametrize("area", [MILD_AREA, HARD_AREA])
@pytest.mark.parametrize(("height", "width"), [
    (96, 96), (480, 640), (1080, 1920), (96, 160), (90, 160), (32, 200), (200, 32), (1, 500)])
def test_a_crop_lies_in_a_picture_of_any_shape(height, width, area):
    rng = np.random.default_rng(1)
    for _ in range(200):
        left, top, right, bottom = _box((height, width, 3), area, rng)
        assert 0 <= left < right <= width + 1e-6 and 0 <= top < bottom <= height + 1e-6
        share = (right - left) * (bottom - top) / (height * width)
        assert area[0] - 1e-9 <= share <= area[1] + 1e-9


def test_crops_of_a_photograph_have_the_shape_of_crops():
    rng = np.random.default_rng(2)
    for _ in range(200):
        left, top, right, bottom = _box((480, 640, 3), HARD_AREA, rng)
        assert _ASPECT[0] - 1e-9 <= (right - left) / (bottom - top) <= _ASPECT[1] + 1e-9
