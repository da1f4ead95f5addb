"""An MQTT session that outlives its connections: one network thread, callbacks on that thread.

Everything of paho and every callback runs on the network thread; other threads hand functions
over, which costs one wake-up. Bulk data is pulled (`set_feed`) and never queued here: what has
not been taken yet can still be replaced by something newer.
"""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable
from functools import partial

from split_core.errors import LinkDown, MessageError, SplitError
from split_core.session import socket_recipe
from split_core.session.connection import OnDone
from split_core.session.connector import Connector
from split_core.session.engine import Callbacks, Engine
from split_core.session.guard import SessionStats, log
from split_core.session.options import BrokerLimits, BrokerOptions
from split_core.session.publication import Publication, Received
from split_core.session.reactor import Reactor, Timer
from split_core.session.socket_recipe import LinkInfo

# What publish() may leave waiting above the socket. Bulk goes through the feed, so this is
# status and commands: a link that is this far behind does not take even those.
MAX_BACKLOG_BYTES = 1_000_000
# Larger packets are not meant for us. MQTT 5 brokers are told, and keep them.
MAX_INCOMING_BYTES = 1_048_576


class Session:
    """Keeps a connection to one broker, from start() to stop(). Callbacks must be brief.

    `on_up(limits)` follows each connect, after the remembered subscriptions have been sent:
    the place to publish a birth. `on_down(reason)` follows each loss, and each new reason why
    there is no connection yet. `on_fatal(error)` means that the network thread has died, which
    is a fault of ours. A session starts once and stops once.
    """

    def __init__(
        self,
        options: BrokerOptions,
        *,
        client_id: str,
        on_up: Callable[[BrokerLimits], None],
        on_down: Callable[[str], None],
        on_message: Callable[[str, bytes, Received], None],
        will: Publication | None = None,
        will_delay_s: int = 0,
        on_subscription_refused: Callable[[str, str], None] | None = None,
        on_fatal: Callable[[BaseException], None] | None = None,
        max_incoming_bytes: int = MAX_INCOMING_BYTES,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = Reactor()
        callbacks = Callbacks(on_up, on_down, on_message, on_subscription_refused)
        self._engine = Engine(callbacks, self._reactor)
        self._connector = self._engine.connector = Connector(
            options,
            client_id,
            will,
            will_delay_s,
            max_incoming_bytes,
            chance,
            self._reactor,
            self._engine,
            self._engine.stats,
        )
        self._on_fatal = on_fatal
        self._oversize = 0               # bytes of one under way beside which others may wait
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{client_id}", daemon=True)

    def start(self) -> None:
        """Begin to connect. Never raises for a broker that cannot be reached."""
        self._reactor.call_soon(self._connector.begin)
        self._thread.start()

    def stop(self, farewell: Publication | None = None, timeout_s: float = 2.0) -> None:
        """Publish the farewell, let what is queued drain, DISCONNECT, end the thread.

        What takes longer than `timeout_s` is cut off; the broker then publishes the will. On
        the network thread itself this only begins.
        """
        if self._thread.ident is None:
            self._reactor.close()
            return
        begin = partial(self._engine.begin_stop, partial(self._say, farewell), timeout_s)
        self._reactor.call_soon(begin)
        if self._reactor.inside:
            return
        self._thread.join(timeout_s + 1.0)
        self._connector.join(1.0)
        if self._thread.is_alive():
            log.error("event=stop_overdue thread=%s", self._thread.name)

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self._engine.limits is not None

    @property
    def is_alive(self) -> bool:
        """Whether the network thread runs; for a watchdog."""
        return self._thread.is_alive()

    @property
    def limits(self) -> BrokerLimits | None:
        """What the broker takes, while connected."""
        return self._engine.limits

    @property
    def trouble(self) -> SplitError | None:
        """Why there is no connection: LinkDown, PermissionRefused or ConfigError."""
        return None if self.is_up else self._connector.trouble

    @property
    def stats(self) -> SessionStats:
        """A copy of the counters."""
        return dataclasses.replace(self._engine.stats)

    def subscribe(self, topic_filter: str, qos: int = 0) -> None:
        """Subscribe now and on every connect."""
        self._soon("subscribe", self._engine.subscribe, topic_filter, qos)

    def unsubscribe(self, topic_filter: str) -> None:
        """End a subscription."""
        self._soon("unsubscribe", self._engine.unsubscribe, topic_filter)

    def publish(self, publication: Publication, on_done: OnDone | None = None) -> None:
        """Send now; on the network thread before this returns, as far as the socket takes it.

        `on_done(ok)` is called when the kernel has taken a QoS 0 message or the broker has
        acknowledged a QoS 1 message, or when the connection has ended before. Raises
        MessageError for what the broker would refuse and LinkDown while there is no
        connection: nothing is kept for later. QoS is lowered to what the broker offers.
        """
        engine, reactor = self._engine, self._reactor
        limits, conn = engine.limits, engine.conn
        try:
            if limits is None or conn is None:
                raise LinkDown(f"{publication.topic}: no connection to the broker")
            size = limits.check(publication)
            waiting = engine.queued_bytes(conn)
            # One that is larger alone goes when nothing else waits; else it never would. What
            # is small goes beside it.
            if not waiting:
                self._oversize = size if size > MAX_BACKLOG_BYTES else 0
            elif waiting + size > MAX_BACKLOG_BYTES + self._oversize:
                raise LinkDown(f"{publication.topic}: {waiting} bytes already wait")
        except (LinkDown, MessageError):
            engine.stats.publishes_refused += 1
            raise
        if reactor.inside:
            engine.publish(conn, publication, size, on_done)
        else:
            engine.hand_over(conn, publication, size, on_done)

    def set_feed(self, next_publication: Callable[[], Publication | None]) -> None:
        """Where bulk data is asked for, one publication whenever little is waiting below.

        Called on the network thread while connected, until it returns None; then again after
        kick() or the next connect. QoS 0 is meant: QoS 1 would queue behind its window.
        """
        self._soon("feed", self._engine.set_feed, next_publication)

    def kick(self) -> None:
        """The feed may have something (again)."""
        self._engine.hungry = True
        if self._reactor.inside:
            self._engine.settle_soon()
        else:
            self._reactor.call_soon(self._engine.settle)

    def doubt(self, patience_s: float) -> None:
        """Answers stay away: ping the broker now, and connect anew unless the link shows life
        within `patience_s`. A live link is not disturbed."""
        self._soon("doubt", self._engine.doubt, patience_s)

    def call_soon(self, fn: Callable[[], None]) -> None:
        """Call fn on the network thread."""
        self._soon("call_soon", fn)

    def call_at(self, when_s: float, fn: Callable[[], None]) -> Timer:
        """Call fn on the network thread at a time of time.monotonic(); the result cancels it."""
        return self._reactor.call_at(when_s, partial(self._engine.guard.call, "call_at", fn))

    def backlog_bytes(self) -> int:
        """Bytes published that the broker's kernel has not acknowledged yet."""
        conn = self._engine.conn
        if conn is None:
            return 0
        return self._engine.queued_bytes(conn) + socket_recipe.unacked_bytes(conn.wire.sock)

    def link_info(self) -> LinkInfo | None:
        """The kernel's view of the connection to the broker; None where it has none."""
        conn = self._engine.conn
        return None if conn is None else socket_recipe.link_info(conn.wire.sock)

    def _soon(self, name: str, fn: Callable, *args) -> None:
        self._reactor.call_soon(partial(self._engine.guard.call, name, fn, *args))

    def _say(self, farewell: Publication | None) -> None:
        if farewell is None:
            return
        try:
            self.publish(farewell)
        except SplitError as e:
            log.warning("event=farewell_refused reason=%r", str(e))

    def _run(self) -> None:
        try:
            self._reactor.run()
        except BaseException as e:
            log.exception("event=network_thread_died")
            self._engine.end()
            if self._on_fatal is not None:
                self._on_fatal(e)
        finally:
            self._engine.end()
