"""Ed25519 signatures of files: who holds the public key can tell who made a bundle.

What is signed is the file's SHA-256 behind a context, so that a signature made here is none
for any other protocol that uses the same key. A signature lies beside its file, as one line of
text: `model.split.tflite.sig`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from split_core.crypto.library import (
    Ed25519PrivateKey, Ed25519PublicKey, InvalidSignature, UnsupportedAlgorithm, serialization,
)
from split_core.errors import BundleError, ConfigError, SplitError
from split_core.files import cannot_write, write_whole

CONTEXT = b"edge-agent signature 1\0"
SIGNATURE_BYTES = 64
_PEM_END = b"-----END PUBLIC KEY-----"
# Of a file that ought to hold keys: more is something else.
_MAX_KEY_FILE_BYTES = 65_536


def generate(path: str | Path) -> Path:
    """A new private key at ``path`` (PEM, readable by its owner alone) and its public key at
    ``path``.pub, which is returned. Raises ConfigError, and what `files.cannot_write` makes of a
    place that takes no file; never writes over a key."""
    path = Path(path)
    public = path.with_name(path.name + ".pub")
    key = Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption())
    public_pem = key.public_key().public_bytes(serialization.Encoding.PEM,
                                               serialization.PublicFormat.SubjectPublicKeyInfo)
    for target in (path, public):                 # before: half a pair is of no use
        if os.path.lexists(target):
            raise _there_already(target)
    try:
        _write_new(path, private_pem, 0o600)
        try:
            _write_new(public, public_pem, 0o644)
        except (FileExistsError, SplitError):
            path.unlink(missing_ok=True)
            raise
    except FileExistsError as e:
        raise _there_already(e.filename) from None
    return public


def _there_already(target: str | Path) -> ConfigError:
    return ConfigError(f"{target} is there already; a key is not written over")


def _write_new(target: Path, data: bytes, mode: int) -> None:
    """A file that was not there. Raises FileExistsError, SplitError; then none is left that is
    half written, and would be in the way of the next attempt."""
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise
    except OSError as e:
        raise cannot_write(target, e) from None
    try:
        with open(handle, "wb") as file:
            file.write(data)
    except OSError as e:
        target.unlink(missing_ok=True)
        raise cannot_write(target, e) from None


def load_private(path: str | Path) -> Ed25519PrivateKey:
    """The private key of a PEM file. Raises ConfigError."""
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise ConfigError(f"{path} is no private key in PEM without a pass phrase: {e}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} holds a {type(key).__name__}, wanted an Ed25519 key")
    return key


def load_public(path: str | Path) -> tuple[Ed25519PublicKey, ...]:
    """The public keys of a PEM file: one, or while keys change several. Raises ConfigError."""
    blocks = [b for b in _read(path).split(_PEM_END) if b.strip()]
    keys = []
    for block in blocks:
        try:
            keys.append(serialization.load_pem_public_key(block + _PEM_END))
        except (ValueError, UnsupportedAlgorithm) as e:
            raise ConfigError(f"{path} is no public key in PEM: {e}") from None
        if not isinstance(keys[-1], Ed25519PublicKey):
            raise ConfigError(f"{path} holds a {type(keys[-1]).__name__}, wanted an Ed25519 key")
    if not keys:
        raise ConfigError(f"{path} holds no public key")
    return tuple(keys)


def sign(digest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature of a SHA-256: 64 bytes."""
    return key.sign(CONTEXT + _checked(digest))


def verify(digest: bytes, signature: bytes, keys: Sequence[Ed25519PublicKey]) -> None:
    """Raises BundleError unless one of the keys made this signature of this SHA-256."""
    if len(signature) != SIGNATURE_BYTES:
        raise BundleError(f"signature of {len(signature)} bytes, wanted {SIGNATURE_BYTES}")
    for key in keys:
        try:
            key.verify(signature, CONTEXT + _checked(digest))
            return
        except InvalidSignature:
            continue
    raise BundleError(f"the signature of {digest.hex()[:16]}... was made by none of the"
                      f" {len(keys)} keys that are trusted here, or for another file")


def signature_path(path: str | Path) -> Path:
    """Where a file's signature lies."""
    return Path(path).with_name(Path(path).name + ".sig")


def sign_file(path: str | Path, key_path: str | Path) -> Path:
    """Write the signature beside a file. Raises ConfigError, BundleError, and what
    `files.cannot_write` makes of a place that takes no file."""
    signature = sign(_digest(path), load_private(key_path))
    beside = signature_path(path)
    write_whole(beside, format_signature(signature))
    return beside


def verify_file(path: str | Path, keys: Sequence[Ed25519PublicKey]) -> bytes:
    """The SHA-256 of a file whose signature beside it is right. Raises BundleError."""
    beside, digest = signature_path(path), _digest(path)
    try:
        text = beside.read_text("ascii")
    except (OSError, UnicodeDecodeError) as e:
        raise BundleError(f"{path} has no signature beside it ({beside}: {e}); sign it with the"
                          " key whose public half is trusted here") from None
    verify(digest, parse_signature(text), keys)
    return digest


def format_signature(signature: bytes) -> str:
    """As it stands in a file or a JSON document."""
    return f"ed25519 {base64.b64encode(signature).decode()}\n"


def parse_signature(text: str) -> bytes:
    """The bytes of a signature's line. Raises BundleError."""
    match text.split():
        case ["ed25519", str(data)]:
            try:
                return base64.b64decode(data, validate=True)
            except binascii.Error:
                pass
    raise BundleError(f"{text[:40]!r} is no signature, wanted: ed25519 BASE64")


def _checked(digest: bytes) -> bytes:
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError(f"a digest of {len(digest)} bytes, wanted a SHA-256")
    return digest


def _digest(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as e:
        raise BundleError(f"cannot read {path}: {e.strerror}") from None


def _read(path: str | Path) -> bytes:
    try:
        with open(os.path.expandvars(path), "rb") as file:
            return file.read(_MAX_KEY_FILE_BYTES)
    except OSError as e:
        raise ConfigError(f"cannot read the key file {path}: {e.strerror}") from None
