"""Pictures become model input as the bundle says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from split_core.errors import InputError
from split_core.model.manifest import ImageInput
from split_core.pictures import from_samples, prepare, pull_jpeg, push_jpeg, read_picture, to_samples
from split_core.tensors import TensorSpec


def stripes(height, width):
    """Each column has its own red value, so that cropping shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    return pixels


def spec(image, dtype="uint8"):
    return TensorSpec("t", (1, image.height, image.width, image.channels), dtype)


def test_the_centre_is_cropped_to_the_inputs_aspect():
    image = ImageInput("t", 50, 50, 3, crop=1.0)
    out = prepare(stripes(50, 90), image, spec(image))
    assert out[0, 0, :, 0].tolist() == list(range(20, 70))


def test_seven_eighths_of_the_shorter_side():
    image = ImageInput("t", 70, 70, 3, crop=0.875)
    out = prepare(stripes(80, 80), image, spec(image))
    assert out[0, 0, :, 0].tolist() == list(range(5, 75))


def test_a_detector_sees_all_of_it_stretched():
    image = ImageInput("t", 10, 10, 3, crop=1.0, keep_aspect=False)
    out = prepare(stripes(10, 100), image, spec(image))
    assert out[0, 0, 0, 0] < 10 and out[0, 0, -1, 0] > 89


@pytest.mark.parametrize("dtype, wanted", [("uint8", [0, 255]), ("int8", [-128, 127]),
                                           ("float32", [-1.0, 1.0])])
def test_samples_become_the_inputs_type_and_back(dtype, wanted):
    image = ImageInput("t", 1, 2, 1, scale=2 / 255, offset=-1.0)
    samples = np.array([[[0], [255]]], np.uint8)
    array = from_samples(samples, image, np.dtype(dtype))
    assert array.dtype == dtype and np.allclose(array.ravel(), wanted)
    assert np.array_equal(to_samples(array, image), samples)


def test_order_and_grey():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0] = 200
    bgr = ImageInput("t", 4, 4, 3, crop=1.0, order="BGR")
    assert prepare(pixels, bgr, spec(bgr))[0, 0, 0].tolist() == [0, 0, 200]
    grey = ImageInput("t", 4, 4, 1, crop=1.0)
    assert prepare(pixels, grey, spec(grey)).shape == (1, 4, 4, 1)


def test_what_is_no_picture_is_an_input_error(tmp_path):
    for source in (b"", b"\xff\xd8nothing", tmp_path / "missing.jpg"):
        with pytest.raises(InputError, match="no picture"):
            read_picture(source)
    image = ImageInput("t", 4, 4, 3)
    with pytest.raises(InputError, match=r"wanted uint8 \[height, width, 3\]"):
        prepare(np.zeros((4, 4)), image, spec(image))


def test_a_turned_photo_is_put_upright():
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6                                 # rotate 90 degrees clockwise to view
    Image.fromarray(stripes(20, 40)).save(out, "JPEG", exif=exif)
    assert read_picture(out.getvalue()).shape == (40, 20, 3)


def test_jpeg_there_and_back():
    samples = np.full((8, 16, 3), 77, np.uint8)
    assert np.abs(pull_jpeg(push_jpeg(samples, 95), 8, 16, 3).astype(int) - 77).max() <= 2
    with pytest.raises(InputError, match="JPEG of 16x8, wanted 8x16"):
        pull_jpeg(push_jpeg(samples, 95), 16, 8, 3)
