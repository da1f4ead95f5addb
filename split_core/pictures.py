"""Pictures: files to pixels, pixels to model input, and coded samples. The only importer of
Pillow.

Pixels are uint8 arrays [height, width, 3] in RGB order. What `push_x` writes any decoder
reads; `pull_x` takes the bytes of a peer, so it looks at size and kind before anything is
decoded or allocated.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from split_core.errors import InputError
from split_core.model.manifest import ImageInput
from split_core.tensors import TensorSpec

# A camera's picture has 2 to 12 million pixels; a small file that claims more is a bomb.
MAX_PIXELS = 50_000_000
# Others never: Pillow would hand some of them (EPS) to programs of the system.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm"}


def read_picture(source: str | Path | bytes) -> np.ndarray:
    """Pixels of an image file or of its bytes, turned upright. Raises InputError."""
    name = "picture" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source,
                        formats=_FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise InputError(f"{name}: {file.width}x{file.height} pixels, at most"
                                 f" {MAX_PIXELS}")
            upright = ImageOps.exif_transpose(file)
            return np.asarray(upright.convert("RGB"))
    except UnidentifiedImageError:
        raise InputError(f"{name}: no picture of a kind that is read here"
                         f" ({', '.join(_FORMATS)})") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        # Of a file that cannot be opened the name is said already.
        why = getattr(e, "strerror", None) or f"no picture: {e}"
        raise InputError(f"{name}: {why}") from None


def prepare(pixels: np.ndarray, image: ImageInput, spec: TensorSpec,
            box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """The model input of a picture, after the bundle's description; of the part in ``box``
    (left, top, right, bottom) where one is given. Raises InputError."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(f"picture is {pixels.dtype}{list(pixels.shape)}, wanted"
                         " uint8 [height, width, 3]")
    size = (image.width, image.height)
    picture = Image.fromarray(pixels)
    box = box or _crop_box(picture.width, picture.height, image)
    if (box[2] - box[0], box[3] - box[1]) != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR, box=box)
    elif box != (0, 0, picture.width, picture.height):
        picture = picture.crop(tuple(map(round, box)))
    if image.channels == 1:
        picture = picture.convert("L")
    samples = np.asarray(picture).reshape(image.height, image.width, image.channels)
    if image.order == "BGR":
        samples = samples[..., ::-1]
    return from_samples(samples, image, spec.np_dtype).reshape(spec.shape)


def _crop_box(width: int, height: int, image: ImageInput) -> tuple[float, float, float, float]:
    """The centred part to use: of the input's aspect unless it may be stretched."""
    if not image.keep_aspect:
        used_width, used_height = width * image.crop, height * image.crop
    else:
        scale = image.crop * min(width / image.width, height / image.height)
        used_width, used_height = image.width * scale, image.height * scale
    left, top = (width - used_width) / 2, (height - used_height) / 2
    return left, top, left + used_width, top + used_height


def from_samples(samples: np.ndarray, image: ImageInput, dtype: np.dtype) -> np.ndarray:
    """Samples of 0..255 as the model's input type wants them."""
    if dtype == np.uint8:
        return np.ascontiguousarray(samples)
    if dtype == np.int8:
        return (samples ^ 0x80).view(np.int8)
    return samples * np.float32(image.scale) + np.float32(image.offset)


def to_samples(array: np.ndarray, image: ImageInput) -> np.ndarray:
    """The 8-bit samples an image input was made of; inverse of `from_samples`."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.int8:
        return array.view(np.uint8) ^ 0x80
    samples = (array - np.float32(image.offset)) / np.float32(image.scale)
    return np.clip(np.rint(samples), 0, 255).astype(np.uint8)


Tables = tuple[Sequence[float], Sequence[float]]
"""Quantization tables of a JPEG, luma and chroma: 64 steps each for quality 50, row by row
from the mean to the highest frequency (not in zigzag order)."""


def push_jpeg(samples: np.ndarray, quality: int, tables: Tables | None = None) -> bytes:
    """A JPEG file of samples [height, width, 1 or 3], at quality 1..100.

    With ``tables`` these take the place of the library's, in full chroma resolution (tables
    made for a model say what its colours are worth) and progressive, which is smaller.
    """
    out = io.BytesIO()
    options = {"quality": quality}
    if tables is not None:
        # Pillow would take a quality beside tables for a percentage: they go in scaled.
        used = tables[: 1 if samples.shape[2] == 1 else 2]
        options = {"qtables": [scaled_table(t, quality) for t in used],
                   "subsampling": 0, "progressive": True}
    _to_picture(samples).save(out, "JPEG", optimize=True, **options)
    return out.getvalue()


def scaled_table(table: Sequence[float], quality: int) -> list[int]:
    """A table for quality 50 at another quality, by libjpeg's rule: steps of 1..255."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = np.floor((np.asarray(table, np.float64) * percent + 50) / 100)
    return np.clip(steps, 1, 255).astype(int).tolist()


def pull_jpeg(data: bytes | memoryview, height: int, width: int, channels: int) -> np.ndarray:
    """Samples of a JPEG that must have this size. Raises InputError."""
    # Each scan of a progressive file goes over the whole picture again.
    scans = bytes(data).count(b"\xff\xda")
    if scans > _MAX_SCANS:
        raise InputError(f"JPEG of {scans} scans, at most {_MAX_SCANS}")
    return _pull("JPEG", data, height, width, channels, "RGB" if channels == 3 else "L")


def push_webp(samples: np.ndarray, quality: int) -> bytes:
    """A lossy WebP file of samples [height, width, 1 or 3], at quality 0..100. The format has
    no grey: one channel is written as three alike."""
    out = io.BytesIO()
    _to_picture(samples).convert("RGB").save(out, "WEBP", quality=quality)
    return out.getvalue()


def pull_webp(data: bytes | memoryview, height: int, width: int, channels: int) -> np.ndarray:
    """Samples of a WebP that must have this size. Raises InputError."""
    # By hand, because Pillow allocates two whole pictures when it opens a WebP. One lossy
    # key frame and nothing else (RFC 9649, 6386): no alpha, no animation, no metadata.
    head = bytes(data[: _WEBP.size])
    if len(head) < _WEBP.size:
        raise InputError(f"no WebP: {len(head)} bytes")
    riff, riff_size, webp, kind, size, tag, start, w, h = _WEBP.unpack(head)
    if (riff, webp, kind) != (b"RIFF", b"WEBP", b"VP8 ") or start != _VP8_START or tag[0] & 1:
        raise InputError("no WebP of one lossy picture")
    if riff_size != len(data) - 8 or riff_size != 12 + size + size % 2:
        raise InputError(f"WebP of {riff_size} and {size} bytes in {len(data)}")
    if (h, w) != (height, width):            # with the upper two bits, which ask for scaling
        raise InputError(f"WebP of {w}x{h}, wanted {width}x{height}")
    return _pull("WEBP", data, height, width, channels, "RGB")


def push_avif(samples: np.ndarray, quality: int, speed: int = 8) -> bytes:
    """An AVIF file of samples [height, width, 1 or 3], at quality 0..100, colours at half
    resolution. Raises InputError where Pillow was built without AVIF."""
    out = io.BytesIO()
    try:
        _to_picture(samples).save(out, "AVIF", quality=quality, speed=speed)
    except (KeyError, OSError) as e:
        raise InputError(f"this Pillow cannot write AVIF ({e}); version 11.3 can") from None
    return out.getvalue()


def pull_avif(data: bytes | memoryview, height: int, width: int, channels: int) -> np.ndarray:
    """Samples of an AVIF that must have this size. Raises InputError."""
    return _pull("AVIF", data, height, width, channels, "RGB" if channels == 3 else "L")


# libjpeg writes 10 (colour) or 6 (grey) scans.
_MAX_SCANS = 32
# RIFF header, header of its chunk, tag and start code of a key frame, width and height.
_WEBP = struct.Struct("<4sI4s4sI3s3sHH")
_VP8_START = b"\x9d\x01\x2a"


def _to_picture(samples: np.ndarray) -> Image.Image:
    pixels = samples[..., 0] if samples.shape[2] == 1 else samples
    return Image.fromarray(np.ascontiguousarray(pixels))


def _pull(kind: str, data: bytes | memoryview, height: int, width: int, channels: int,
          mode: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as file:
            # Size and mode stand in the header: nothing is allocated for a wrong one.
            if (file.height, file.width) != (height, width):
                raise InputError(f"{kind} of {file.width}x{file.height}, wanted"
                                 f" {width}x{height}")
            if file.mode != mode:
                raise InputError(f"{kind} of mode {file.mode} for {channels} channels")
            if getattr(file, "n_frames", 1) != 1:
                raise InputError(f"{kind} of {file.n_frames} pictures, wanted 1")
            picture = file if channels == 3 else file.convert("L")
            return np.asarray(picture).reshape(height, width, channels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise InputError(f"no {kind}: {e}") from None
