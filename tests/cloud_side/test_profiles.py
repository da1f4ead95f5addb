"""Profiles of the bundles in a worker's memory: taken from the store, measured, given up."""

from __future__ import annotations

import logging

import msgspec
import pytest

from cloud_side import profiles as module
from cloud_side.profiles import BundleProfiles
from cloud_side.reports import profiles_record
from split_core.cost.profile import Profile, Timing, WorkerProfiles
from split_core.model.bundle import open_bundle
from split_core.model.runner import resolve_runtime
from split_core.wire import records
from split_lab.split import split_model
from tests.support import tiny_models

RUNTIME = resolve_runtime(None)


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skip")
    (folder / "m.tflite").write_bytes(tiny_models.skip_model())
    (folder / "m.split.tflite").write_bytes(split_model(folder / "m.tflite", cuts=[2, 3]))
    return open_bundle(folder / "m.split.tflite")


@pytest.fixture
def profiles(tmp_path) -> BundleProfiles:
    return BundleProfiles(str(tmp_path / "state"), runtime=RUNTIME, threads=1)


def test_one_that_is_new_is_measured_and_kept(profiles, bundle, tmp_path):
    profiles.on_loaded(bundle)
    assert profiles.missing == 1 and profiles.current == ()
    profiles.measure_one(never)
    assert profiles.missing == 0
    (profile,) = profiles.current
    assert profile.matches(bundle) and profile.runtime == RUNTIME
    again = BundleProfiles(str(tmp_path / "state"), runtime=RUNTIME, threads=1)
    again.on_loaded(bundle)
    assert again.missing == 0 and again.current == (profile,)
    # With more threads it takes another time.
    other = BundleProfiles(str(tmp_path / "state"), runtime=RUNTIME, threads=2)
    other.on_loaded(bundle)
    assert other.missing == 1


def test_one_that_leaves_takes_its_profile_with_it(profiles, bundle):
    profiles.on_loaded(bundle)
    profiles.on_gone(bundle.sha256)
    assert profiles.missing == 0
    profiles.measure_one(never)
    assert profiles.current == ()
    profiles.on_loaded(bundle)
    profiles.measure_one(never)
    profiles.on_gone(bundle.sha256)
    assert profiles.current == () and profiles.missing == 0
    profiles.on_gone(bytes(32))


def test_an_interrupted_one_is_still_to_do(profiles, bundle, monkeypatch):
    begun = []
    real = module.measure
    monkeypatch.setattr(module, "measure", lambda *a, **k: begun.append(1) or real(*a, **k))
    profiles.on_loaded(bundle)
    profiles.measure_one(lambda: True)
    assert not begun, "it does not even begin"
    profiles.measure_one(iter([False, False, True]).__next__)
    assert begun == [1] and profiles.missing == 1 and profiles.current == ()
    profiles.measure_one(never)
    assert len(profiles.current) == 1


def test_one_that_is_done_is_not_interrupted_any_more(profiles, bundle, monkeypatch):
    def measure(bundle, *, progress, **options):
        progress(100, 100)
        return made(bundle.id_hex)

    monkeypatch.setattr(module, "measure", measure)
    profiles.on_loaded(bundle)
    profiles.measure_one(iter([False]).__next__)         # asked once: before it began
    assert len(profiles.current) == 1


def test_one_that_takes_too_long_is_given_up(profiles, bundle, monkeypatch, caplog):
    monkeypatch.setattr(module, "_MOST_S", 0.0)
    profiles.on_loaded(bundle)
    with caplog.at_level(logging.WARNING):
        profiles.measure_one(never)
    assert profiles.missing == 0 and profiles.current == ()
    assert "event=not-profiled" in caplog.text and "cloud-worker profile" in caplog.text


def test_one_that_cannot_be_measured_is_given_up(profiles, bundle, monkeypatch, caplog):
    def fails(*_, **__):
        raise MemoryError("too much")

    monkeypatch.setattr(module, "measure", fails)
    profiles.on_loaded(bundle)
    with caplog.at_level(logging.WARNING):
        profiles.measure_one(never)
    assert profiles.missing == 0 and "too much" in caplog.text


def test_without_a_place_to_write_it_is_published_all_the_same(bundle, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    profiles = BundleProfiles(str(tmp_path / "file"), runtime=RUNTIME, threads=1)
    with caplog.at_level(logging.WARNING):
        profiles.on_loaded(bundle)
        profiles.measure_one(never)
    assert len(profiles.current) == 1
    assert "event=profile-not-kept" in caplog.text


def test_without_a_home_nothing_is_kept(bundle, monkeypatch, caplog):
    def homeless(program):
        raise module.ConfigError("no home folder")

    monkeypatch.setattr(module, "default_state_dir", homeless)
    with caplog.at_level(logging.WARNING):
        profiles = BundleProfiles(None, runtime=RUNTIME, threads=1)
    profiles.on_loaded(bundle)
    profiles.measure_one(never)
    assert len(profiles.current) == 1 and "no home folder" in caplog.text


# -- the record

def made(bundle: str, segments: int = 3) -> Profile:
    return Profile(bundle=bundle, machine="m", runtime="r", threads=1,
                   segments=(Timing(0.001, 0.0),) * segments, codings=(), whole_s=0.003,
                   made="2026-05-01T12:00:00+00:00")


def test_the_record_holds_what_fits_into_one_publication():
    given = tuple(made(f"{i:064x}", 10 * (i + 1)) for i in range(9))
    whole = profiles_record(given, 60_000)
    assert whole.profiles == given
    size = len(records.dump(whole))
    # One byte of room for a comma that the last has not.
    assert profiles_record(given, size + 1).profiles == given
    assert profiles_record(given, size).profiles == given[:8]
    assert profiles_record(given, 10).profiles == ()
    # One that is too large for any makes no room go to waste.
    large = made("ff" * 32, 9000)
    assert profiles_record((large, *given), 60_000).profiles == given


def test_the_record_is_one_that_readers_take():
    given = tuple(made(f"{i:064x}", 1) for i in range(70))
    record = profiles_record(given, 60_000)
    assert record.profiles == given[:64]
    assert records.load(records.dump(record), WorkerProfiles) == record
    with pytest.raises(records.MessageError):
        records.load(msgspec.json.encode({"profiles": given[:65]}), WorkerProfiles)
