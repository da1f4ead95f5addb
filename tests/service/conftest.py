from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.fake_systemd import FakeSystemd


@pytest.fixture
def systemd(tmp_path) -> Iterator[FakeSystemd]:
    with FakeSystemd(str(tmp_path / "notify")) as systemd:
        yield systemd
