"""Files of keys: what is read, what is refused, and that no message shows a key."""

from __future__ import annotations

import os

import pytest

from split_core.crypto.keyring import parse_keyring, read_keyring
from split_core.errors import ConfigError
from tests.crypto.making import key, keys_file, ring


def test_the_first_key_shared_with_the_receiver_seals_and_any_opens():
    keys = ring("# comment", "", f"new {key(1)}  # of May", f"old {key(2)}", f"door {key(3)} door")
    assert keys.to_seal("w1").name == "new"
    for name in ("new", "old"):
        held = next(k for k in keys.keys if k.name == name)
        assert keys.to_open(held.id, "anyone") is held


def test_a_key_of_named_nodes_is_for_them_alone():
    keys = ring(f"door {key(3)} door", f"gate {key(4)} gate side-gate")
    assert keys.to_seal("door").name == "door"
    assert keys.to_seal("side-gate").name == "gate"
    assert keys.to_seal("w1") is None
    door, gate = keys.keys
    assert keys.to_open(door.id, "door") is door
    assert keys.to_open(door.id, "gate") is None       # the gate cannot pose as the door ...
    assert keys.to_open(gate.id, "door") is None       # ... with its own key


def test_ids_differ_and_do_not_show_the_key():
    a, b = ring(f"a {key(1)}", f"b {key(2)}").keys
    assert a.id != b.id and len(a.id) == 8
    assert a.id not in a.secret and a.secret[:8] != a.id
    assert repr(a.secret) not in repr(a)


@pytest.mark.parametrize("text, words", [
    ("", "no keys"),
    ("# only a comment", "no keys"),
    ("fleet", "line 1: one word"),
    (f"\nfleet {key(1)[:-4]}", "line 2: a key of 30 bytes, wanted 32"),
    ("fleet not!base64", "line 1: the second word is not base64"),
    ("fleet schlüssel", "not base64"),
    (f"a {key(1)}\nb {key(1)}", "listed twice"),
    (f"a {key(1)} si/v1", "id 'si/v1'"),
])
def test_what_is_no_key_file_is_refused_with_its_line(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_keyring(text, "keys")


def test_an_error_never_holds_a_key(tmp_path):
    secret = key(9)
    for text in (f"a {secret}x", f"{secret}", f"a {secret[:-3]}", f"a {secret}\nb {secret}"):
        with pytest.raises(ConfigError) as caught:
            parse_keyring(text, "keys")
        assert secret[:16] not in str(caught.value)


def test_a_file_that_everybody_may_read_is_refused(tmp_path):
    path = keys_file(tmp_path, f"fleet {key(1)}")
    assert read_keyring(path).to_seal("w").name == "fleet"
    os.chmod(path, 0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_keyring(path)


def test_a_credential_of_systemd(tmp_path, monkeypatch):
    keys_file(tmp_path, f"fleet {key(1)}")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_keyring("$CREDENTIALS_DIRECTORY/seal-keys").to_seal("w").name == "fleet"


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read seal.keys_file .*missing: No such file"):
        read_keyring(tmp_path / "missing")
    path = keys_file(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a text of keys"):
        read_keyring(path)
