"""From no connection to one that has been greeted: dialling, protocol, refusals, retries."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from split_core.errors import ConfigError, LinkDown, PermissionRefused, SplitError
from split_core.session.backoff import Backoff, ProtocolChoice
from split_core.session.connection import NOT_AUTHORIZED, VERSION_REFUSED, Connection, Listener
from split_core.session.dial import Dial
from split_core.session.guard import SessionStats, log
from split_core.session.options import BrokerOptions
from split_core.session.publication import Publication
from split_core.session.reactor import Reactor, Timer
from split_core.session.wire import Wire

CONNACK_TIMEOUT_S = 5.0
# While it is not known that the broker speaks MQTT 5; see ProtocolChoice.
PROBE_TIMEOUT_S = 3.0

# Reason codes that retrying soon will not change. First our login or rights: bad password, not
# authorized, banned, bad authentication method.
_PERMISSION_CODES = frozenset({0x86, NOT_AUTHORIZED, 0x8A, 0x8C})
# Then what is set up wrongly: protocol version, client id, a client id in use elsewhere, a will
# whose topic, size, retain flag or QoS the broker does not take, and "use another server".
_SETUP_CODES = frozenset({VERSION_REFUSED, 0x85, 0x8E, 0x90, 0x95, 0x9A, 0x9B, 0x9C, 0x9D})


class Owner(Listener, Protocol):
    """Who wants the connection."""

    def on_connected(self, conn: Connection) -> None: ...
    def on_silence(self) -> None: ...
    def on_unreachable(self, error: SplitError) -> None: ...


class Connector:
    """Opens one connection after another, as its owner loses them. On the network thread."""

    def __init__(
        self,
        options: BrokerOptions,
        client_id: str,
        will: Publication | None,
        will_delay_s: int,
        max_incoming_bytes: int,
        chance: Callable[[], float],
        reactor: Reactor,
        owner: Owner,
        stats: SessionStats,
    ) -> None:
        if not client_id:
            raise ConfigError("an empty client id: the broker would invent a new one each time")
        self.address = options.address
        self.keepalive_s = options.keepalive_s
        self.trouble: SplitError | None = None
        self._options = options
        self._client_id = client_id
        self._will = will
        self._will_delay_s = will_delay_s
        self._max_incoming_bytes = max_incoming_bytes
        self._reactor = reactor
        self._owner = owner
        self._stats = stats
        if options.tls is not None:
            options.tls.context()  # what is wrong with the files is told at once, not at a dial
        self._backoff = Backoff(chance)
        self._protocol = ProtocolChoice(options.protocol)
        self._dial: Dial | None = None
        self._timer: Timer | None = None  # the next attempt, or the end of waiting for CONNACK
        self._cancelled = False

    def begin(self) -> None:
        """Start an attempt now."""
        if self._cancelled:
            return
        name = f"dial-{self._client_id}"
        self._dial = Dial(self._options, self._dialled, name)
        self._dial.start()

    def cancel(self) -> None:
        """No further attempts."""
        self._cancelled = True
        if self._timer is not None:
            self._timer.cancel()
        if self._dial is not None:
            self._dial.cancel()

    def join(self, timeout_s: float) -> None:
        """Wait for an attempt under way to end. For the thread that stops the session."""
        if self._dial is not None:
            self._dial.join(timeout_s)

    def _dialled(self, dial: Dial) -> None:  # on the dialling thread
        self._reactor.call_soon(partial(self._on_dialled, dial))

    def _on_dialled(self, dial: Dial) -> None:
        if self._cancelled:
            return
        sock = dial.take()
        if sock is None:
            self._retry(dial.error)
            return
        sock.setblocking(False)
        conn = Connection(
            Wire(sock, self._max_incoming_bytes),
            self._options,
            self._protocol.current,
            self._client_id,
            self._max_incoming_bytes,
            self._owner,
        )
        if self._will is not None:
            conn.set_will(self._will, self._will_delay_s)
        timeout_s = CONNACK_TIMEOUT_S if self._protocol.settled else PROBE_TIMEOUT_S
        self._timer = self._reactor.call_at(time.monotonic() + timeout_s, self._owner.on_silence)
        self._owner.on_connected(conn)

    def on_accepted(self) -> None:
        """The broker said yes."""
        self._timer.cancel()
        self.trouble = None
        self._protocol.on_accepted()
        self._backoff.on_up(time.monotonic())

    def on_refused(self, code: int, reason: str) -> None:
        """The broker said no."""
        self._timer.cancel()
        if code == VERSION_REFUSED and self._protocol.on_version_refused():
            self._fall_back()
        else:
            self._retry(_error(code, f"{self.address} refused the connection: {reason}"))

    def on_silence(self) -> None:
        """No CONNACK in time."""
        if self._protocol.on_no_answer():
            self._fall_back()
        else:
            self._retry(LinkDown(f"{self.address} did not answer CONNECT"))

    def on_lost(self, reason: str, code: int | None, *, was_up: bool) -> None:
        """A connection ended, before or after it was greeted."""
        self._timer.cancel()
        if not was_up:
            self._protocol.on_hang_up()
        self._retry(_error(code, reason), was_up=was_up)

    def _fall_back(self) -> None:
        log.info("event=protocol_fallback broker=%s mqtt=%s", self.address, self._protocol.current)
        self.begin()

    def _retry(self, error: SplitError, *, was_up: bool = False) -> None:
        if was_up:
            self._stats.losses += 1
        else:
            self._stats.failed_attempts += 1
        now_s = time.monotonic()
        self._backoff.on_down(now_s)
        delay_s = self._backoff.next_delay_s(now_s, refused=not isinstance(error, LinkDown))
        news = was_up or self.trouble is None or str(self.trouble) != str(error)
        self.trouble = error
        if news:
            log.warning("event=no_connection broker=%s reason=%r", self.address, str(error))
            self._owner.on_unreachable(error)
        if not self._cancelled:
            self._timer = self._reactor.call_at(now_s + delay_s, self.begin)


def _error(code: int | None, text: str) -> SplitError:
    if code in _PERMISSION_CODES:
        return PermissionRefused(text)
    if code in _SETUP_CODES:
        return ConfigError(text)
    return LinkDown(text)
