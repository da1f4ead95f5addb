"""Bundles that several integration tests use, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from split_lab.split import split_model
from tests.support import tiny_models


@dataclass(frozen=True)
class Made:
    """A model's file and its bundle's."""

    model: Path
    bundle: Path


def _make(factory: pytest.TempPathFactory, name: str, data: bytes) -> Made:
    folder = factory.mktemp(name)
    made = Made(folder / f"{name}.tflite", folder / f"{name}.split.tflite")
    made.model.write_bytes(data)
    made.bundle.write_bytes(split_model(made.model, cuts="all"))
    return made


@pytest.fixture(scope="session")
def camera(tmp_path_factory) -> Made:
    """98 kB cross at cut 1, 4 kB at cut 5; a bundle of more than one window of parts."""
    return _make(tmp_path_factory, "camera", tiny_models.camera_model())


@pytest.fixture(scope="session")
def counter(tmp_path_factory) -> Made:
    """A model with explicit state."""
    return _make(tmp_path_factory, "counter", tiny_models.state_model())
