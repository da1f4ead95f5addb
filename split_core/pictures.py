"""Pictures: files to pixels, pixels to model input, and JPEG. The only importer of Pillow.

Pixels are uint8 arrays [height, width, 3] in RGB order.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise InputError(f"{name}: no picture: {e}") from None


def prepare(pixels: np.ndarray, image: ImageInput, spec: TensorSpec) -> np.ndarray:
    """The model input of a picture, after the bundle's description. Raises InputError."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(f"picture is {pixels.dtype}{list(pixels.shape)}, wanted"
                         " uint8 [height, width, 3]")
    size = (image.width, image.height)
    picture = Image.fromarray(pixels)
    box = _crop_box(picture.width, picture.height, image)
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


def push_jpeg(samples: np.ndarray, quality: int) -> bytes:
    """A JPEG file of samples [height, width, 1 or 3]."""
    out = io.BytesIO()
    pixels = samples[..., 0] if samples.shape[2] == 1 else samples
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "JPEG", quality=quality,
                                                       optimize=True)
    return out.getvalue()


def pull_jpeg(data: bytes | memoryview, height: int, width: int, channels: int) -> np.ndarray:
    """Samples of a JPEG that must have this size. Raises InputError."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as file:
            # Size and mode stand in the header: nothing is allocated for a wrong one.
            if (file.height, file.width) != (height, width):
                raise InputError(f"JPEG of {file.width}x{file.height}, wanted {width}x{height}")
            if file.mode != ("RGB" if channels == 3 else "L"):
                raise InputError(f"JPEG of mode {file.mode} for {channels} channels")
            return np.asarray(file).reshape(height, width, channels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise InputError(f"no JPEG: {e}") from None
