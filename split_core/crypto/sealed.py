"""Messages that nobody between two nodes can read, change, forge or bring again.

    0   8   key_id       which shared key
    8   8   session      the sender's, as in its status
    16  16  salt         random, of the sender's process
    32  8   counter      of the sender's process; never the same twice
    40  ... ciphertext   ChaCha20-Poly1305, its tag of 16 bytes at the end

A process's own key comes from the shared one, session and salt (HKDF-SHA256), so its counter may
begin at 0 and serves as the nonce. Authenticated with it: the kind, the topic (who sends, who
receives) and the receiver's session. A receiver that has started anew has another session, so
nothing that was recorded before opens there. docs/wire-format.md, section 5, is normative.
"""

from __future__ import annotations

import secrets
import struct

from split_core.crypto.keyring import Key, Keyring
from split_core.crypto.library import HKDF, ChaCha20Poly1305, InvalidTag, hashes
from split_core.crypto.window import ReplayWindow, Sessions
from split_core.errors import MessageError
from split_core.wire.chunks import sealed_prefix
from split_core.wire.messages import Kind

_HEADER = struct.Struct("<8sQ16sQ")
_IDENTITY_BYTES = 32                     # key, session and salt: one key's worth of counters
_NONCE = struct.Struct("<IQ")
_TAG_BYTES = 16
OVERHEAD_BYTES = _HEADER.size + _TAG_BYTES
SALT_BYTES = 16
_INFO = b"edge-agent seal 1"


def _process_key(secret: bytes, session_and_salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(HKDF(algorithm=hashes.SHA256(), length=32, salt=session_and_salt,
                                 info=_INFO).derive(secret))


class Seal:
    """One node's end of it. On the network thread alone; a node has one for its life, whatever
    becomes of its connections.

    ``salt`` is for golden vectors; everybody else has a new one in every process.
    """

    def __init__(self, keyring: Keyring, session: int, *, salt: bytes | None = None):
        self._keyring, self._session = keyring, session
        self._salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
        self._counter = 0
        self._own: dict[bytes, ChaCha20Poly1305] = {}        # by key id
        self._peers: Sessions[str, int] = Sessions()         # theirs, as heard last
        self._heard: Sessions[bytes, tuple[ChaCha20Poly1305, ReplayWindow]] = Sessions()

    def on_session(self, peer: str, session: int) -> None:
        """A peer's session, from its status. A wrong one costs messages, nothing else: what is
        sealed for it opens nowhere."""
        self._peers.keep(peer, session)

    def seal(self, kind: Kind, topic: str, receiver: str, body: bytes) -> bytes:
        """A message for the topic, which is an inbox of the receiver's. Raises MessageError."""
        key = self._keyring.to_seal(receiver)
        if key is None:
            raise MessageError(f"no key is shared with {receiver}: add one to seal.keys_file here"
                               " and there")
        peer = self._peers.get(receiver)
        if peer is None:
            raise MessageError(f"the session of {receiver} is not known yet")
        header = _HEADER.pack(key.id, self._session, self._salt, self._counter)
        nonce = _NONCE.pack(0, self._counter)
        self._counter += 1
        return header + self._key_of(key).encrypt(nonce, body, _known(kind, header, peer, topic))

    def open(self, kind: Kind, topic: str, sender: str, sealed: memoryview) -> memoryview:
        """The body of a message that the sender sealed for us. Raises MessageError."""
        if len(sealed) < OVERHEAD_BYTES:
            raise MessageError(f"sealed message of {len(sealed)} bytes, its least is"
                               f" {OVERHEAD_BYTES}")
        key_id, session, _, counter = _HEADER.unpack_from(sealed)
        key = self._keyring.to_open(key_id, sender)
        if key is None:
            raise MessageError(f"sealed with key {key_id.hex()}, which seal.keys_file does not"
                               f" hold here for {sender}")
        identity = bytes(sealed[:_IDENTITY_BYTES])
        aead, window = self._heard.get(identity) or (
            _process_key(key.secret, identity[len(key_id):]), ReplayWindow())
        if not window.is_fresh(counter):
            raise MessageError("a sealed message that came before")
        header = sealed[:_HEADER.size]
        try:
            body = aead.decrypt(_NONCE.pack(0, counter), sealed[_HEADER.size:],
                                _known(kind, header, self._session, topic))
        except InvalidTag:
            raise MessageError(f"a message sealed with key {key.name} that does not open: changed"
                               " on its way, or for an earlier start of this node") from None
        window.take(counter)
        self._heard.keep(identity, (aead, window))
        self._peers.keep(sender, session)
        return memoryview(body)

    def _key_of(self, key: Key) -> ChaCha20Poly1305:
        aead = self._own.get(key.id)
        if aead is None:
            session_and_salt = struct.pack("<Q", self._session) + self._salt
            aead = self._own[key.id] = _process_key(key.secret, session_and_salt)
        return aead


def _known(kind: Kind, header: bytes | memoryview, receiver_session: int, topic: str) -> bytes:
    """What is authenticated though not encrypted."""
    return b"".join((sealed_prefix(kind), header, struct.pack("<Q", receiver_session),
                     topic.encode()))
