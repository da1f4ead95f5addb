"""Models on disk: named by their digests, proven, and no more of them than needed."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from edge_agent.models import store as module
from edge_agent.models.rollout import Record, swapped
from edge_agent.models.store import RESERVE_BYTES, ModelStore, NoSpace
from split_core.blobs import PART_BYTES
from split_core.errors import ConfigError
from split_core.wire.messages import BlobPart

DATA = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(tmp_path / "state")


def fill(store: ModelStore, *digests: str) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    for sha256 in digests:
        store.path(sha256).write_bytes(b"x")


def names(store: ModelStore) -> list[str]:
    return sorted(f.name for f in store.folder.iterdir())


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "ab", "zz" * 32, "ab" * 33])
def test_only_a_digest_becomes_a_path(store, name):
    with pytest.raises(ValueError):
        store.path(name)


def test_a_record_is_kept_whole(store):
    assert store.load() is None
    record = swapped(Record("f" * 64), "a" * 64, "now")
    store.save(record)
    assert store.load() == record and names(store) == ["current.json"]


def test_what_lies_beside_the_record_is_not_written_through(store, tmp_path):
    """A record is on the disk, and then its name is."""
    store.folder.mkdir(parents=True)
    (tmp_path / "other").write_text("other")
    (store.folder / "current.new").symlink_to(tmp_path / "other")
    store.save(Record("f" * 64))
    assert (tmp_path / "other").read_text() == "other" and not store.record_path.is_symlink()
    assert store.load() == Record("f" * 64)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"configured_sha256": "../x"}', "\xff"])
def test_a_damaged_record_is_none(store, text, caplog):
    store.folder.mkdir(parents=True)
    store.record_path.write_text(text, "latin-1")
    assert store.load() is None and "event=model-record-ignored" in caplog.text


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="set state_dir to a folder that may be written"):
        ModelStore(tmp_path / "file").save(Record("f" * 64))


def test_proven_is_what_has_its_digest(store):
    assert not store.proven(SHA256)
    store.folder.mkdir(parents=True)
    store.path(SHA256).write_bytes(DATA)
    store.settle(SHA256)
    assert store.proven(SHA256)
    store.path(SHA256).write_bytes(DATA[:-1] + b"?")
    assert not store.proven(SHA256)


def test_what_nothing_leads_to_is_thrown_away(store):
    fill(store, "a" * 64, "b" * 64, "c" * 64)
    for name in ("young.part", "old.part", "x.trial"):
        (store.folder / name).write_bytes(b"")
    os.utime(store.folder / "old.part", (0, 0))
    store.save(Record("f" * 64))
    store.prune(frozenset({"a" * 64, "c" * 64}))
    assert names(store) == sorted([f"{'a' * 64}.tflite", f"{'c' * 64}.tflite", "current.json",
                                   "young.part"])


def test_pruning_needs_no_folder(store):
    store.prune(frozenset())
    assert not store.folder.exists()


def test_room_is_looked_for_before_anything_is_fetched(store, monkeypatch):
    usage = shutil.disk_usage("/")

    def free(nbytes):
        monkeypatch.setattr(module.shutil, "disk_usage", lambda f: usage._replace(free=nbytes))

    needed = 2 * len(DATA) + RESERVE_BYTES
    free(needed - 1)
    with pytest.raises(NoSpace, match=f"needs {needed} free in .*; there are {needed - 1}"):
        store.fetch(SHA256, len(DATA))
    free(needed)
    blob = store.fetch(SHA256, len(DATA))
    # What is here already is not needed a second time.
    digest = bytes.fromhex(SHA256)
    for offset in (0, PART_BYTES):
        part = BlobPart(digest, offset, len(DATA), DATA[offset:offset + PART_BYTES])
        assert not blob.add(part, 0.0)
    free(needed - PART_BYTES)
    assert store.fetch(SHA256, len(DATA)).received == PART_BYTES
    free(needed - PART_BYTES - 1)
    with pytest.raises(NoSpace):
        store.fetch(SHA256, len(DATA))


def test_what_cannot_be_thrown_away_stays_and_harms_nothing(store, caplog):
    """A card that has become read-only: the agent has to start all the same."""
    fill(store, "a" * 64, "c" * 64)
    store.path("b" * 64).mkdir()              # no file, so that not even root can unlink it
    store.prune(frozenset({"a" * 64}))
    assert names(store) == [f"{'a' * 64}.tflite", f"{'b' * 64}.tflite"]
    assert "event=model-not-removed" in caplog.text
