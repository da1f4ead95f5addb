"""Camera-like frames of a meter with four handwritten digits, made on the spot.

A frame is a pure function of (seed, split, index): the same three give the same
bytes on the same machine, so a demo needs neither a camera nor stored pictures
and its answers can be checked. The digits are real handwriting; everything
around them is drawn (scene.py) and photographed (camera.py).
This module reads no file but digits.npz and knows no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from split_lab.demo import camera, scene, shapes

HEIGHT_PX = shapes.HEIGHT_PX
WIDTH_PX = shapes.WIDTH_PX
DIGITS_PER_FRAME = scene.CELLS

Split = Literal["train", "test"]

_DIGITS_FILE = Path(__file__).with_name("digits.npz")
# One draw of 1797 permutes the digits once and for all. Changing it invalidates
# the shipped model: digits it was trained on would turn up in its test frames.
_SPLIT_SEED = 20
# A fifth: 359 digits, so one misread shape weighs 0.3 points, and the net still
# sees 1438 different ones.
_TEST_RATIO = 0.2
_SPLIT_KEYS = {"train": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and the answer a reader of it should give."""

    pixels: np.ndarray
    """uint8 [HEIGHT_PX, WIDTH_PX, 3], RGB."""
    text: str
    """The four digits from left to right."""
    middles_px: tuple[tuple[float, float], ...]
    """(column, row) of each digit's window; training and overlays use it, the net does not see it."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Handwritten digits with their labels."""

    images: np.ndarray
    """uint8 [n, 8, 8]; 0 is paper, 16 is full ink."""
    labels: np.ndarray
    """uint8 [n], 0..9."""
    source_rows: np.ndarray
    """int64 [n], which rows of digits.npz these are."""


def train_digits() -> Digits:
    """The digits that training frames are written with."""
    return _split_digits()[0]


def test_digits() -> Digits:
    """The digits that test frames are written with; none is a training digit."""
    return _split_digits()[1]


test_digits.__test__ = False  # pytest would collect it by its name


def compose(index: int, split: Split, *, seed: int = 0) -> Frame:
    """Frame number `index` of an endless, reproducible sequence."""
    if split not in _SPLIT_KEYS:
        raise ValueError(f"split is {split!r}, wanted one of {sorted(_SPLIT_KEYS)}")
    if index < 0 or seed < 0:
        raise ValueError(f"index {index} and seed {seed} must not be negative")
    digits = train_digits() if split == "train" else test_digits()
    rng = np.random.default_rng((seed, _SPLIT_KEYS[split], index))
    chosen = rng.integers(0, len(digits.labels), DIGITS_PER_FRAME)
    text = "".join(str(label) for label in digits.labels[chosen])
    light, view = scene.draw(digits.images[chosen], rng)
    return Frame(camera.photograph(light, rng), text, scene.window_middles_px(view))


@cache
def _split_digits() -> tuple[Digits, Digits]:
    with np.load(_DIGITS_FILE, allow_pickle=False) as stored:
        images, labels = stored["images"], stored["labels"]
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    n_test = round(len(labels) * _TEST_RATIO)
    test, train = np.sort(order[:n_test]), np.sort(order[n_test:])
    return _pick(images, labels, train), _pick(images, labels, test)


def _pick(images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> Digits:
    picked = Digits(images[rows], labels[rows], rows)
    for array in (picked.images, picked.labels, picked.source_rows):
        array.flags.writeable = False  # cached and shared: a caller must not change it
    return picked
