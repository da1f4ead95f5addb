"""Bundles on a worker's disk: proven, bounded, least recently used first to go."""

from __future__ import annotations

import os
import time

import pytest

from cloud_side import store as module
from cloud_side.store import BundleStore
from split_core.errors import BundleError, ConfigError
from split_core.model.bundle import Unreadable, verify
from split_lab.split import split_model
from tests.support import tiny_models

A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))


@pytest.fixture
def store(tmp_path) -> BundleStore:
    return BundleStore(tmp_path / "deep" / "store", max_bytes=1000)


def put(store: BundleStore, digest: bytes, nbytes: int, last_use_s: float) -> None:
    store.path(digest).write_bytes(bytes(nbytes))
    os.utime(store.path(digest), (last_use_s, last_use_s))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> bytes:
    model = tmp_path_factory.mktemp("model") / "m.tflite"
    model.write_bytes(tiny_models.skip_model())
    return split_model(model)


def test_it_makes_its_folder(store):
    assert store.folder.is_dir() and store.digests() == []
    put(store, A, 1, 100)
    assert BundleStore(store.folder, 1000).digests() == [A], "and takes one that is there"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_a_setting_to_mend(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="store"):
        BundleStore(tmp_path / "store", 1000)


def test_a_file_in_its_place_is_a_setting_to_mend(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(ConfigError, match="cannot make the store"):
        BundleStore(tmp_path / "store", 1000)


def test_what_is_held_most_recently_used_first(store):
    put(store, A, 10, 100)
    put(store, B, 10, 300)
    put(store, C, 10, 200)
    assert store.digests() == [B, C, A]
    assert store.holds(A) and not store.holds(bytes(32))


def test_files_of_other_names_are_nobodys_bundles(store):
    for name in ("note.txt", "zz.split.tflite", "abcd.split.tflite", "x.part"):
        (store.folder / name).write_text("")
    assert store.digests() == []


def test_the_least_recently_used_go_first_until_all_fits(store):
    put(store, A, 400, 100)
    put(store, B, 400, 300)
    put(store, C, 400, 200)
    store.trim(keep=B)
    assert store.digests() == [B, C]
    store.trim(keep=B)
    assert store.digests() == [B, C], "800 of 1000 bytes"
    put(store, A, 200, 100)
    store.trim(keep=B)
    assert store.digests() == [B, C, A], "1000 of 1000 bytes"


def test_the_one_that_is_needed_now_is_never_thrown_away(store):
    put(store, A, 900, 100)
    put(store, B, 900, 300)
    store.trim(keep=A)
    assert store.digests() == [A]
    put(store, B, 5000, 300)
    store.trim(keep=B)
    assert store.digests() == [B], "even alone above the bound"


def test_opening_proves_and_counts_as_a_use(store, bundle):
    _, digest = verify(bundle)
    store.path(digest).write_bytes(bundle)
    os.utime(store.path(digest), (100, 100))
    put(store, A, 10, 200)
    assert store.open(digest).sha256 == digest
    assert store.digests()[0] == digest


@pytest.mark.parametrize("spoil", [
    lambda data: data[:-1] + bytes([data[-1] ^ 1]),          # a flipped bit
    lambda data: data[: len(data) // 2],
    lambda data: b"",
])
def test_a_damaged_file_is_refused_and_thrown_away(store, bundle, spoil):
    _, digest = verify(bundle)
    store.path(digest).write_bytes(spoil(bundle))
    with pytest.raises(BundleError):
        store.open(digest)
    assert not store.holds(digest), "so that it is fetched anew"


def test_a_sound_bundle_under_a_wrong_name_is_refused_and_thrown_away(store, bundle):
    store.path(A).write_bytes(bundle)
    with pytest.raises(BundleError, match="SHA-256"):
        store.open(A)
    assert not store.holds(A)


def test_one_that_is_not_there(store):
    with pytest.raises(BundleError, match="no such file"):
        store.open(A)


def test_a_transfer_given_up_long_ago_is_forgotten(store):
    old, new = store.folder / "old.split.part", store.folder / "new.split.part"
    for part in (old, new):
        part.write_bytes(b"half")
    week_ago_s = time.time() - 8 * 86_400
    os.utime(old, (week_ago_s, week_ago_s))
    BundleStore(store.folder, 1000)
    assert new.exists() and not old.exists()


def test_what_another_process_takes_away_meanwhile_is_just_not_there(store):
    """`cloud-worker deploy` renames parts and evicts bundles in the same folder: a name that was
    listed may lead nowhere when it is looked at."""
    put(store, A, 400, 100)
    gone, part = store.path(B), store.path(C).with_suffix(".part")
    for name in (gone, part):
        name.symlink_to(store.folder / "nowhere")
    assert store.digests() == [A]
    store.trim(keep=C)
    assert store.digests() == [A], "400 bytes fit"
    store.max_bytes = 100
    store.trim(keep=C)
    assert store.digests() == []
    BundleStore(store.folder, 1000)


def test_a_file_that_cannot_be_read_now_is_kept(tmp_path, monkeypatch):
    """Too many open files, a disk that is away for a moment: the bundle may be whole."""
    store = BundleStore(tmp_path / "store", 1 << 30)
    path = store.path(b"x" * 32)
    path.write_bytes(b"who knows")

    def fails(path):
        raise Unreadable(f"cannot read {path}: Too many open files")

    monkeypatch.setattr(module, "open_bundle", fails)
    with pytest.raises(BundleError, match="Too many open files"):
        store.open(b"x" * 32)
    assert path.exists()
    monkeypatch.undo()
    with pytest.raises(BundleError):
        store.open(b"x" * 32)
    assert not path.exists(), "damaged, it is thrown away"
