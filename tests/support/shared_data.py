"""Models and photos beside the checkout, for tests that use them where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MODELS = sorted((FOLDER / "models").glob("*.tflite"))
needs_models = pytest.mark.skipif(not MODELS, reason=f"no models in {FOLDER / 'models'}")


def model(name: str) -> Path:
    """A shared model, or a skip that says which is missing."""
    path = FOLDER / "models" / name
    if not path.exists():
        pytest.skip(f"no {path}")
    return path


def photos(folder: str = "images/evaluation") -> list[Path]:
    """Photos of a shared folder, or a skip."""
    found = sorted((FOLDER / folder).rglob("*.*"))
    if not found:
        pytest.skip(f"no photos in {FOLDER / folder}")
    return found
