"""The demo's frames: the same every time, honest about what they show, and cheap."""

import numpy as np
import pytest

from split_lab.demo import frames


def test_the_same_index_gives_the_same_bytes():
    first, again = frames.compose(7, "test"), frames.compose(7, "test")
    assert first.text == again.text
    assert first.pixels.tobytes() == again.pixels.tobytes()


def test_order_of_composing_does_not_matter():
    alone = frames.compose(3, "test").pixels
    for index in (9, 1, 3):
        last = frames.compose(index, "test").pixels
    assert np.array_equal(alone, last)


@pytest.mark.parametrize("other", [
    {"index": 8, "split": "test"},
    {"index": 7, "split": "train"},
    {"index": 7, "split": "test", "seed": 1},
])
def test_another_index_split_or_seed_gives_another_frame(other):
    assert not np.array_equal(frames.compose(7, "test").pixels, frames.compose(**other).pixels)


def test_a_frame_is_rgb_bytes_of_the_stated_size():
    pixels = frames.compose(0, "test").pixels
    assert pixels.shape == (frames.HEIGHT_PX, frames.WIDTH_PX, 3) == (96, 160, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


def test_frames_have_light_and_contrast():
    for index in range(40):
        pixels = frames.compose(index, "test").pixels
        assert 20 < pixels.mean() < 235, f"frame {index}"
        assert np.ptp(pixels) > 60, f"frame {index}"


def test_every_digit_belongs_to_exactly_one_split():
    train, test = frames.train_digits(), frames.test_digits()
    rows = np.concatenate([train.source_rows, test.source_rows])
    assert np.array_equal(np.sort(rows), np.arange(1797))
    assert len(test.labels) == 359      # a fifth of 1797, rounded


def test_no_bitmap_is_in_both_splits():
    # Disjoint rows would mean little if the collection held duplicates.
    def bitmaps(digits):
        return {image.tobytes() for image in digits.images}
    assert not bitmaps(frames.train_digits()) & bitmaps(frames.test_digits())


def test_digits_are_eight_by_eight_and_cannot_be_changed():
    digits = frames.test_digits()
    assert digits.images.shape[1:] == (8, 8)
    assert digits.images.max() == 16
    with pytest.raises(ValueError):
        digits.images[0, 0, 0] = 1


def test_text_names_the_digits_that_were_drawn(monkeypatch):
    drawn = []
    draw = frames.scene.draw
    monkeypatch.setattr(frames.scene, "draw", lambda digits, rng: drawn.append(digits) or draw(digits, rng))
    frame = frames.compose(11, "train")
    digits = frames.train_digits()
    label_of = {image.tobytes(): str(label) for image, label in zip(digits.images, digits.labels, strict=True)}
    assert frame.text == "".join(label_of[image.tobytes()] for image in drawn[0])


def test_each_digit_is_drawn_in_its_own_place(monkeypatch):
    """Blanking digit i changes the picture, and the places move left to right."""
    draw = frames.scene.draw
    whole = frames.compose(2, "test").pixels.astype(int)
    middles = []
    for position in range(frames.DIGITS_PER_FRAME):
        def without_one(digits, rng, position=position):
            digits = digits.copy()
            digits[position] = 0
            return draw(digits, rng)
        monkeypatch.setattr(frames.scene, "draw", without_one)
        # Noise follows the light, so a few grey levels may differ anywhere.
        changed = np.abs(frames.compose(2, "test").pixels.astype(int) - whole).max(axis=2) > 25
        assert changed.any(), f"digit {position}"
        middles.append(np.nonzero(changed)[1].mean())
    assert middles == sorted(middles)
    assert min(np.diff(middles)) > 15


def test_view_maps_are_inverses():
    view = frames.scene.random_view(np.random.default_rng(5), half_row=1.88)
    u, v = view.plate_from_pixels()
    for row, column in ((0, 0), (48, 80), (95, 20), (10, 159)):
        # Pixel (row, column) has its middle half a pixel further on.
        assert view.pixel_from_plate(u[row, column], v[row, column]) == pytest.approx(
            (column + 0.5, row + 0.5), abs=1e-3)


def test_middles_lie_inside_the_frame_from_left_to_right():
    for index in range(100):
        columns, rows = zip(*frames.compose(index, "train").middles_px, strict=True)
        assert 10 < columns[0] < columns[1] < columns[2] < columns[3] < frames.WIDTH_PX - 10, f"frame {index}"
        assert min(rows) > 10 and max(rows) < frames.HEIGHT_PX - 10, f"frame {index}"


@pytest.mark.parametrize(("index", "split"), [(-1, "test"), (0, "validation")])
def test_nonsense_is_refused(index, split):
    with pytest.raises(ValueError):
        frames.compose(index, split)
