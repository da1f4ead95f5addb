"""Pictures become model input as the bundle says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, features

from split_core.errors import InputError
from split_core.model.manifest import ImageInput
from split_core.pictures import (
    from_samples, prepare, pull_avif, pull_jpeg, pull_webp, push_avif, push_jpeg, push_webp,
    read_picture, scaled_table, to_samples,
)
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
        with pytest.raises(InputError, match="no picture|No such file"):
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


needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
KINDS = pytest.mark.parametrize("push, pull", [
    (push_jpeg, pull_jpeg), (push_webp, pull_webp),
    pytest.param(push_avif, pull_avif, marks=needs_avif)])


def ramp(height, width, channels=3):
    y, x = np.mgrid[:height, :width]
    return np.stack([(2 * x + y + 40 * c) % 200 for c in range(channels)], -1).astype(np.uint8)


def saved(kind, mode="RGB", size=(16, 8), **options):
    out = io.BytesIO()
    Image.new(mode, size, 0).save(out, kind, **options)
    return out.getvalue()


@KINDS
@pytest.mark.parametrize("shape", [(8, 16, 3), (8, 16, 1), (31, 17, 3), (31, 17, 1)])
def test_every_kind_there_and_back(push, pull, shape):
    samples = np.full(shape, 77, np.uint8)
    decoded = pull(push(samples, 95), *shape)
    assert decoded.shape == shape and decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - 77).max() <= 3


@KINDS
def test_every_truncation_is_refused(push, pull):
    data = push(ramp(16, 24), 90)
    for n in range(len(data)):
        with pytest.raises(InputError):
            pull(memoryview(data)[:n], 16, 24, 3)


@KINDS
def test_another_size_is_refused_before_decoding(push, pull, monkeypatch):
    """Nothing of a picture of 1000 x 1000 is decoded to find that it is none of 16 x 16."""
    data = push(np.zeros((1000, 1000, 3), np.uint8), 10)

    def never(*_):
        raise AssertionError("decoded")
    monkeypatch.setattr(Image.Image, "__array_interface__", property(never), raising=False)
    with pytest.raises(InputError, match="of 1000x1000, wanted 16x16"):
        pull(data, 16, 16, 3)


def test_a_webp_of_another_size_is_not_even_opened(monkeypatch):
    data = push_webp(ramp(16, 24), 90)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(InputError, match="WebP of 24x16, wanted 16x24"):
        pull_webp(data, 24, 16, 3)


@pytest.mark.parametrize("pull, data, message", [
    (pull_jpeg, saved("JPEG", "L"), "JPEG of mode L for 3 channels"),
    (pull_jpeg, saved("JPEG", "CMYK"), "JPEG of mode CMYK"),
    (pull_jpeg, saved("PNG"), "no JPEG"),
    (pull_webp, saved("WEBP", lossless=True), "no WebP of one lossy picture"),
    (pull_webp, saved("WEBP", "RGBA"), "no WebP of one lossy picture"),
    (pull_webp, saved("WEBP", exif=b"Exif\0\0MM\0*"), "no WebP of one lossy picture"),
    (pull_webp, saved("WEBP", save_all=True, append_images=[Image.new("RGB", (16, 8), 9)]),
     "no WebP of one lossy picture"),
    (pull_webp, saved("WEBP") + b"more", r"WebP of \d+ and \d+ bytes"),
    (pull_webp, saved("JPEG"), "no WebP"),
    (pull_avif, saved("JPEG"), "no AVIF"),
])
def test_another_kind_is_refused(pull, data, message):
    with pytest.raises(InputError, match=message):
        pull(data, 8, 16, 3)


@needs_avif
@pytest.mark.parametrize("mode, options, message", [
    ("RGBA", {}, "AVIF of mode RGBA"),
    ("RGB", {"save_all": True, "append_images": [Image.new("RGB", (16, 8), 9)]}, "2 pictures"),
])
def test_an_avif_of_more_than_a_picture_is_refused(mode, options, message):
    with pytest.raises(InputError, match=message):
        pull_avif(saved("AVIF", mode, **options), 8, 16, 3)


def test_a_webp_that_asks_for_scaling_is_refused():
    data = bytearray(push_webp(ramp(8, 16), 90))
    data[27] |= 0x40                                  # the upper two bits of the width
    with pytest.raises(InputError, match="WebP of 16400x8"):
        pull_webp(bytes(data), 8, 16, 3)


def test_a_jpeg_of_endless_scans_is_refused():
    data = push_jpeg(ramp(16, 16), 90, ([16] * 64, [16] * 64))
    last = data.rindex(b"\xff\xda")
    with pytest.raises(InputError, match="JPEG of 110 scans, at most 32"):
        pull_jpeg(data[:last] + 101 * data[last:-2] + data[-2:], 16, 16, 3)


def test_tables_are_used_as_given():
    luma, chroma = list(range(1, 65)), list(range(101, 165))
    file = Image.open(io.BytesIO(push_jpeg(ramp(16, 16), 50, (luma, chroma))))
    # Quality 50 leaves them alone; Pillow reads them in the same, natural order.
    assert file.quantization == {0: luma, 1: chroma}
    assert "progressive" in file.info
    assert [part[1:3] for part in file.layer] == [(1, 1)] * 3          # no colour left out
    grey = Image.open(io.BytesIO(push_jpeg(ramp(16, 16, 1), 50, (luma, chroma))))
    assert grey.quantization == {0: luma} and grey.mode == "L"


def test_tables_stand_in_zigzag_order_in_the_file():
    data = push_jpeg(ramp(16, 16), 50, (list(range(1, 65)), [99] * 64))
    table = data[data.index(b"\xff\xdb") + 5:]
    assert list(table[:10]) == [1, 2, 9, 17, 10, 3, 4, 11, 18, 25]


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 51, 75, 92, 99, 100])
def test_tables_are_scaled_as_libjpeg_scales_its_own(quality):
    own = [Image.open(io.BytesIO(saved("JPEG", quality=q))).quantization for q in (50, quality)]
    assert scaled_table(own[0][0], quality) == own[1][0]
    assert scaled_table(own[0][1], quality) == own[1][1]


@pytest.mark.parametrize("make, words", [
    (lambda folder: folder / "no.png", "no.png: No such file or directory"),
    (lambda folder: folder, ": Is a directory"),
    (lambda folder: b"no picture at all", "picture: no picture of a kind that is read here (JPEG,"),
])
def test_what_cannot_be_read_is_said_in_words(tmp_path, make, words):
    with pytest.raises(InputError) as refused:
        read_picture(make(tmp_path))
    assert words in str(refused.value) and "Errno" not in str(refused.value)
    assert "object at" not in str(refused.value)
