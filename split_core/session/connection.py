"""One paho client, from its CONNECT to its end: the only importer of paho.

A new client for each connection: paho then has no old QoS 1 messages to send again, no stale
in-flight count and no half-read packet. Callbacks of paho only append to `events`; the session
takes them out after paho has returned. So no foreign code ever runs inside paho, whose mutex
is not reentrant and whose parser an exception would leave half way.

paho's loop_misc is not used: its keepalive check is what liveness.py replaces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from split_core.errors import PermissionRefused
from split_core.session import refusals
from split_core.session.options import BrokerLimits, BrokerOptions
from split_core.session.publication import Publication, Received
from split_core.session.socket_recipe import rearm_quickack
from split_core.session.wire import Wire

_PROTOCOLS = {"5": mqtt.MQTTv5, "3.1.1": mqtt.MQTTv311}
_SUCCESS = mqtt.MQTTErrorCode.MQTT_ERR_SUCCESS

VERSION_REFUSED = 0x84
NOT_AUTHORIZED = 0x87

# QoS 1 messages under way at once; paho's own default. Brokers may ask for fewer (HiveMQ Edge:
# 10) and close the connection of a client that sends more; paho does not look.
MAX_UNACKNOWLEDGED = 20
# QoS 1 messages that wait for a place among those. They are status and commands, a handful.
MAX_HELD = 100

# What nearly every message comes with.
_PLAIN = Received()
_PLAIN_RETAINED = Received(retain=True)

OnDone = Callable[[bool], None]


class Listener(Protocol):
    """What the owner of a Connection is told, through `events`."""

    def on_accepted(self, limits: BrokerLimits) -> None: ...
    def on_refused(self, code: int, reason: str) -> None: ...
    def on_arrival(self, topic: str, payload: bytes, received: Received) -> None: ...
    def on_published(self, on_done: OnDone | None, failure: str | None) -> None: ...
    def on_subscribed(self, topic_filter: str, failure: str | None) -> None: ...
    def on_lost(self, reason: str, code: int | None) -> None: ...


class _Client(mqtt.Client):
    """A paho client that is given its socket instead of opening one."""

    wire: Wire
    on_plain_message: Callable[[str, bytes, bool], None]

    def _create_socket(self) -> Any:
        return self.wire

    def _handle_publish(self) -> mqtt.MQTTErrorCode:
        # The latency path, QoS 0 without properties: 2 us, where paho takes 21 (x86-64, 20 kB),
        # nearly all of it for property objects that stay empty. A round trip through mosquitto
        # went from 1.25 to 0.85 times that of a bare paho loop. What has more to it, or looks
        # wrong, is paho's; so is everything, should paho rename this method.
        packet: bytearray = self._in_packet["packet"]
        head: int = self._in_packet["command"]
        end = 2 + int.from_bytes(packet[:2], "big")
        start = end + 1 if self.protocol == mqtt.MQTTv5 else end
        if head & 0x06 or not 2 < end <= start <= len(packet) or any(packet[end:start]):
            return super()._handle_publish()
        try:
            topic = packet[2:end].decode()
        except UnicodeDecodeError:
            return super()._handle_publish()
        with memoryview(packet) as view:
            self.on_plain_message(topic, bytes(view[start:]), bool(head & 0x01))
        return _SUCCESS


class Connection:
    """Speaks MQTT over one Wire. Every method belongs to the network thread."""

    def __init__(
        self,
        wire: Wire,
        options: BrokerOptions,
        protocol: str,
        client_id: str,
        max_incoming_bytes: int,
        listener: Listener,
    ) -> None:
        self.wire = wire
        self.events: deque[tuple[Callable[..., None], tuple]] = deque()
        self._listener = listener
        self._protocol = protocol
        self._options = options
        self._window = MAX_UNACKNOWLEDGED
        self._maximum_qos = 1
        self._unacknowledged: dict[int, OnDone | None] = {}
        self._held: deque[tuple[Publication, int, OnDone | None]] = deque()
        self._unsent: deque[tuple[mqtt.MQTTMessageInfo, OnDone]] = deque()
        self._subscribing: dict[int, list[str]] = {}
        self._handed_bytes = 0
        self._sent_mark = 0
        self._client = client = _Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=_PROTOCOLS[protocol],
            reconnect_on_failure=False,
        )
        client.wire = wire
        client.max_inflight_messages_set(0)  # the window is ours: see publish()
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_plain_message = self._on_plain_message
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        if options.username is not None:
            client.username_pw_set(options.username, options.password)
        self._connect_properties = self._new_properties(PacketTypes.CONNECT)
        if self._connect_properties is not None:
            self._connect_properties.MaximumPacketSize = max_incoming_bytes

    def set_will(self, will: Publication, delay_s: int) -> None:
        """Ask the broker to publish this when we vanish. Before open()."""
        properties = self._publish_properties(will, PacketTypes.WILLMESSAGE)
        if delay_s and self._connect_properties is not None:
            properties = properties or Properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = delay_s
            # A will is published when its session ends, however long its delay: the session
            # must outlive the connection by as much. A clean start discards it anyway.
            self._connect_properties.SessionExpiryInterval = delay_s
        self._client.will_set(will.topic, will.payload, will.qos, will.retain, properties)

    def open(self) -> None:
        """Send CONNECT."""
        options = self._options
        self._client.connect_async(
            options.host or "unix-socket",
            options.port or 1,
            options.keepalive_s,
            clean_start=True,
            properties=self._connect_properties,
        )
        self._client.reconnect()

    def read(self) -> None:
        """Take in what has arrived."""
        wire = self.wire
        try:
            while self._client.loop_read() == _SUCCESS and wire.pending():
                pass
        except Exception as e:  # paho met a packet that it cannot parse
            self.events.append((self._listener.on_lost, (f"broken packet: {e!r}", None)))
            return
        if wire.closed:
            return
        # With TLS a write may have been waiting for something to read.
        if wire.tls and self.want_write:
            self.write()
        rearm_quickack(wire.sock)

    def write(self) -> None:
        """Send what paho has waiting, as far as the socket takes it."""
        self._client.loop_write()
        self._note_sent()

    @property
    def want_write(self) -> bool:
        """Whether bytes wait in paho."""
        return self._client.want_write()

    @property
    def drained(self) -> bool:
        """Whether everything published has left, and what wants an answer has one."""
        return not (self.want_write or self._held or self._unacknowledged)

    def queued_bytes(self) -> int:
        """Bytes of publications that wait above the socket."""
        if not self.want_write:
            return 0
        return max(0, self._handed_bytes - (self.wire.sent_bytes - self._sent_mark))

    def publish(self, publication: Publication, size: int, on_done: OnDone | None) -> bool:
        """Send, or hold until there is room in the QoS 1 window; false when neither can be."""
        if publication.qos and self._maximum_qos and (self._held or not self._has_room):
            if len(self._held) >= MAX_HELD:
                return False
            self._held.append((publication, size, on_done))
            return True
        return self._send(publication, size, on_done)

    @property
    def _has_room(self) -> bool:
        return len(self._unacknowledged) < self._window

    def _send(self, publication: Publication, size: int, on_done: OnDone | None) -> bool:
        if not self.want_write:
            self._handed_bytes = 0
            self._sent_mark = self.wire.sent_bytes
        self._handed_bytes += size
        qos = min(publication.qos, self._maximum_qos)
        # paho builds two objects (11 us) for each packet sent while this is set.
        self._client.on_publish = self._on_puback if qos or self._unacknowledged else None
        info = self._client.publish(
            publication.topic,
            publication.payload,
            qos,
            publication.retain,
            self._publish_properties(publication, PacketTypes.PUBLISH),
        )
        if info.rc != _SUCCESS:
            return False
        if qos:
            self._unacknowledged[info.mid] = on_done
        elif on_done is not None:
            self._unsent.append((info, on_done))
            self._note_sent()
        return True

    def subscribe(self, filters: dict[str, int]) -> None:
        """Subscribe to all filters in one packet."""
        if filters:
            _, mid = self._client.subscribe(list(filters.items()))
            self._subscribing[mid] = list(filters)

    def unsubscribe(self, topic_filter: str) -> None:
        """End a subscription."""
        self._client.unsubscribe(topic_filter)

    def ping(self) -> None:
        """Send PINGREQ."""
        # Not public, but loop_misc is the only public way, and it comes with a check that
        # closes the connection (see liveness.py). tests/split_core/test_session_link.py
        # fails when paho renames it.
        self._client._send_pingreq()

    def disconnect(self) -> None:
        """Send DISCONNECT; the wire stays open for hang_up()."""
        self.wire.keep_open = True
        self._client.disconnect()

    def abandon(self) -> list[OnDone]:
        """Close without a word; returns who still waits for an answer."""
        self._client.on_disconnect = None
        self.wire.keep_open = False
        self.wire.close()
        waiting = [on_done for _, on_done in self._unsent]
        waiting += self._unacknowledged.values()
        waiting += [on_done for _, _, on_done in self._held]
        return [on_done for on_done in waiting if on_done is not None]

    def _note_sent(self) -> None:
        while self._unsent and self._unsent[0][0].is_published():
            on_done = self._unsent.popleft()[1]
            self.events.append((self._listener.on_published, (on_done, None)))

    # What follows is called by paho.

    def _on_connect(self, _client, _userdata, _flags, reason, properties) -> None:
        if reason.is_failure:
            text = _reason_text(reason, properties)
            self.events.append((self._listener.on_refused, (reason.value, text)))
            return
        limits = BrokerLimits(
            protocol=self._protocol,
            max_packet_bytes=getattr(properties, "MaximumPacketSize", None),
            receive_maximum=getattr(properties, "ReceiveMaximum", 65_535),
            maximum_qos=min(1, getattr(properties, "MaximumQoS", 1)),
            retain_available=bool(getattr(properties, "RetainAvailable", 1)),
            keepalive_s=getattr(properties, "ServerKeepAlive", self._options.keepalive_s),
        )
        self._window = min(MAX_UNACKNOWLEDGED, limits.receive_maximum)
        self._maximum_qos = limits.maximum_qos
        self.events.append((self._listener.on_accepted, (limits,)))

    def _on_message(self, _client, _userdata, message) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # MQTT allows no such topic
        properties = message.properties
        received = Received(
            qos=message.qos,
            retain=message.retain,
            expiry_s=getattr(properties, "MessageExpiryInterval", None),
            content_type=getattr(properties, "ContentType", None),
            response_topic=getattr(properties, "ResponseTopic", None),
            correlation=getattr(properties, "CorrelationData", None),
        )
        self.events.append((self._listener.on_arrival, (topic, message.payload, received)))

    def _on_plain_message(self, topic: str, payload: bytes, retain: bool) -> None:
        received = _PLAIN_RETAINED if retain else _PLAIN
        self.events.append((self._listener.on_arrival, (topic, payload, received)))

    def _on_puback(self, _client, _userdata, mid, reason, properties) -> None:
        if mid not in self._unacknowledged:
            return  # QoS 0: _note_sent() sees to it
        on_done = self._unacknowledged.pop(mid)
        failure = _reason_text(reason, properties) if reason.is_failure else None
        self.events.append((self._listener.on_published, (on_done, failure)))
        self.events.append((self._release, ()))

    def _release(self) -> None:
        while self._held and self._has_room:
            publication, size, on_done = self._held.popleft()
            if not self._send(publication, size, on_done):
                self.events.append((self._listener.on_published, (on_done, "connection lost")))

    def _on_subscribe(self, _client, _userdata, mid, reasons, properties) -> None:
        for topic_filter, reason in zip(self._subscribing.pop(mid, ()), reasons, strict=False):
            failure = _reason_text(reason, properties) if reason.is_failure else None
            self.events.append((self._listener.on_subscribed, (topic_filter, failure)))

    def _on_disconnect(self, _client, _userdata, flags, reason, properties) -> None:
        if flags.is_disconnect_packet_from_server:
            text = f"the broker ended the connection: {_reason_text(reason, properties)}"
            code = reason.value
        elif self.wire.ended_by is not None:
            error = refusals.of_client(self.wire.ended_by, self._options.address)
            text = str(error)
            code = NOT_AUTHORIZED if isinstance(error, PermissionRefused) else None
        else:
            text, code = self.wire.ended or f"connection lost: {reason}", None
        self.events.append((self._listener.on_lost, (text, code)))

    def _new_properties(self, packet_type: int) -> Properties | None:
        return Properties(packet_type) if self._protocol == "5" else None

    def _publish_properties(self, publication: Publication, packet_type: int) -> Properties | None:
        if self._protocol != "5" or not publication.has_properties:
            return None
        properties = Properties(packet_type)
        if publication.expiry_s is not None:
            properties.MessageExpiryInterval = publication.expiry_s
        if publication.content_type is not None:
            properties.ContentType = publication.content_type
        if publication.response_topic is not None:
            properties.ResponseTopic = publication.response_topic
        if publication.correlation is not None:
            properties.CorrelationData = publication.correlation
        return properties


def _reason_text(reason: Any, properties: Any) -> str:
    detail = getattr(properties, "ReasonString", None)
    return f"{reason} ({detail})" if detail else str(reason)
