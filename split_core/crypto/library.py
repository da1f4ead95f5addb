"""What is used of the package `cryptography`, or the error that says how to get it."""

from __future__ import annotations

from split_core.errors import ConfigError

try:
    from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey, Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as e:
    raise ConfigError("keys for sealing or signing are configured, and the package that uses them"
                      f" is not installed here: pip install 'edge-agent[e2e]' ({e})") from e

__all__ = ["HKDF", "ChaCha20Poly1305", "Ed25519PrivateKey", "Ed25519PublicKey",
           "InvalidSignature", "InvalidTag", "UnsupportedAlgorithm", "hashes", "serialization"]
