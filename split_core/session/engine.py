"""The network thread's side of a session: everything here runs on that thread.

It keeps paho fed and emptied, watches the link, and passes on what happens. What other threads
may read of it (`limits`, `conn`, `stats`) is replaced whole, never changed in place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from split_core.errors import SplitError
from split_core.session.connection import Connection, OnDone
from split_core.session.connector import Connector
from split_core.session.guard import Guard, SessionStats, log
from split_core.session.liveness import Liveness
from split_core.session.options import BrokerLimits
from split_core.session.publication import Publication, Received
from split_core.session.reactor import READ, WRITE, Reactor, Timer

# Publications taken from the feed before what has arrived gets a turn again.
FEED_BURST = 8


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the session's user wants to be told; see Session."""

    on_up: Callable[[BrokerLimits], None]
    on_down: Callable[[str], None]
    on_message: Callable[[str, bytes, Received], None]
    on_subscription_refused: Callable[[str, str], None] | None


class Engine:
    """Drives connections to one broker, one after the other."""

    connector: Connector

    def __init__(self, callbacks: Callbacks, reactor: Reactor) -> None:
        self.limits: BrokerLimits | None = None  # set while connected
        self.conn: Connection | None = None
        self.stats = SessionStats()
        self.guard = Guard(self.stats)
        self.hungry = False  # the feed may have something
        self._callbacks = callbacks
        self._reactor = reactor
        self._handing_lock = threading.Lock()
        self._handing_bytes = 0
        self._subscriptions: dict[str, int] = {}
        self._feed: Callable[[], Publication | None] | None = None
        self._mask = READ
        self._settling = False
        self._pulse: Liveness | None = None
        self._pulse_timer: Timer | None = None
        self._stopping = False
        self._stop_by_s = 0.0

    # For any thread.

    def hand_over(
        self, conn: Connection, publication: Publication, size: int, on_done: OnDone | None
    ) -> None:
        """Publish from another thread."""
        with self._handing_lock:
            self._handing_bytes += size
        self._reactor.call_soon(partial(self._take_over, conn, publication, size, on_done))

    def queued_bytes(self, conn: Connection) -> int:
        """Bytes that wait above the socket."""
        return conn.queued_bytes() + self._handing_bytes

    def _take_over(
        self, conn: Connection, publication: Publication, size: int, on_done: OnDone | None
    ) -> None:
        with self._handing_lock:
            self._handing_bytes -= size
        self.publish(conn, publication, size, on_done)

    # Asked for by the session.

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Remember the filter; subscribe if connected."""
        self._subscriptions[topic_filter] = qos
        if self.limits is not None:
            self.conn.subscribe({topic_filter: qos})
            self.settle()

    def unsubscribe(self, topic_filter: str) -> None:
        """Forget the filter; unsubscribe if connected."""
        if self._subscriptions.pop(topic_filter, None) is not None and self.limits is not None:
            self.conn.unsubscribe(topic_filter)
            self.settle()

    def set_feed(self, feed: Callable[[], Publication | None]) -> None:
        """Ask this for bulk data from now on."""
        self._feed = feed
        self.hungry = True
        self.settle()

    def doubt(self, patience_s: float) -> None:
        """Ping now; the link is given up unless it shows life within `patience_s`."""
        if self.limits is None:
            return
        now_s = time.monotonic()
        self._pulse.on_doubt(patience_s, now_s)
        if not self._pulse.ping_open:
            self.conn.ping()
            self._pulse.on_ping(now_s)
            self.settle_soon()
        self._pulse_timer.cancel()
        self._beat()

    def publish(
        self, conn: Connection, publication: Publication, size: int, on_done: OnDone | None
    ) -> None:
        """Send on `conn`; a connection that came after it is not meant."""
        if conn is not self.conn or not conn.publish(publication, size, on_done):
            self.stats.publishes_lost += 1
            if on_done is not None:
                self._reactor.call_soon(partial(self.guard.call, "on_done", on_done, False))
            self.settle_soon()           # the attempt may have found the connection lost
            return
        self.stats.publishes += 1
        if conn.want_write or conn.events:
            self.settle_soon()

    def begin_stop(self, farewell: Callable[[], None], timeout_s: float) -> None:
        """Say farewell, drain, DISCONNECT, and stop the reactor; at the latest after timeout_s."""
        if self._stopping:
            return
        self._stopping = True
        self.connector.cancel()
        self._stop_by_s = time.monotonic() + timeout_s
        if self.limits is None:
            self._reactor.stop()
            return
        self._reactor.call_at(self._stop_by_s, self._reactor.stop)
        farewell()
        self.settle_soon()

    def end(self) -> None:
        """The reactor has ended: leave nothing open and nobody waiting."""
        self.limits = None
        self.connector.cancel()
        if self.conn is not None:
            self._close()

    # One turn.

    def settle_soon(self) -> None:
        """Settle after what is running now."""
        if not self._settling:  # else that is what is running
            self._reactor.call_soon(self.settle)

    def settle(self) -> None:
        """Pass on what paho has told, feed it, and ask the selector for what is needed."""
        if self._settling:
            return
        self._settling = True
        try:
            self._pass_on()
            for _ in range(FEED_BURST):
                if not self._feed_once():
                    break
                self._pass_on()
        finally:
            self._settling = False
        if self.conn is not None:
            self._watch()

    def _on_ready(self, mask: int) -> None:
        conn = self.conn
        if conn is None:
            return  # ended earlier in this turn
        if mask & READ:
            before = conn.wire.received_bytes
            conn.read()
            if conn.wire.received_bytes != before:
                self._pulse.on_heard(time.monotonic())
        if mask & WRITE and conn.want_write:
            conn.write()
        self.settle()

    def _pass_on(self) -> None:
        while self.conn is not None and self.conn.events:
            fn, args = self.conn.events.popleft()
            fn(*args)

    @property
    def _can_feed(self) -> bool:
        return self.hungry and self._feed is not None and self.limits is not None

    def _feed_once(self) -> bool:
        conn = self.conn
        if not self._can_feed or self._stopping or conn.want_write or not conn.wire.writable():
            return False
        self.hungry = False  # before the call: a kick() during it must not be forgotten
        publication = self.guard.call("feed", self._feed)
        if publication is None:
            return False
        self.hungry = True
        try:
            size = self.limits.check(publication)
        except SplitError as e:
            self.stats.publishes_refused += 1
            log.warning("event=feed_refused reason=%r", str(e))
            return True
        self.publish(conn, publication, size, None)
        return True

    def _watch(self) -> None:
        conn = self.conn
        leaving = self._stopping and self.limits is not None and conn.drained
        if leaving and conn.wire.writable():
            self._hang_up()
            return
        wants = conn.want_write or leaving or (self._can_feed and not self._stopping)
        mask = READ | WRITE if wants else READ
        if mask != self._mask and not conn.wire.closed:
            self._mask = mask
            self._reactor.rewatch(conn.wire, mask, self._on_ready)

    def _beat(self) -> None:
        """Look at the link; ping it or give it up."""
        conn, now_s = self.conn, time.monotonic()
        if conn is None:                 # closed in this very turn
            return
        acked, handed = conn.wire.progress()
        self._pulse.on_progress(acked, handed, conn.want_write, now_s)
        if self._pulse.dead(now_s):
            self.on_lost("no sign of life from the broker", None)
            return
        if self._pulse.ping_due(now_s):
            conn.ping()
            self._pulse.on_ping(now_s)
            self.settle_soon()
        self._pulse_timer = self._reactor.call_at(self._pulse.next_check_s(now_s), self._beat)

    def _close(self) -> None:
        conn, self.conn, self.limits = self.conn, None, None
        if self._pulse_timer is not None:
            self._pulse_timer.cancel()
        self._reactor.unwatch(conn.wire)
        for on_done in conn.abandon():
            self.stats.publishes_lost += 1
            self.guard.call("on_done", on_done, False)

    def _hang_up(self) -> None:
        conn, self.conn, self.limits = self.conn, None, None
        self._reactor.unwatch(conn.wire)
        conn.disconnect()
        conn.wire.hang_up(max(0.0, self._stop_by_s - time.monotonic()))
        self._reactor.stop()

    # Told by the connector.

    def on_connected(self, conn: Connection) -> None:
        """There is a socket to the broker; what follows is MQTT."""
        self.conn = conn
        self._mask = READ
        self._reactor.watch(conn.wire, READ, self._on_ready)
        self._pulse = Liveness(self.connector.keepalive_s, time.monotonic())
        conn.open()
        self.settle()

    def on_silence(self) -> None:
        """No CONNACK has come in time."""
        self._close()
        self.connector.on_silence()

    def on_unreachable(self, error: SplitError) -> None:
        """There is a new reason why there is no connection."""
        self.guard.call("on_down", self._callbacks.on_down, str(error))

    # Told by the connection.

    def on_accepted(self, limits: BrokerLimits) -> None:
        """CONNACK: the session is up."""
        self.connector.on_accepted()
        self.stats.connects += 1
        self.limits = limits
        self.hungry = True
        keepalive_s = limits.keepalive_s or self.connector.keepalive_s
        self._pulse = Liveness(keepalive_s, time.monotonic())
        self._beat()
        self.conn.subscribe(self._subscriptions)
        log.info("event=up broker=%s mqtt=%s", self.connector.address, limits.protocol)
        self.guard.call("on_up", self._callbacks.on_up, limits)

    def on_refused(self, code: int, reason: str) -> None:
        """CONNACK with a failure."""
        self._close()
        self.connector.on_refused(code, reason)

    def on_lost(self, reason: str, code: int | None) -> None:
        """The connection has ended, or is given up."""
        was_up = self.limits is not None
        self._close()
        if self._stopping:
            self._reactor.stop()
        self.connector.on_lost(reason, code, was_up=was_up)

    def on_arrival(self, topic: str, payload: bytes, received: Received) -> None:
        """A message."""
        self.stats.messages_in += 1
        self.guard.call("on_message", self._callbacks.on_message, topic, payload, received)

    def on_published(self, on_done: OnDone | None, failure: str | None) -> None:
        """A message is on its way (QoS 0) or acknowledged (QoS 1)."""
        if failure is not None:
            self.stats.publishes_refused += 1
            log.warning("event=publish_refused reason=%r", failure)
        if on_done is not None:
            self.guard.call("on_done", on_done, failure is None)

    def on_subscribed(self, topic_filter: str, failure: str | None) -> None:
        """SUBACK for one filter."""
        if failure is None:
            return
        self.stats.subscriptions_refused += 1
        log.warning("event=subscription_refused filter=%s reason=%r", topic_filter, failure)
        on_refused = self._callbacks.on_subscription_refused
        if on_refused is not None:
            self.guard.call("on_subscription_refused", on_refused, topic_filter, failure)
