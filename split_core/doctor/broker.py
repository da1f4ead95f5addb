"""The broker step by step: name, connection, certificate, login, rights, packets, delay.

Each step is judged by itself, so that "no connection" becomes what to mend. The first that fails
ends it. Rights are proven by real messages: mosquitto's ACL file grants every subscription and
filters what it delivers. Nothing is retained, and nothing stays behind.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from split_core.config import BrokerConfig
from split_core.doctor.delay import HELD_BACK_S, held_back_s
from split_core.doctor.findings import Finding, fail, ok, warn
from split_core.errors import ConfigError, LinkDown, PermissionRefused, SplitError
from split_core.session import BrokerLimits, BrokerOptions, Publication, Received, Session
from split_core.session.options import MAX_CHUNK_BYTES
from split_core.session.refusals import Fault, fault_of

_RESOLVE_S = 3.0
_CONNECT_S = 3.0
# CONNECT in MQTT 5, and in 3.1.1 where that is not answered (3 s), then CONNACK.
_LOGIN_S = 7.0
_ANSWER_S = 2.0
# A PUBLISH with a whole chunk in it.
_WANTED_PACKET_BYTES = MAX_CHUNK_BYTES + 2_000
_SOON_DAYS = 14


@dataclass(frozen=True, slots=True)
class Place:
    """A node's own topics."""

    id: str
    own_topic: str                   # below its own branch; nobody reads it
    inbox_filter: str
    own_inbox: str                   # in its inbox under its own name
    workers_filter: str | None = None        # retained statuses of workers


@dataclass
class Seen:
    """What the broker showed, for checks of others."""

    limits: BrokerLimits | None = None
    workers: dict[str, dict] = field(default_factory=dict)      # status by topic
    logged_in: bool = False


def check_configured(config: BrokerConfig, place: Place, seen: Seen) -> Iterator[Finding]:
    """All steps, of settings whose password may be out of reach. Fills ``seen``."""
    try:
        options = config.options()
    except ConfigError as e:
        yield fail("login", str(e), "run the doctor with sudo if only root may read the password's"
                   " file; else put it there, or correct the path")
        return
    yield from check_broker(options, place, seen)


def check_broker(options: BrokerOptions, place: Place, seen: Seen) -> Iterator[Finding]:
    """All steps. Fills ``seen``."""
    steps: list[Callable[[], Iterator[Finding]]] = [
        lambda: _reach(options), lambda: _certificate(options),
        lambda: _inside(options, place, seen), lambda: _delay(options, place, seen)]
    for step in steps:
        failed = False
        for finding in step():
            failed = failed or finding.state == "fail"
            yield finding
        if failed:
            return


# -- the way there

def _reach(options: BrokerOptions) -> Iterator[Finding]:
    where = options.address
    if options.unix_path is not None:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.settimeout(_CONNECT_S)
            try:
                sock.connect(str(options.unix_path))
                yield ok("broker reached", where)
            except OSError as e:
                yield fail("broker reached", f"{where}: {e.strerror or e}",
                           "is the broker running (systemctl status mosquitto), and has it a"
                           " listener on this socket that this user may open?")
        return
    addresses = _resolve(options.host, options.port)
    if isinstance(addresses, str):
        yield fail("broker reached", f"the name {options.host} is not known: {addresses}",
                   "correct broker.url, or the name service: resolvectl query"
                   f" {options.host}; an IP address in its place always works")
        return
    error: OSError | None = None
    for family, _, _, _, address in addresses:
        begun_s = time.monotonic()
        try:
            with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
                sock.settimeout(_CONNECT_S)
                sock.connect(address)
                yield ok("broker reached", f"{where} in"
                         f" {1e3 * (time.monotonic() - begun_s):.1f} ms")
                return
        except OSError as e:
            error = e
    yield _unreached(where, options, error)


def _unreached(where: str, options: BrokerOptions, error: OSError | None) -> Finding:
    if isinstance(error, ConnectionRefusedError):
        return fail("broker reached", f"{where} refuses connections",
                    "the machine is there, the broker is not: systemctl status mosquitto; is it"
                    f" told to listen on port {options.port} of that address (mosquitto 2 listens"
                    " on loopback alone until it is given a listener line)?")
    if isinstance(error, TimeoutError):
        return fail("broker reached", f"{where} does not answer within {_CONNECT_S:.0f} s",
                    "the machine is off, or a firewall drops the connection: ping"
                    f" {options.host}, and open port {options.port}")
    return fail("broker reached", f"{where}: {error and (error.strerror or error)}",
                "is this machine on the network (ip route), and the address right?")


def _resolve(host: str, port: int) -> list | str:
    """Addresses, or why there are none. A resolver cannot be given a time, so a thread waits."""
    answer: queue.SimpleQueue = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as e:
            answer.put(getattr(e, "strerror", None) or str(e))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        return answer.get(timeout=_RESOLVE_S)
    except queue.Empty:
        return f"no answer from the name service within {_RESOLVE_S:.0f} s"


def _certificate(options: BrokerOptions) -> Iterator[Finding]:
    if options.tls is None:
        return
    context = options.tls.context()
    try:
        with socket.create_connection((options.host, options.port), timeout=_CONNECT_S) as plain, \
                context.wrap_socket(plain, server_hostname=options.host) as sock:
            days = _days_left(sock.getpeercert())
            shown = f"{sock.version()}, {sock.cipher()[0]}, valid for {days:.0f} more days"
            if days < _SOON_DAYS:
                yield warn("certificate", shown, "renew the broker's certificate before then")
            else:
                yield ok("certificate", shown)
    except ssl.SSLCertVerificationError as e:
        yield _bad_certificate(options, e)
    except (OSError, ValueError) as e:
        yield _no_tls(options, e)


def _days_left(certificate: dict) -> float:
    return (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86_400


def _bad_certificate(options: BrokerOptions, e: ssl.SSLCertVerificationError) -> Finding:
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    fault = fault_of(e)
    if fault is Fault.NOT_YET_VALID:
        return fail("certificate", f"not valid yet: it is {now} by the clock of this machine",
                    "set this machine's clock (sudo timedatectl set-ntp true); if it is right, the"
                    " certificate was made by a machine whose clock was not")
    if fault is Fault.EXPIRED:
        return fail("certificate", f"expired: it is {now} by the clock of this machine",
                    "renew the certificate at the broker and restart it; if it should still be"
                    " valid, this machine's clock is wrong: timedatectl")
    if fault is Fault.AUTHORITY:
        ca = options.tls and options.tls.ca_file
        return fail("certificate", f"signed by somebody whom {ca or 'this system'} does not name:"
                    f" {e.verify_message}",
                    "broker.ca_file has to be the certificate of who signed the broker's: copy"
                    " ca.pem from where it was made" + ("" if ca else "; none is configured"))
    if fault is Fault.NAME:
        return fail("certificate", f"made out to another name than {options.host}:"
                    f" {e.verify_message}",
                    "use the name in the certificate in broker.url, or have it made anew with"
                    f" subjectAltName DNS:{options.host} (for an address IP:{options.host})")
    return fail("certificate", f"{e.verify_message}", "have the broker's certificate made anew")


def _no_tls(options: BrokerOptions, e: Exception) -> Finding:
    text = getattr(e, "reason", None) or getattr(e, "strerror", None) or str(e)
    if isinstance(e, ConnectionResetError) or "WRONG_VERSION" in text or "EOF" in text \
            or isinstance(e, TimeoutError):
        return fail("certificate", f"{options.address} speaks no TLS on this port ({text})",
                    "use the port of the broker's TLS listener (usually 8883), or mqtt:// on this"
                    " machine alone")
    return fail("certificate", f"TLS with {options.address} failed: {text}",
                "both ends need TLS 1.2 or newer; the broker's log has its side of it")


# -- logged in

class Visit:
    """A session of our own beside that of a running node."""

    def __init__(self, options: BrokerOptions, place: Place):
        self._up, self._refused = threading.Event(), threading.Event()
        self._arrived: queue.SimpleQueue[tuple[str, bytes, bool]] = queue.SimpleQueue()
        self.refused_filters: list[str] = []
        self.session = Session(
            options, client_id=f"{place.id}-doctor-{secrets.token_hex(4)}",
            on_up=lambda limits: self._up.set(), on_down=lambda reason: None,
            on_message=self._on_message, on_subscription_refused=self._on_refused)

    def __enter__(self) -> Visit:
        self.session.start()
        return self

    def __exit__(self, *_exc) -> None:
        self.session.stop(timeout_s=1.0)

    def wait_until_up(self) -> bool:
        limit_s = time.monotonic() + _LOGIN_S
        while not self._up.wait(0.05):
            # What another attempt will not change is known at the first.
            if isinstance(self.session.trouble, PermissionRefused | ConfigError) \
                    or time.monotonic() > limit_s:
                return False
        return True

    def publish(self, topic: str, payload: bytes) -> bool | None:
        """Whether the broker took it; None when it did not say in time."""
        done: queue.SimpleQueue[bool] = queue.SimpleQueue()
        try:
            self.session.publish(Publication(topic, payload, qos=1), done.put)
            return done.get(timeout=_ANSWER_S)
        except queue.Empty:
            return None
        except LinkDown:
            return False

    def wait_for(self, topic: str, payload: bytes, timeout_s: float = _ANSWER_S) -> bool:
        limit_s = time.monotonic() + timeout_s
        with contextlib.suppress(queue.Empty):
            while (left_s := limit_s - time.monotonic()) > 0:
                if self._arrived.get(timeout=left_s)[:2] == (topic, payload):
                    return True
        return False

    def retained(self, topic_filter: str, quiet_s: float = 0.3) -> dict[str, bytes]:
        """What the broker keeps, until it has said nothing for a while."""
        found: dict[str, bytes] = {}
        self.session.subscribe(topic_filter, 1)
        limit_s = time.monotonic() + _ANSWER_S
        with contextlib.suppress(queue.Empty):
            while time.monotonic() < limit_s:
                topic, payload, retain = self._arrived.get(timeout=quiet_s)
                if retain:
                    found[topic] = payload
        return found

    def _on_message(self, topic: str, payload: bytes, received: Received) -> None:
        self._arrived.put((topic, payload, received.retain))

    def _on_refused(self, topic_filter: str, reason: str) -> None:
        self.refused_filters.append(topic_filter)


def read_retained(options: BrokerOptions, node_id: str, topic: str) -> dict[str, bytes]:
    """What the broker keeps on a topic. Raises LinkDown, PermissionRefused, ConfigError."""
    place = Place(node_id, "", "", "")
    with Visit(options, place) as visit:
        if not visit.wait_until_up():
            raise visit.session.trouble or LinkDown("no answer")
        return visit.retained(topic)


def _inside(options: BrokerOptions, place: Place, seen: Seen) -> Iterator[Finding]:
    with Visit(options, place) as visit:
        if not visit.wait_until_up():
            yield _not_in(options, visit.session.trouble)
            return
        limits = visit.session.limits or BrokerLimits("3.1.1")
        seen.limits, seen.logged_in = limits, True
        who = f"as {options.username}" if options.username else \
            "by certificate" if options.tls and options.tls.cert_file else "as nobody in particular"
        yield ok("login", f"{who}, MQTT {limits.protocol}")
        yield from _rights(visit, place, limits)
        if place.workers_filter is not None:
            yield from _workers(visit, place.workers_filter, seen)


def _not_in(options: BrokerOptions, trouble: SplitError | None) -> Finding:
    text = str(trouble or "no answer")
    words = text.lower()
    if "client" in words and "identifier" in words:
        return fail("login", text, "the broker allows certain client ids alone; let it take those"
                    " that begin with the user name")
    if isinstance(trouble, PermissionRefused) and ("bad user" in words or "password" in words):
        return fail("login", text, "broker.username or the password is wrong: compare with"
                    " `mosquitto_passwd` at the broker; the password's file may have a wrong first"
                    " line")
    if isinstance(trouble, PermissionRefused):
        if options.password is None and not (options.tls and options.tls.cert_file):
            return fail("login", text, "the broker wants a login: broker.username and"
                        " broker.password_file, or a client certificate (broker.cert_file,"
                        " broker.key_file)")
        return fail("login", text, "the user name or the password is wrong, or this user may not"
                    " connect: mosquitto says the same of both; look into its log, and set the"
                    " password anew with mosquitto_passwd")
    if options.tls is not None and options.tls.cert_file is None and "tls" not in words:
        return fail("login", text, "a broker that ends the connection at once often wants a client"
                    " certificate: broker.cert_file and broker.key_file (mosquitto:"
                    " require_certificate)")
    return fail("login", text, "the broker took the connection and then said nothing that we"
                " understand: is it an MQTT broker, and what does its log say?")


def _rights(visit: Visit, place: Place, limits: BrokerLimits) -> Iterator[Finding]:
    note = json.dumps({"check": secrets.token_hex(8)}).encode()
    wrote = visit.publish(place.own_topic, note)
    branch = place.own_topic.rpartition("/")[0]
    if not wrote:
        yield fail("own branch", f"the broker does not take {branch}/# from us" if wrote is False
                   else f"no acknowledgement of a message on {place.own_topic}",
                   f"allow this user to write {branch}/# (mosquitto's ACL file:"
                   " integrations/mosquitto/make_acl.py); the id has to be the user name, or the certificate's CN")
    elif limits.protocol == "3.1.1":
        yield ok("own branch", f"{branch}/# was acknowledged (MQTT 3.1.1 cannot say no)")
    else:
        yield ok("own branch", f"{branch}/# may be written to")
    yield from _inbox(visit, place, limits)


def _inbox(visit: Visit, place: Place, limits: BrokerLimits) -> Iterator[Finding]:
    visit.session.subscribe(place.inbox_filter, 0)
    allowed = visit.publish(place.own_inbox, note := secrets.token_hex(8).encode())
    heard = visit.wait_for(place.own_inbox, note)
    may_read = f"allow this user to read {place.inbox_filter} (mosquitto's ACL file:" \
               " integrations/mosquitto/make_acl.py)"
    if place.inbox_filter in visit.refused_filters:
        yield fail("own inbox", f"the broker refuses the subscription to {place.inbox_filter}",
                   may_read)
    elif heard:
        yield ok("own inbox", f"{place.inbox_filter}: a message to ourselves came back")
        yield from _packet(visit, place, limits)
    elif allowed:
        yield fail("own inbox", f"a message to {place.own_inbox} was taken and not delivered to"
                   " us: answers would be lost without a word", may_read)
    else:
        yield warn("own inbox", f"subscribed to {place.inbox_filter}; whether anything is delivered"
                   f" could not be tried, because we may not write to {place.own_inbox}",
                   f"allow this user to write {place.own_inbox}, its own inbox under its own name"
                   " (integrations/mosquitto/make_acl.py writes the line)")


def _packet(visit: Visit, place: Place, limits: BrokerLimits) -> Iterator[Finding]:
    stated = limits.max_packet_bytes
    remedy = f"let the broker take {_WANTED_PACKET_BYTES} bytes: mosquitto's max_packet_size and" \
             " message_size_limit, EMQX's mqtt.max_packet_size"
    if stated is not None and stated < _WANTED_PACKET_BYTES:
        yield warn("packet size", f"the broker takes {stated} bytes a packet: messages go in more"
                   " and smaller pieces", remedy)
    note = secrets.token_bytes(limits.chunk_bytes)
    visit.publish(place.own_inbox, note)
    if not visit.wait_for(place.own_inbox, note, 2 * _ANSWER_S):
        yield fail("packet size", f"a message of {len(note)} bytes, which the broker said it would"
                   " take, did not come back", remedy)
    elif stated is None or stated >= _WANTED_PACKET_BYTES:
        yield ok("packet size", f"{len(note)} bytes came back whole")


def _workers(visit: Visit, topic_filter: str, seen: Seen) -> Iterator[Finding]:
    for topic, payload in visit.retained(topic_filter).items():
        with contextlib.suppress(ValueError):
            if isinstance(record := json.loads(payload), dict):
                seen.workers[topic] = record
    yield from ()


def _delay(options: BrokerOptions, place: Place, seen: Seen) -> Iterator[Finding]:
    client_id = f"{place.id}-doctor-{secrets.token_hex(4)}"
    try:
        gap_s = held_back_s(options, client_id)
    except LinkDown as e:
        yield warn("40 ms trap", f"could not be measured: {e}",
                   "run the doctor again; if it stays so, the broker limits connections")
        return
    if gap_s is None:
        yield ok("40 ms trap", "none: not a TCP connection")
    elif gap_s > HELD_BACK_S:
        yield warn("40 ms trap", f"the broker holds small packets back: the second of two answers"
                   f" comes {1e3 * gap_s:.0f} ms after the first",
                   "mosquitto: set_tcp_nodelay true in its configuration, then restart it (other"
                   " brokers: tcp nodelay)")
    else:
        yield ok("40 ms trap", f"not there: two answers come {1e3 * gap_s:.1f} ms apart")
