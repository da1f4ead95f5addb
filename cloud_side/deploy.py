"""`cloud-worker deploy`: puts a bundle into a worker's store and has devices take it from there.

The command goes out under an operator's rights, not the worker's: a worker may not command
devices. What the device says of each step comes back as replies and events.
"""

from __future__ import annotations

import json
import queue
import secrets
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from split_core.config import BrokerConfig
from split_core.errors import BundleError, LinkDown, PermissionRefused, SplitError
from split_core.model.bundle import Bundle
from split_core.session import Publication, Session
from split_core.wire.topics import Topics, check_node_id

# What a device has published on its status topic comes with the subscription.
_STATUS_S = 5.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Order:
    """What a device is told."""

    sha256: str
    nbytes: int
    worker: str
    signature: str | None = None     # "ed25519 BASE64"
    force: bool = False
    # Unique, and the same whenever it is sent again.
    id: str = field(default_factory=lambda: f"deploy-{secrets.token_hex(8)}")

    def payload(self) -> bytes:
        return json.dumps({"id": self.id, "sha256": self.sha256, "bytes": self.nbytes,
                           "from": self.worker, "signature": self.signature,
                           "force": self.force}).encode()


class Course:
    """One device's update as its messages tell of it. Pure.

    ``say(text)`` tells people. `send` is whether the command has to go out now: first, and again
    where the device has started anew or our connection has.
    """

    def __init__(self, device: str, order: Order, say: Callable[[str], None], *,
                 until_confirmed: bool = False):
        self.device, self.order, self._say = device, order, say
        self._until_confirmed = until_confirmed
        self._session: str | None = None      # of the device, that was told
        self._swapped = False
        self.seen = False                     # its status, whatever it says
        self.send = False
        self.state: str | None = None         # how it ended well

    def on_status(self, record: dict) -> None:
        """The device's retained status."""
        self.seen = True
        if record.get("state") != "ready":
            self._say(f"{self.device} is not connected ({record.get('state')}); waiting for it")
        elif record.get("session") != self._session and not self._swapped:
            if self._session is not None:
                self._say(f"{self.device} has started anew; telling it again")
            self._session, self.send = record.get("session"), True

    def on_reconnect(self) -> None:
        """Our own connection is a new one: replies may have passed us by."""
        self.send = self._session is not None and not self._swapped

    def on_reply(self, record: dict) -> None:
        """Raises BundleError where the device has refused."""
        if record.get("id") != self.order.id:
            return
        if record.get("status") != "ok":
            raise BundleError(f"{self.device} refused: {record.get('error')}")
        match record.get("data"):
            case {"state": "fetching", "received_bytes": int(done), "bytes": int(total)} if total:
                self._say(f"{self.device}: fetching, {100 * done // total} % of {total} bytes")
            case {"state": "in-force"}:
                self._say(f"{self.device}: in force already")
                self.state = "in-force"
            case {"state": "swapped", **more}:
                self._say(f"{self.device}: swapped, {more.get('model')} is in force")
                self._swapped = True
                if not self._until_confirmed:
                    self.state = "swapped"
            case {"state": str(state)}:
                self._say(f"{self.device}: {state}")

    def on_event(self, record: dict) -> None:
        """Raises BundleError for a model that was rolled back."""
        sha256 = self.order.sha256
        match record.get("event"):
            case "model-confirmed" if record.get("bundle") == sha256:
                self._say(f"{self.device}: confirmed")
                self.state = "confirmed"
            case "model-rolled-back" if record.get("was") == sha256:
                raise BundleError(f"{self.device} rolled it back: {record.get('reason')}")


class Operator:
    """The operator's connection: tells devices, one at a time, and hears what they say."""

    def __init__(self, broker: BrokerConfig, topics: Topics):
        self.topics = topics
        self._incoming: queue.Queue[tuple[str, bytes] | None] = queue.Queue()
        self._refused = threading.Event()
        self._ups = 0                             # connections so far
        self._session = Session(
            broker.options(), client_id=f"deploy-{secrets.token_hex(6)}",
            on_up=lambda limits: self._incoming.put(None), on_down=lambda reason: None,
            on_message=lambda topic, payload, received: self._incoming.put((topic, payload)))

    def __enter__(self) -> Operator:
        self._session.start()
        return self

    def __exit__(self, *_exc) -> None:
        self._session.stop()

    def follow(self, course: Course, patience_s: float) -> str:
        """Tell the device and listen until it has ended; how it did. Raises BundleError where it
        refused or rolled back, LinkDown where nothing was heard for ``patience_s``."""
        device, topics = course.device, self.topics
        handlers = {topics.device_up(device, "status"): course.on_status,
                    topics.device_up(device, "event"): course.on_event,
                    topics.device_reply(device, "model"): course.on_reply}
        for topic in handlers:
            self._session.subscribe(topic, 1)
        begin_s = heard_s = time.monotonic()
        try:
            while course.state is None:
                if course.send and self._session.is_up:
                    course.send = not self._send(course)
                try:
                    message = self._incoming.get(timeout=_LOOK_S)
                except queue.Empty:
                    self._check(course, time.monotonic() - begin_s,
                                time.monotonic() - heard_s, patience_s)
                    continue
                if message is None:
                    self._ups += 1
                    begin_s = time.monotonic()
                    if self._ups > 1:
                        course.on_reconnect()
                elif message[0] in handlers:
                    heard_s = time.monotonic()
                    handlers[message[0]](_record(message[1]))
        finally:
            for topic in handlers:
                self._session.unsubscribe(topic)
        return course.state

    def _send(self, course: Course) -> bool:
        """The command; False where the connection has just gone."""
        def done(taken: bool) -> None:
            if not taken:
                self._refused.set()

        topic = self.topics.device_command(course.device, "model")
        try:
            self._session.publish(Publication(topic, course.order.payload(), qos=1), done)
        except LinkDown:
            return False
        return True

    def _check(self, course: Course, since_up_s: float, silent_s: float,
               patience_s: float) -> None:
        if self._refused.is_set():
            self._refused.clear()
            if self._session.is_up:           # else it went with the connection, and goes again
                raise PermissionRefused(f"the broker does not let this user command"
                                        f" {course.device}; give an operator's --username")
        trouble = self._session.trouble
        if trouble is not None and not isinstance(trouble, LinkDown):
            raise trouble                     # a wrong password stays wrong
        if self._ups and not course.seen and since_up_s > _STATUS_S:
            raise LinkDown(f"no device {course.device} below {self.topics.root} on this broker, or"
                           " this user may not read its status")
        if silent_s > patience_s:
            raise LinkDown(
                f"nothing was heard of {course.device} for {patience_s:.0f} s"
                + (f" ({trouble})" if trouble is not None else "; does its configuration accept"
                   " the command model, and may this user send it?"))


def _record(payload: bytes) -> dict:
    """A device's document; empty for one that is none."""
    try:
        record = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return {}
    return record if isinstance(record, dict) else {}


def signature_of(path: Path, key_file: str | None) -> str | None:
    """By a key, or as it lies beside the bundle; None where there is neither. Raises BundleError,
    ConfigError."""
    beside = path.with_name(path.name + ".sig")
    if key_file is None and not beside.exists():
        return None
    from split_core.crypto.signature import (
        format_signature, load_private, parse_signature, sign,
    )

    if key_file is not None:
        import hashlib

        digest = hashlib.sha256(path.read_bytes()).digest()
        return format_signature(sign(digest, load_private(key_file))).strip()
    try:
        return format_signature(parse_signature(beside.read_text("ascii"))).strip()
    except (OSError, UnicodeDecodeError) as e:
        raise BundleError(f"cannot read {beside}: {e}") from None


def deploy(bundle: Bundle, devices: list[str], *, broker: BrokerConfig, root: str, worker: str,
           signature: str | None, force: bool, until_confirmed: bool, patience_s: float,
           as_json: bool) -> int:
    """Tell devices, one after another, to take a bundle that lies in a worker's store. Stops at
    the first that does not. Raises SplitError."""
    for device in devices:
        check_node_id(device)
    with Operator(broker, Topics(root)) as operator:
        for device in devices:
            order = Order(bundle.id_hex, bundle.path.stat().st_size, worker, signature, force)
            begin_s = time.monotonic()
            report = {"device": device, "sha256": bundle.id_hex, "model": bundle.manifest.name}
            try:
                report["state"] = operator.follow(
                    Course(device, order, _say, until_confirmed=until_confirmed), patience_s)
            except SplitError as e:
                report |= {"state": "failed", "error": str(e)}
                raise
            finally:
                if as_json:
                    report["seconds"] = round(time.monotonic() - begin_s, 1)
                    print(json.dumps(report), flush=True)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
