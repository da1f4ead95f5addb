"""What the input costs as a picture: the curve between its points, and the quality it asks for."""

from __future__ import annotations

import pytest

from split_core.model.manifest import PictureRate
from split_core.model.rate import PictureCurve, picture_curves

# A quarter of the divergence and four times the bytes over 20 steps of quality: half and
# twice over 10.
RATES = (PictureRate("jpeg", 50, 0.16, 1000), PictureRate("jpeg", 70, 0.04, 4000),
         PictureRate("jpeg", 90, 0.04, 4000))


def test_between_points_both_are_exponentials():
    curve = PictureCurve(RATES)
    assert curve.kl(60) == pytest.approx(0.08) and curve.bytes(60) == pytest.approx(2000)
    assert [curve.kl(q) for q in (50, 70, 80, 90)] == pytest.approx([0.16, 0.04, 0.04, 0.04])


def test_beyond_the_points_nothing_is_promised():
    curve = PictureCurve(RATES)
    assert (curve.kl(1), curve.bytes(1)) == pytest.approx((0.16, 1000))
    assert (curve.kl(100), curve.bytes(100)) == pytest.approx((0.04, 4000))


@pytest.mark.parametrize("kl, quality", [
    (0.5, 50), (0.16, 50), (0.0801, 60), (0.0799, 61), (0.04, 70), (0.0399, None),
])
def test_the_smallest_quality_that_is_good_enough(kl, quality):
    assert PictureCurve(RATES).quality_for_kl(kl) == quality


def test_one_point_is_a_curve():
    curve = PictureCurve(RATES[:1])
    assert curve.quality_for_kl(0.2) == 50 and curve.quality_for_kl(0.1) is None
    assert curve.bytes(95) == pytest.approx(1000)


def test_formats_have_curves_of_their_own():
    webp = PictureRate("webp", 30, 0.3, 700)
    curves = picture_curves((webp, *RATES))
    assert set(curves) == {"webp", "jpeg"} and curves["webp"].points == (webp,)
    assert curves["jpeg"].points == RATES and picture_curves(()) == {}
