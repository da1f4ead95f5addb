"""What holds for every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _logs_are_left_as_found() -> Iterator[None]:
    """A command that runs in this process sends logs to its standard error, which is gone when
    the next test logs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = [h for h in root.handlers if h in handlers]
    root.setLevel(level)
