"""Profiles on disk: whole or not at all, and a damaged one is measured again."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from split_core.cost.profile import Profile, Timing
from split_core.cost.store import ProfileStore
from split_core.errors import StorageFailed, UsageError
from split_core.model.bundle import open_bundle
from split_core.settings.places import default_state_dir
from split_lab.split import split_model
from tests.support import tiny_models


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "m.tflite").write_bytes(tiny_models.skip_model())
    path = tmp_path / "m.split.tflite"
    path.write_bytes(split_model(tmp_path / "m.tflite", cuts=[3]))
    return open_bundle(path)


@pytest.fixture
def profile(bundle):
    return Profile(bundle.id_hex, "pi", "litert", 2, (Timing(0.1, 0.0),) * 2, (), 0.2, "today")


def test_what_is_saved_is_loaded(tmp_path, bundle, profile):
    store = ProfileStore(tmp_path / "state")
    assert store.load(bundle, "pi", "litert", 2) is None
    path = store.save(profile)
    assert path == tmp_path / f"state/profiles/{bundle.id_hex[:16]}-pi-litert-2.json"
    assert store.load(bundle, "pi", "litert", 2) == profile
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no part is left"
    for other in (("pi5", "litert", 2), ("pi", "tflite-runtime", 2), ("pi", "litert", 1)):
        assert store.load(bundle, *other) is None


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:-1], lambda data: b"\0" * len(data),
    lambda data: data.replace(b'"pi"', b'"pi5"'), lambda data: data.replace(b"0.1", b"-1"),
    lambda data: data.replace(b'{"median_s":0.1,"spread_s":0.0},', b""),
    lambda data: data + b" " * (1 << 20),
])
def test_a_damaged_one_is_ignored_once_and_replaced(tmp_path, bundle, profile, damage, caplog):
    store = ProfileStore(tmp_path)
    path = store.save(profile)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert store.load(bundle, "pi", "litert", 2) is None
    (line,) = caplog.messages
    assert "event=profile-ignored" in line and str(path) in line
    store.save(profile)
    assert store.load(bundle, "pi", "litert", 2) == profile


def test_a_write_that_fails_leaves_the_old_one(tmp_path, bundle, profile, monkeypatch):
    store = ProfileStore(tmp_path)
    store.save(profile)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("split_core.files.os.replace", full)
    with pytest.raises(StorageFailed, match="No space left"):
        store.save(msgspec.structs.replace(profile, whole_s=9.0))
    monkeypatch.undo()
    assert store.load(bundle, "pi", "litert", 2) == profile
    assert len([*store.folder.iterdir()]) == 1


def test_a_state_folder_that_is_a_file_says_so(tmp_path, profile):
    (tmp_path / "state").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        ProfileStore(tmp_path / "state").save(profile)


@pytest.mark.parametrize("environment, wanted", [
    ({"STATE_DIRECTORY": "/var/lib/edge-agent:/var/lib/other", "XDG_STATE_HOME": "/s"},
     "/var/lib/edge-agent"),
    ({"XDG_STATE_HOME": "/s"}, "/s/edge-agent"),
    ({"XDG_STATE_HOME": "relative"}, "/home/x/.local/state/edge-agent"),
    ({}, "/home/x/.local/state/edge-agent"),
])
def test_where_state_is_kept(environment, wanted, monkeypatch):
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/x"} | environment).items():
        monkeypatch.setenv(name, value)
    assert default_state_dir("edge-agent") == Path(wanted)
