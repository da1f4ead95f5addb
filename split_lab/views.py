"""Inputs at a desk: pictures seen in several ways, and saved arrays.

A few photographs teach more when each is seen several times: the centre, as a camera's
picture is used, and harder crops. The hard crops are also the honest test: photographs that
a network was trained on give it wide margins, which hide what coding does to its answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from split_core.errors import InputError
from split_core.inputs import first_states, read_arrays
from split_core.model.bundle import Bundle
from split_core.pictures import SUFFIXES, prepare, read_picture

CROPS = ("centre", "hard")
# Of a hard crop: its share of the picture's area and its aspect ratio, both uniform (the
# latter in its logarithm).
HARD_AREA = (0.15, 0.5)
# Of a crop that leaves what is seen as it is.
MILD_AREA = (0.8, 1.0)
_ASPECT = (3 / 4, 4 / 3)
# Draws of a crop until one fits. Photographs (4:3, 16:9) need two or three; a small picture that is
# wider than 5:3 has next to none of 0.8 of its area, and is cropped in its own shape then.
_TRIES = 50


@dataclass(frozen=True, slots=True)
class View:
    """One input of the model, and the file it came from."""

    file: Path
    arrays: dict[str, np.ndarray]


def list_inputs(folder: str | Path, count: int | None = None) -> list[Path]:
    """The pictures and arrays below ``folder``, at most ``count``, spread evenly over their
    names. Raises InputError when there is none."""
    folder = Path(folder)
    wanted = SUFFIXES | {".npy", ".npz"}
    if folder.is_file():
        return [folder]
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in wanted)
    if not files:
        raise InputError(f"no inputs in {folder} (looked for {', '.join(sorted(wanted))})")
    if count is None or count >= len(files):
        return files
    return [files[i * len(files) // count] for i in range(count)]


def views(bundle: Bundle, file: Path, *, centre: int, hard: int, rng: np.random.Generator,
          spare_thumbnails: bool = False) -> Iterator[View]:
    """The inputs one file gives: of a picture ``centre`` and then ``hard`` crops, of saved
    arrays (.npy: the first input, .npz: all by name) itself. With ``spare_thumbnails`` a
    picture that has not twice the input's pixels is not cropped hard: blown up it would be
    like nothing the model was made for. Raises InputError."""
    image = bundle.manifest.image
    if file.suffix in (".npy", ".npz"):
        yield View(file, read_arrays(bundle, file))
        return
    if image is None:
        raise InputError(f"{file}: the model's input is no picture; wanted .npy or .npz")
    spec, pixels = bundle.specs[image.tensor], read_picture(file)
    others = first_states(bundle)
    for _ in range(centre):
        yield View(file, {image.tensor: prepare(pixels, image, spec)} | others)
    thumbnail = spare_thumbnails and pixels[..., 0].size < 2 * image.height * image.width
    area = MILD_AREA if thumbnail else HARD_AREA
    for _ in range(hard):
        array = prepare(pixels, image, spec, box=_box(pixels.shape, area, rng))
        if rng.random() < 0.5:
            array = np.ascontiguousarray(array[:, :, ::-1])
        yield View(file, {image.tensor: array} | others)


def _box(shape: tuple[int, ...], share: tuple[float, float], rng: np.random.Generator):
    height, width = shape[:2]
    for _ in range(_TRIES):
        area = rng.uniform(*share) * height * width
        aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
        w, h = np.sqrt(area * aspect), np.sqrt(area / aspect)
        if w <= width and h <= height:
            break
    else:
        w, h = width * np.sqrt(area / (height * width)), height * np.sqrt(area / (height * width))
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return left, top, left + w, top + h
