"""The keys that messages are sealed with: one file on each node that shares them.

    # name       key: 32 bytes as base64                        nodes it is shared with (none: all)
    fleet-2026b  mO0Vw6dGZ3cT0m1sY2bqv1oY3C9cQm1cJ0m0l2n4b1s=
    door-1       1Fh5cQm1cJ0m0l2n4b1smO0Vw6dGZ3cT0m1sY2bqv1o=  door

A message is sealed with the first key that is shared with its receiver, and opened with any that
is shared with its sender. To change a key: add the new one below the old on every node, move
it above on every node, then remove the old one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from split_core.errors import ConfigError
from split_core.wire.topics import check_node_id

KEY_BYTES = 32
KEY_ID_BYTES = 8
_ID_CONTEXT = b"edge-agent key id 1\0"
_MAX_KEYS = 10_000


@dataclass(frozen=True)
class Key:
    """One shared secret. ``peers``: the nodes at the other end; None for all."""

    name: str
    secret: bytes = field(repr=False)
    peers: frozenset[str] | None = None

    @cached_property
    def id(self) -> bytes:
        """How it is called in messages: 8 bytes that tell nothing of the secret."""
        return hashlib.sha256(_ID_CONTEXT + self.secret).digest()[:KEY_ID_BYTES]

    def is_shared_with(self, node: str) -> bool:
        return self.peers is None or node in self.peers


class Keyring:
    """The keys of one node, in the file's order."""

    def __init__(self, keys: tuple[Key, ...]):
        if not keys:
            raise ConfigError("no keys to seal with; make one with: openssl rand -base64 32")
        self.keys = keys
        self._by_id = {key.id: key for key in keys}
        if len(self._by_id) != len(keys):
            raise ConfigError("the same key is listed twice")
        # Of a fleet's thousands of keys the first that is shared with a node, found at once.
        self._first: dict[str | None, int] = {}
        for index, key in enumerate(keys):
            for peer in [None] if key.peers is None else key.peers:
                self._first.setdefault(peer, index)

    def to_seal(self, receiver: str) -> Key | None:
        """The key for messages to a node: the first of the file that is shared with it. None
        where none is."""
        found = [self._first[peer] for peer in (receiver, None) if peer in self._first]
        return self.keys[min(found)] if found else None

    def to_open(self, key_id: bytes, sender: str) -> Key | None:
        """The key of that id, if it is shared with the sender."""
        key = self._by_id.get(key_id)
        return key if key is not None and key.is_shared_with(sender) else None


def parse_keyring(text: str, where: str) -> Keyring:
    """The keys of a file's text. Raises ConfigError, which never holds a key."""
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        at = f"{where}, line {number}"
        if len(words) < 2:
            raise ConfigError(f"{at}: one word, wanted: NAME KEY [NODE ...]")
        try:
            secret = base64.b64decode(words[1], validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"{at}: the second word is not base64; make a key with:"
                              " openssl rand -base64 32") from None
        if len(secret) != KEY_BYTES:
            raise ConfigError(f"{at}: a key of {len(secret)} bytes, wanted {KEY_BYTES}; make one"
                              " with: openssl rand -base64 32")
        peers = frozenset(check_node_id(node) for node in words[2:]) or None
        keys.append(Key(words[0], secret, peers))
    if len(keys) > _MAX_KEYS:
        raise ConfigError(f"{where}: {len(keys)} keys, at most {_MAX_KEYS}")
    try:
        return Keyring(tuple(keys))
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from None


def read_keyring(path: str | Path) -> Keyring:
    """The keys of a file, which others may not read. Raises ConfigError."""
    path = os.path.expandvars(path)
    try:
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except OSError as e:
        raise ConfigError(f"cannot read seal.keys_file {path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"seal.keys_file {path} is not a text of keys") from None
    if mode & stat.S_IRWXO:
        raise ConfigError(f"seal.keys_file {path} can be read by everybody on this machine:"
                          f" chmod 600 {path}")
    return parse_keyring(text, str(path))
