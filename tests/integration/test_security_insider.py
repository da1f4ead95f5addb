"""What somebody with credentials of his own tries beside plain publishing and subscribing, on a
real mosquitto with the shipped configuration: each try with a control that shows that it was one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from edge_agent.remote.config import HomeAssistantConfig
from edge_agent.remote.discovery import discovery_topic
from split_core.wire.topics import Topics
from tests.support.brokers import Mosquitto
from tests.support.recorder import Recorder
from tests.support.rig import ROOT, wait_until
from tests.support.secured import SecuredBroker, SecuredPool, make_acl

NAMES = ("device door\ndevice gate\nworker w1\noperator anna\nviewer wall\nprogram bell door\n"
         "home-assistant ha\n")
READY = b'{"state":"ready","session":"1"}'
_TIMEOUT_S = 15.0


class Insider:
    """A client that does what ours never do; paho itself, with a certificate of the authority."""

    def __init__(self, broker: SecuredBroker, user: str, client_id: str, *filters: str, will=None):
        self.ended = threading.Event()
        self.seen: list[tuple[str, bytes]] = []
        self._up, self._subscribed = threading.Event(), threading.Event()
        self._codes: dict[int, str] = {}
        self._acknowledged = threading.Condition()
        client = self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id,
                                            protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        made = broker.certificate(user)
        client.tls_set(str(broker.authority.file), str(made.cert), str(made.key))
        client.on_connect = lambda *_: self._up.set()
        client.on_disconnect = lambda *_: self.ended.set()
        client.on_message = lambda c, u, m: self.seen.append((m.topic, m.payload))
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_publish = self._on_publish
        if will is not None:
            client.will_set(*will)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        assert self._up.wait(_TIMEOUT_S)
        if filters:
            client.subscribe([(f, mqtt.SubscribeOptions(qos=1)) for f in filters])
            assert self._subscribed.wait(_TIMEOUT_S)

    def __enter__(self) -> Insider:
        return self

    def __exit__(self, *_exc) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False,
                alias: int | None = None) -> bool:
        """At QoS 1; whether the broker accepted it."""
        properties = mqtt.Properties(mqtt.PacketTypes.PUBLISH)
        if alias is not None:
            properties.TopicAlias = alias
        number = self._client.publish(topic, payload, 1, retain, properties).mid
        with self._acknowledged:
            assert self._acknowledged.wait_for(lambda: number in self._codes, _TIMEOUT_S)
        return self._codes[number] != "Not authorized"

    def die(self) -> None:
        """Without a goodbye, as by a cut cable."""
        self._client.socket().shutdown(socket.SHUT_RDWR)
        assert self.ended.wait(_TIMEOUT_S)

    def _on_publish(self, client, userdata, number, code, properties) -> None:
        with self._acknowledged:
            self._codes[number] = str(code)
            self._acknowledged.notify_all()


@pytest.fixture
def broker(tmp_path) -> Iterator[SecuredBroker]:
    with SecuredBroker(tmp_path, NAMES) as running:
        yield running


def test_mosquitto_gives_a_client_id_to_whoever_asks_for_it(broker):
    """Why ours must not be known: the user name does not matter."""
    with Insider(broker, "door", "a-known-id") as victim:
        with Insider(broker, "gate", "a-known-id"):
            assert victim.ended.wait(_TIMEOUT_S)


def test_what_a_device_says_of_itself_does_not_name_its_connection(broker, camera):
    with SecuredPool(broker) as pool, broker.user("auditor", "#") as auditor:
        agent = pool.device("door", camera.bundle, ready=False)
        wait_until(lambda: agent.node.is_up, 10, "the connection")
        wait_until(lambda: "si/v1/door/up/status" in auditor.topics, 10, "the status")
        session = agent.node.session_hex
        for client_id in ("door", session, f"door-{session}", f"door-{session.lstrip('0')}"):
            with Insider(broker, "gate", client_id) as gate:
                assert gate.publish("si/v1/gate/up/status", READY)
        assert agent.node.is_up and agent.node.session.stats.connects == 1


def test_a_last_will_has_no_more_rights_than_its_writer(broker):
    with broker.user("auditor", "#") as auditor:
        for topic in ("si/v1/door/up/status", "si/v1/_pool/w1/up/status", "si/v1/gate/up/status"):
            with Insider(broker, "gate", "g", will=(topic, b"its will", 1, True)) as gate:
                gate.die()
        auditor.wait_for(b"its will")            # the last of the three; the broker keeps order
        assert {s.topic for s in auditor.seen if s.payload == b"its will"} == {
            "si/v1/gate/up/status"}


def test_a_topic_alias_leads_nowhere_else(broker):
    with broker.user("auditor", "#") as auditor, Insider(broker, "gate", "g") as gate:
        assert gate.publish("si/v1/gate/up/event", b"named", alias=1)
        assert gate.publish("", b"by alias", alias=1)
        assert not gate.publish("si/v1/door/up/event", b"named otherwise", alias=1)
        gate.publish("", b"by the other alias", alias=1)
        assert gate.publish("si/v1/gate/up/event", b"last")
        auditor.wait_for(b"last")
        assert {s.payload for s in auditor.seen} >= {b"named", b"by alias", b"last"}
        assert "si/v1/door/up/event" not in auditor.topics


def test_nobody_sees_what_the_broker_says_of_itself(broker):
    for name in ("door", "w1", "anna", "wall", "bell", "ha"):
        with Insider(broker, name, f"{name}-1", "$SYS/#", "test/fence") as one:
            with broker.user("auditor") as auditor:
                assert auditor.may_write("test/fence", b"after")
            wait_until(lambda: one.seen, 10, "what comes behind the retained messages")
            assert {topic for topic, _ in one.seen} == {"test/fence"}, name


def test_a_name_that_is_taken_off_the_list_has_no_rights_from_then_on(broker):
    """On its open connection, too. What it has retained stays, and is cleared by others."""
    topic = "si/v1/gate/up/status"
    with Insider(broker, "gate", "g", "si/v1/gate/dn/#") as gate, \
            broker.user("auditor", topic) as auditor:
        assert gate.publish(topic, READY, retain=True)
        acl = Path(broker.directory / "acl")
        acl.write_text(make_acl(NAMES.replace("device gate\n", "")
                                + "viewer auditor\nalso auditor readwrite #\n"
                                + "also wall read test/fence\n"))
        os.kill(broker._broker._process.pid, signal.SIGHUP)
        wait_until(lambda: not gate.publish("si/v1/gate/up/event"), 10, "the new list")
        assert auditor.may_write("si/v1/gate/dn/in/w1", b"a secret")
        assert not gate.publish(topic) and not gate.seen and not gate.ended.is_set()
        with broker.user("wall", topic) as late:
            wait_until(lambda: late.topics == {topic}, 10, "what stays")
        assert auditor.may_write(topic, b"", retain=True)
        with broker.user("wall", topic) as late:
            assert auditor.may_write("test/fence", b"behind it")
            late.wait_for(b"behind it")
            assert not late.topics


def test_a_device_that_fills_the_brokers_memory_is_thrown_out_alone(tmp_path):
    """mosquitto counts no retained messages; its memory_limit is what ends it."""
    broker = SecuredBroker(tmp_path, NAMES)
    config = broker._broker._config
    text = config.read_text()
    assert text.count("memory_limit 268435456") == 1
    config.write_text(text.replace("memory_limit 268435456", "memory_limit 40000000"))
    with broker, broker.user("w1", "si/v1/_pool/w1/in/+") as worker, \
            broker.user("door") as door, Insider(broker, "gate", "g") as gate:
        big = os.urandom(1_000_000)
        for number in range(80):
            gate._client.publish(f"si/v1/gate/up/{number}", big, 1, True)
        assert gate.ended.wait(60)
        wait_until(lambda: "Client g disconnected due to out of memory" in broker.log(), 10,
                   "a word about it in the broker's log")
        for number in range(20):                 # the others go on
            assert door.may_write("si/v1/_pool/w1/in/door", b"%d" % number + bytes(50_000))
        wait_until(lambda: len(worker.seen) == 20, 20, "the frames")


def test_forgetting_a_device_takes_away_all_it_left(tmp_path):
    topics = Topics()
    left = [topics.device_up("pi.old", channel) for channel in (
        "status", "info", "profile", "plan")]
    left += [topics.worker_up("w-old", channel) for channel in (
        "status", "info", "profile", "load")]
    left.append(discovery_topic(HomeAssistantConfig(), "pi.old"))
    stays = "si/v1/pi-new/up/status"
    with Mosquitto(tmp_path) as plain, Recorder(plain.port) as seen:
        for topic in (*left, stays):
            seen.publish(topic, READY, 1, True)
        wait_until(lambda: len(seen.messages) == len(left) + 1, 10, "all of it")
        for name in ("pi.old", "w-old"):
            subprocess.run([sys.executable, ROOT / "integrations/python/forget.py",
                            f"127.0.0.1:{plain.port}", name], check=True, timeout=30)
        with Recorder(plain.port) as late:
            late.publish("fence")
            late.wait(lambda m: m.topic == "fence", "the fence")
            assert {m.topic for m in late.messages} == {stays, "fence"}
