"""A dashboard's client that forgets nothing: each message with its QoS and retain flag as the
sender set them. paho itself, because our own session tells its callers neither."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import paho.mqtt.client as mqtt


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message."""

    topic: str
    payload: bytes
    qos: int
    retained: bool


class Recorder:
    """Subscribed to everything at QoS 2, from the beginning of the block to its end."""

    def __init__(self, port: int):
        self._port, self._changed = port, threading.Condition()
        self.messages: list[Recorded] = []
        self._subscribed = threading.Event()
        # Connects again by itself when the broker has been away.
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        as_published = mqtt.SubscribeOptions(qos=2, retainAsPublished=True)
        self._client.on_connect = lambda client, *_: client.subscribe([("#", as_published)])
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message

    def __enter__(self) -> Recorder:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._subscribed.wait(15), "the broker grants no subscription"
        return self

    def __exit__(self, *_exc) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client, userdata, message) -> None:
        with self._changed:
            self.messages.append(Recorded(message.topic, message.payload, message.qos,
                                          bool(message.retain)))
            self._changed.notify_all()

    def publish(self, topic: str, payload: bytes = b"", qos: int = 0, retain: bool = False,
                **properties) -> None:
        """``properties``: of MQTT 5, as paho spells them."""
        made = mqtt.Properties(mqtt.PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(made, name, value)
        self._client.publish(topic, payload, qos, retain, made)

    def wait(self, condition: Callable[[Recorded], bool], what: str,
             timeout_s: float = 30.0) -> Recorded:
        """The first message for which it holds."""
        limit_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = next((m for m in self.messages if condition(m)), None)
                if found is not None:
                    return found
                if not self._changed.wait(limit_s - time.monotonic()):
                    raise AssertionError(f"{what}: not within {timeout_s} s; last"
                                         f" {self.messages[-3:]}")
