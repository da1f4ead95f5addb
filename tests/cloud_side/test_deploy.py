"""An update as its messages tell of it, and what a store takes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil

import pytest

from cloud_side.cli import main as cloud_worker
from cloud_side.deploy import Course, Order, signature_of
from cloud_side.store import BundleStore
from split_core.errors import BundleError, StorageFailed
from split_core.model.bundle import open_bundle
from tests.edge_agent.models.making import bundle_of
from tests.support import tiny_models

SHA256 = "ab" * 32


@pytest.fixture
def said():
    return []


@pytest.fixture
def course(said):
    return Course("pi", Order(SHA256, 1000, "w1", id="d1"), said.append)


def reply(state=None, **more):
    record = {"id": "d1", "status": "ok", "data": {"state": state} | more}
    return record if state else {"id": "d1", "status": "error", "error": more["error"]}


def test_the_command_says_all_that_a_device_needs():
    order = Order(SHA256, 1000, "w1", "ed25519 AAAA", force=True, id="d1")
    assert json.loads(order.payload()) == {
        "id": "d1", "sha256": SHA256, "bytes": 1000, "from": "w1", "signature": "ed25519 AAAA",
        "force": True}
    assert Order(SHA256, 1, "w1").id != Order(SHA256, 1, "w1").id


def test_a_device_is_told_once_it_is_there_and_once_a_life(course, said):
    assert not course.seen and not course.send
    course.on_status({"state": "lost", "session": "1"})
    assert course.seen and not course.send and "pi is not connected (lost)" in said[-1]
    course.on_status({"state": "ready", "session": "2"})
    assert course.send
    course.send = False
    course.on_status({"state": "ready", "session": "2"})
    assert not course.send
    course.on_status({"state": "ready", "session": "3"})
    assert course.send and "has started anew" in said[-1]


def test_swapped_is_the_end_and_a_restart_then_is_none(course, said):
    course.on_status({"state": "ready", "session": "1"})
    course.on_reply(reply("fetching", received_bytes=250, bytes=1000))
    assert said[-1] == "pi: fetching, 25 % of 1000 bytes"
    course.on_reply(reply("testing"))
    assert course.state is None
    course.on_reply(reply("swapped", model="cats"))
    assert course.state == "swapped" and "cats is in force" in said[-1]
    course.send = False
    course.on_status({"state": "ready", "session": "2"})
    course.on_reconnect()
    assert not course.send


def test_others_replies_and_events_are_not_ours(course):
    course.on_reply({"id": "d2", "status": "error", "error": "no"})
    course.on_reply({})
    course.on_event({"event": "model-rolled-back", "was": "cd" * 32, "reason": "x"})
    course.on_event({"event": "model-confirmed", "bundle": "cd" * 32})
    course.on_event({})
    assert course.state is None


def test_a_refusal_ends_it_with_the_devices_words(course):
    with pytest.raises(BundleError, match="pi refused: no room"):
        course.on_reply(reply(error="no room"))


def test_in_force_already_is_well(course):
    course.on_reply(reply("in-force"))
    assert course.state == "in-force"


def test_confirmed_waits_for_the_trial(said):
    course = Course("pi", Order(SHA256, 1000, "w1", id="d1"), said.append, until_confirmed=True)
    course.on_reply(reply("swapped"))
    assert course.state is None
    course.on_event({"event": "model-confirmed", "bundle": SHA256})
    assert course.state == "confirmed"
    with pytest.raises(BundleError, match="pi rolled it back: 5 frames failed"):
        course.on_event({"event": "model-rolled-back", "was": SHA256, "reason": "5 frames failed"})


def test_a_new_connection_asks_again(course):
    course.on_reconnect()
    assert not course.send, "it was never told"
    course.on_status({"state": "ready", "session": "1"})
    course.send = False
    course.on_reconnect()
    assert course.send


# -- signatures


def test_keys_sign_and_deploy_belong_together(tmp_path, capfd):
    pytest.importorskip("cryptography", reason="the extra e2e is not installed")
    from split_core.crypto.signature import load_public, parse_signature, verify

    bundle, key = tmp_path / "m.split.tflite", tmp_path / "key.pem"
    bundle.write_bytes(b"a bundle")
    assert signature_of(bundle, None) is None
    assert cloud_worker(["keys", str(key)]) == 0
    out, err = capfd.readouterr()
    assert out == f"{key}.pub\n" and "is private" in err
    assert key.stat().st_mode & 0o077 == 0
    assert cloud_worker(["keys", str(key)]) == 78, "a key is never written over"
    by_key = signature_of(bundle, str(key))
    assert cloud_worker(["sign", str(bundle), "--key", str(key)]) == 0
    assert capfd.readouterr().out == f"{bundle}.sig\n"
    digest = hashlib.sha256(b"a bundle").digest()
    for signature in (by_key, signature_of(bundle, None)):
        verify(digest, parse_signature(signature), load_public(f"{key}.pub"))
    (tmp_path / "m.split.tflite.sig").write_text("nonsense")
    with pytest.raises(BundleError, match="is no signature"):
        signature_of(bundle, None)


def test_deploy_needs_to_know_a_store(tmp_path, capfd):
    assert cloud_worker(["deploy", "m", "--device", "pi", "--broker", "mqtt://127.0.0.1:1"]) == 64
    assert "give --config FILE, or --store" in capfd.readouterr().err


# -- the store


def test_a_bundle_is_put_in_whole(tmp_path):
    bundle = bundle_of(tmp_path, "m", tiny_models.skip_model())
    store = BundleStore(tmp_path / "store", 1 << 30)
    put = store.put(bundle)
    assert put.sha256 == open_bundle(bundle).sha256 and store.digests() == [put.sha256]
    assert store.open(put.sha256).manifest.name == "m"
    assert [f.name for f in store.folder.iterdir()] == [f"{put.id_hex}.split.tflite"]
    assert store.put(bundle).sha256 == put.sha256, "again is no error"


def test_what_is_no_bundle_is_not_put_in(tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(tiny_models.skip_model())
    store = BundleStore(tmp_path / "store", 1 << 30)
    with pytest.raises(BundleError, match="this is a model, not a bundle"):
        store.put(model)
    assert not list(store.folder.iterdir())


def test_what_is_put_in_stays_and_the_oldest_makes_room(tmp_path):
    one, two = (bundle_of(tmp_path, f"m{s}", tiny_models.skip_model(s)) for s in (1, 2))
    store = BundleStore(tmp_path / "store", one.stat().st_size + 100)
    store.put(one)
    put = store.put(two)
    assert store.digests() == [put.sha256]


def test_no_link_that_lies_in_the_store_leads_out_of_it(tmp_path, monkeypatch):
    """Root puts a bundle into a folder of the service's, who may have laid links to anything
    under whatever name it guesses, and may do so while the copy is made."""
    bundle = bundle_of(tmp_path, "m", tiny_models.skip_model())
    store = BundleStore(tmp_path / "store", 1 << 30)
    victim = tmp_path / "shadow"
    victim.write_text("root's")
    victim.chmod(0o600)
    owned, target = [], store.path(open_bundle(bundle).sha256)
    for name in (target, target.with_suffix(f".{os.getpid()}.part"), target.with_suffix(".part")):
        name.symlink_to(victim)

    def swap(handle, uid, gid):
        owned.append(os.fstat(handle).st_ino)
        for part in store.folder.glob("*.part"):
            part.unlink()
            part.symlink_to(victim)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", swap)
    monkeypatch.setattr(os, "chown", lambda *_: pytest.fail("a name was given away"))
    store.put(bundle)
    assert victim.read_text() == "root's" and victim.stat().st_mode & 0o777 == 0o600
    assert owned and victim.stat().st_ino not in owned


@pytest.mark.parametrize("failing", ["fchmod", "fsync", "replace"])
def test_what_could_not_be_put_in_leaves_nothing(tmp_path, monkeypatch, failing):
    bundle = bundle_of(tmp_path, "m", tiny_models.skip_model())
    store = BundleStore(tmp_path / "store", 1 << 30)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(StorageFailed, match="cannot write .*store/m.* No space left"):
        store.put(bundle)
    assert not list(store.folder.iterdir())


def test_a_bundle_that_changes_while_it_is_copied_is_not_put_in(tmp_path, monkeypatch):
    one, two = (bundle_of(tmp_path, f"m{s}", tiny_models.skip_model(s)) for s in (1, 2))
    store, copy = BundleStore(tmp_path / "store", 1 << 30), shutil.copyfileobj
    for put_there in (two.read_bytes(), one.read_bytes()[:-9], b""):
        monkeypatch.setattr(shutil, "copyfileobj",
                            lambda source, file, data=put_there: copy(io.BytesIO(data), file))
        with pytest.raises(BundleError, match="changed while it was copied"):
            store.put(one)
        assert not list(store.folder.iterdir())


@pytest.mark.parametrize("data", [[], "swapped", {"state": ["swapped"]}, {"state": 7},
                                  {"state": "fetching", "received_bytes": "much", "bytes": None},
                                  {"state": "fetching", "received_bytes": 5, "bytes": 0}])
def test_what_makes_no_sense_in_a_reply_is_left_out(course, data):
    course.on_reply({"id": "d1", "status": "ok", "data": data})
    assert course.state is None
