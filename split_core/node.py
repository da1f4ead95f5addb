"""What a device and a worker have in common on the broker: a node.

A session, a retained status whose last will is its opposite, an inbox with one level a
sender, and messages instead of chunks. The session id in status and will keeps an old
connection's death from killing a new one.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable

from split_core.crypto.keyring import Keyring
from split_core.errors import LinkDown, MessageError
from split_core.outbox import Outbox, Outgoing
from split_core.session import (
    BrokerLimits, BrokerOptions, LinkInfo, Publication, Received, Session,
)
from split_core.wire.chunks import Message, Reassembler
from split_core.wire.messages import Kind
from split_core.wire.records import DeviceStatus, dump, load
from split_core.wire.topics import Topics

_log = logging.getLogger(__name__)
_SWEEP_S = 10.0
# Our retained status is not always the last word: a twin that was stopped says "stopped" in its
# place, and of a machine whose power went the broker says "lost" 22 s later, when the service may
# long be back. Who connects after that would take us to be gone for as long as we run. So it is
# said again: 0.1 kB, and of a worker 67 bytes more a bundle it holds, which every device reads.
STATUS_S = 300.0
# An older connection's last will comes up to one and a half keepalives after ours was made.
_AGAIN_KEEPALIVES = 2.0


class Node:
    """One node's connection. Callbacks run on the network thread and must not block.

    ``status_of(state, session)`` makes the retained status record, which an ``ephemeral``
    node takes away when it goes; ``on_message(sender, message)``
    gets whole messages from the inbox; ``on_publication(topic, payload, received)`` everything
    else that was subscribed to. With a ``keyring`` all that leaves for an inbox is sealed, and
    what comes unsealed is refused; without one, what is sealed is.
    """

    def __init__(self, options: BrokerOptions, topics: Topics, *, node_id: str,
                 status_topic: str, inbox_filter: str, status_of: Callable,
                 on_message: Callable[[str, Message], None],
                 on_publication: Callable[[str, bytes, Received], None]
                 = lambda topic, payload, received: None,
                 on_up: Callable[[BrokerLimits], None] = lambda limits: None,
                 on_down: Callable[[str], None] = lambda reason: None,
                 on_fatal: Callable[[BaseException], None] | None = None,
                 ephemeral: bool = False, keyring: Keyring | None = None):
        self.session_id = secrets.randbits(64)
        self.topics, self.node_id = topics, node_id
        self._seal = self._new_seal(keyring) if keyring is not None else None
        self.outbox = Outbox(seal=self._sealed if keyring is not None else None)
        self.refused = 0                      # chunks and messages refused
        self._reassembler = Reassembler()
        self._status_topic, self._status_of = status_topic, status_of
        self._on_message, self._on_publication = on_message, on_publication
        self._on_up, self._on_down = on_up, on_down
        self._state, self._ephemeral = "ready", ephemeral
        self._logged: set[str] = set()
        self._status_due_s = math.inf             # until there is a connection
        self._keepalive_s = options.keepalive_s
        # Not the session's digits, which everybody may read in the status: whoever connects with
        # a client id, under whatever user name, throws out who had it.
        client_id = f"{node_id}-{secrets.token_hex(8)}"
        self.session = Session(
            options, client_id=client_id,
            on_up=self._up, on_down=self._down, on_message=self._received,
            will=Publication(status_topic, self._status("lost"), qos=1, retain=True),
            on_fatal=on_fatal,
        )
        self.session.set_feed(self.outbox.next_publication)
        self.session.subscribe(inbox_filter, 0)

    def _new_seal(self, keyring: Keyring):
        from split_core.crypto.sealed import Seal    # of an extra; says so where it is missing

        return Seal(keyring, self.session_id)

    @property
    def session_hex(self) -> str:
        return f"{self.session_id:016x}"

    @property
    def is_up(self) -> bool:
        return self.session.is_up

    def start(self) -> None:
        self.session.start()
        self.session.call_soon(self._sweep)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Say goodbye, let what is under way leave, disconnect."""
        self._status_due_s = math.inf             # the goodbye is the last word
        self.session.stop(Publication(self._status_topic, self._status("stopped"), qos=1,
                                      retain=True), timeout_s)

    def _status(self, state: str) -> bytes:
        """The status record; of an ephemeral node, once it is gone, nothing is retained."""
        if self._ephemeral and state in ("stopped", "lost"):
            return b""
        return dump(self._status_of(state, self.session_hex))

    def set_state(self, state: str) -> None:
        """Publish the retained status, now or on the next connect."""
        self._state = state
        self.publish_record(self._status_topic, self._status_of(state, self.session_hex))

    def publish_record(self, topic: str, record) -> None:
        """A retained control record, QoS 1. While the link is down nothing is published: on
        connect the owner publishes its records anew."""
        try:
            self.session.publish(Publication(topic, dump(record), qos=1, retain=True))
        except LinkDown:
            pass
        except MessageError as e:         # larger than the broker takes, or it retains nothing
            self.tell_once("broker", str(e))

    def send(self, outgoing: Outgoing, *, bulk: bool = False) -> None:
        """Queue a message; it goes out as the link takes it."""
        self.outbox.put(outgoing, bulk=bulk)
        self.session.kick()

    def send_now(self, topic: str, kind: Kind, body: bytes, *, bulk: bool = False) -> None:
        self.send(Outgoing(topic, kind, len(body), lambda now_s: body), bulk=bulk)

    @property
    def backlog_bytes(self) -> int:
        """Urgent bytes the broker's machine has not taken yet."""
        return self.outbox.unsent_bytes + self.session.backlog_bytes()

    def link_info(self) -> LinkInfo | None:
        """The kernel's view of the first hop; None where it has none."""
        return self.session.link_info()

    def doubt(self, patience_s: float) -> None:
        """Answers stay away: connect anew unless the link shows life."""
        self.session.doubt(patience_s)

    # -- on the network thread

    def _up(self, limits: BrokerLimits) -> None:
        self.outbox.clear()
        self.outbox.chunk_bytes = limits.chunk_bytes
        self.set_state(self._state)
        keepalive_s = limits.keepalive_s or self._keepalive_s
        self._status_due_s = time.monotonic() + _AGAIN_KEEPALIVES * keepalive_s
        self._on_up(limits)

    def _down(self, reason: str) -> None:
        self.outbox.clear()
        self._on_down(reason)

    def _received(self, topic: str, payload: bytes, received: Received) -> None:
        inbox = self.topics.parse_inbox(topic)
        try:
            if inbox is None or inbox.node != self.node_id:
                if self._seal is not None:
                    self._note_session(topic, payload)
                self._on_publication(topic, payload, received)
                return
            if received.retain:
                raise MessageError("a retained message in an inbox; somebody has to clear it")
            message = self._reassembler.push(inbox.sender, payload, time.monotonic())
            if message is not None:
                self._on_message(inbox.sender, self._opened(topic, inbox.sender, message))
        except MessageError as e:
            self.refused += 1
            self.tell_once(inbox.sender if inbox is not None else topic, str(e))

    # -- sealed messages

    def _sealed(self, outgoing: Outgoing, body: bytes) -> bytes:
        inbox = self.topics.parse_inbox(outgoing.topic)
        if inbox is None:
            raise MessageError("only messages to inboxes can be sealed")
        return self._seal.seal(outgoing.kind, outgoing.topic, inbox.node, body)

    def _opened(self, topic: str, sender: str, message: Message) -> Message:
        if self._seal is None:
            if message.sealed:
                raise MessageError("a sealed message, and no seal.keys_file is set here")
            return message
        if not message.sealed:
            raise MessageError("a message that is not sealed, and seal.keys_file is set here; set"
                               " it there, too")
        body = self._seal.open(message.kind, topic, sender, message.body)
        return Message(message.kind, body, message.first_s)

    def _note_session(self, topic: str, payload: bytes) -> None:
        """What is sealed for a peer opens in its present session alone."""
        peer = self.topics.parse_worker_up(topic) or self.topics.parse_device_up(topic)
        if peer is None or peer[1] != "status" or not payload:
            return
        status = load(payload, DeviceStatus)      # a worker's says more, which does not matter
        if status.state not in ("stopped", "lost"):
            self._seal.on_session(peer[0], _session(status))

    def tell_once(self, who: str, what: str, *, worth_telling: bool = True) -> None:
        """Log something a peer did, once a peer and kind: it may do it with every frame."""
        key = f"{who} {what[:24]}"
        if worth_telling and key not in self._logged and len(self._logged) < 1000:
            self._logged.add(key)
            _log.warning("event=refused from=%r what=%r", who, what)

    def _sweep(self) -> None:
        now_s = time.monotonic()
        # First: what goes wrong below goes wrong once, not for ever.
        self.session.call_at(now_s + _SWEEP_S, self._sweep)
        self._reassembler.sweep(now_s)
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + STATUS_S
            self.set_state(self._state)


def _session(status: DeviceStatus) -> int:
    try:
        session = int(status.session, 16)
    except ValueError:
        session = -1
    if not 0 <= session < 2**64:
        raise MessageError(f"status: session {status.session[:32]!r}, wanted 16 hexadecimal digits")
    return session
