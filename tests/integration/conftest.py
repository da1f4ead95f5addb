"""Bundles that several integration tests use, made once; and the broker as it is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.calibrated import calibrate_roughly
from tests.support.secured import SecuredBroker, SecuredPool


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


@pytest.fixture(scope="session")
def layered(tmp_path_factory) -> Made:
    """The camera's model, calibrated at cut 1: 3 kB a base layer, 4.5 kB its refinement. Of
    noise about half of the answers by the base layer are less sure than 0.75."""
    made = _make(tmp_path_factory, "layered", tiny_models.camera_model())
    calibrate_roughly(made.model, made.bundle, 1, margin=0.75)
    return made


@pytest.fixture(scope="session")
def doubtful(tmp_path_factory) -> Made:
    """The same, but no answer is sure enough."""
    made = _make(tmp_path_factory, "doubtful", tiny_models.camera_model())
    calibrate_roughly(made.model, made.bundle, 1, margin=1.0)
    return made


@pytest.fixture
def broker(tmp_path, names) -> Iterator[SecuredBroker]:
    """With certificates and the shipped ACL, for the ``names`` of the test's file."""
    with SecuredBroker(tmp_path, names) as running:
        yield running


@pytest.fixture
def pool(broker) -> Iterator[SecuredPool]:
    with SecuredPool(broker) as running:
        yield running
