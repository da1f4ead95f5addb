"""Signatures of files, against openssl's, and everything that is none."""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess

import pytest

from split_core.crypto import signature as s
from split_core.errors import BundleError, ConfigError, StorageFailed
from tests.support.full_disk import at_most


@pytest.fixture
def signed(tmp_path):
    """A private key, its public key, and a file with its signature."""
    public = s.generate(tmp_path / "sign.key")
    file = tmp_path / "model.split.tflite"
    file.write_bytes(b"a model" * 1000)
    s.sign_file(file, tmp_path / "sign.key")
    return tmp_path / "sign.key", public, file


def test_a_signed_file_is_known_by_its_public_key(signed):
    _, public, file = signed
    digest = s.verify_file(file, s.load_public(public))
    assert digest == hashlib.sha256(file.read_bytes()).digest()


def test_the_private_key_is_its_owners_and_never_written_over(signed):
    private, public, _ = signed
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        s.generate(private)
    assert private.read_bytes() == before
    assert b"PRIVATE" not in public.read_bytes()


def test_every_flipped_bit_of_a_signature_or_digest_is_refused(signed):
    private, public, file = signed
    keys = s.load_public(public)
    digest = hashlib.sha256(file.read_bytes()).digest()
    signature = s.sign(digest, s.load_private(private))
    s.verify(digest, signature, keys)
    for data, at_digest in ((signature, False), (digest, True)):
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(BundleError, match="none of the 1 keys"):
                s.verify(bytes(flipped) if at_digest else digest,
                         signature if at_digest else bytes(flipped), keys)


def test_a_changed_file_and_a_strangers_signature_are_refused(signed, tmp_path):
    _, public, file = signed
    keys = s.load_public(public)
    other = s.generate(tmp_path / "other.key")
    with pytest.raises(BundleError, match="none of the 1 keys"):
        s.verify_file(file, s.load_public(other))
    data = bytearray(file.read_bytes())
    data[500] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match="or for another file"):
        s.verify_file(file, keys)


def test_keys_change_by_trusting_both_for_a_while(signed, tmp_path):
    _, public, file = signed
    other = s.generate(tmp_path / "other.key")
    both = tmp_path / "both.pem"
    both.write_bytes(other.read_bytes() + public.read_bytes())
    keys = s.load_public(both)
    assert len(keys) == 2
    s.verify_file(file, keys)


def test_openssl_reads_our_keys_and_signs_the_same(signed, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    private, public, file = signed
    (tmp_path / "what").write_bytes(s.CONTEXT + hashlib.sha256(file.read_bytes()).digest())
    subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", "what",
                    "-out", "theirs"], cwd=tmp_path, check=True, timeout=30)
    theirs = (tmp_path / "theirs").read_bytes()
    assert s.format_signature(theirs) == s.signature_path(file).read_text()
    # And keys that openssl made.
    for command in ("genpkey -algorithm ed25519 -out theirs.key",
                    "pkey -in theirs.key -pubout -out theirs.pub"):
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, timeout=30,
                       capture_output=True)
    s.sign_file(file, tmp_path / "theirs.key")
    s.verify_file(file, s.load_public(tmp_path / "theirs.pub"))


def test_a_signature_of_the_bare_digest_is_none(signed):
    """What the key signs elsewhere cannot be shown here."""
    private, public, file = signed
    digest = hashlib.sha256(file.read_bytes()).digest()
    bare = s.load_private(private).sign(digest)
    with pytest.raises(BundleError):
        s.verify(digest, bare, s.load_public(public))


@pytest.mark.parametrize("text", ["", "ed25519", "ed25519 !", "rsa AAAA", "ed25519 AAAA BBBB"])
def test_texts_that_are_no_signature(text, signed):
    _, public, file = signed
    s.signature_path(file).write_text(text)
    with pytest.raises(BundleError, match="is no signature"):
        s.verify_file(file, s.load_public(public))


def test_a_short_signature_and_a_missing_one(signed):
    _, public, file = signed
    s.signature_path(file).write_text("ed25519 AAAA\n")
    with pytest.raises(BundleError, match="signature of 3 bytes, wanted 64"):
        s.verify_file(file, s.load_public(public))
    s.signature_path(file).unlink()
    with pytest.raises(BundleError, match="has no signature beside it"):
        s.verify_file(file, s.load_public(public))


def test_files_that_are_no_keys(signed, tmp_path):
    private, public, file = signed
    with pytest.raises(ConfigError, match="no public key"):
        s.load_public(private)
    with pytest.raises(ConfigError, match="no private key"):
        s.load_private(public)
    with pytest.raises(ConfigError, match="cannot read the key file .*: No such file"):
        s.load_public(tmp_path / "missing")
    if shutil.which("openssl") is not None:
        subprocess.run("openssl ecparam -name prime256v1 -genkey -noout -out ec.key".split(),
                       cwd=tmp_path, check=True, timeout=30)
        with pytest.raises(ConfigError, match="wanted an Ed25519 key"):
            s.load_private(tmp_path / "ec.key")


def test_a_key_that_could_not_be_written_is_not_in_the_way(tmp_path):
    key = tmp_path / "k.pem"
    with at_most(10), pytest.raises(StorageFailed, match=f"cannot write {key}: "):
        s.generate(key)
    assert not list(tmp_path.iterdir())
    assert s.generate(key).exists()


@pytest.mark.parametrize("make", [lambda p: p.write_text("theirs"), lambda p: p.symlink_to("gone")])
def test_half_a_pair_is_never_made(tmp_path, make):
    key, public = tmp_path / "k.pem", tmp_path / "k.pem.pub"
    make(public)
    with pytest.raises(ConfigError, match=f"{public} is there already"):
        s.generate(key)
    assert not key.exists()


@pytest.mark.parametrize("wrong", [ConfigError("the disk is full"), FileExistsError(17, "", "x")])
def test_a_public_key_that_cannot_be_written_takes_the_private_one_along(tmp_path, monkeypatch,
                                                                         wrong):
    write_new = s._write_new

    def fails(target, data, mode):
        if target.suffix == ".pub":
            raise wrong
        write_new(target, data, mode)

    monkeypatch.setattr(s, "_write_new", fails)
    with pytest.raises(ConfigError):
        s.generate(tmp_path / "k.pem")
    assert not list(tmp_path.iterdir())
