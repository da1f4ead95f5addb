"""Keys and ends of sealed exchanges for tests."""

from __future__ import annotations

import base64
from pathlib import Path

from split_core.crypto.keyring import Keyring, parse_keyring

DEVICE, WORKER = 0x1111_2222_3333_4444, 0xAAAA_BBBB_CCCC_DDDD    # sessions
TO_WORKER, TO_DEVICE = "si/v1/_pool/w/in/d", "si/v1/d/dn/in/w"


def key(number: int) -> str:
    """A key as it stands in a file, another for each number."""
    return base64.b64encode(bytes([number]) * 32).decode()


def ring(*lines: str) -> Keyring:
    return parse_keyring("\n".join(lines), "test")


def keys_file(directory: Path, *lines: str, name: str = "seal-keys") -> Path:
    path = directory / name
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n")
    return path
