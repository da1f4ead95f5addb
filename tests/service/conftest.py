"""systemd's stand-in, and what it starts. A test file says which ``program`` and by which
``files``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.service.fake_systemd import FakeSystemd, Service, service


@pytest.fixture
def systemd(tmp_path) -> Iterator[FakeSystemd]:
    with FakeSystemd(str(tmp_path / "notify")) as systemd:
        yield systemd


@pytest.fixture
def run(systemd, program, files, tmp_path) -> Iterator[Callable[..., Service]]:
    """Start ``program`` by the configuration of ``files``, with further options."""
    with contextlib.ExitStack() as stack:
        def start(*options: str, **more) -> Service:
            return stack.enter_context(service(systemd, tmp_path / "log", program, "run", "-c",
                                               str(files.config), *options, **more))

        yield start
