"""A node that runs is said to run, whatever else was said in its name meanwhile."""

from __future__ import annotations

import time

import pytest

from split_core import node as node_module
from split_core.node import Node
from split_core.session import BrokerOptions
from split_core.wire.records import DeviceStatus, dump
from split_core.wire.topics import Topics
from tests.support.brokers import Mosquitto
from tests.support.observer import Observer

SOON_S = 20.0
STATUS = "si/v1/pi-door/up/status"


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A device's, that says what it is every 0.6 s."""
    monkeypatch.setattr(node_module, "STATUS_S", 0.6)
    yield from running(tmp_path, monkeypatch, keepalive_s=1)


@pytest.fixture
def connected(tmp_path, monkeypatch):
    """One that says it two keepalives after it has connected, and not again for long."""
    yield from running(tmp_path, monkeypatch, keepalive_s=1)


def running(tmp_path, monkeypatch, **options):
    monkeypatch.setattr(node_module, "_SWEEP_S", 0.1)
    topics = Topics("si/v1")
    with Mosquitto(tmp_path) as broker:
        node = Node(BrokerOptions.from_url(broker.url, **options), topics, node_id="pi-door",
                    status_topic=STATUS, inbox_filter="si/v1/pi-door/dn/in/+",
                    status_of=DeviceStatus, on_message=lambda sender, message: None)
        node.start()
        yield broker, node
        node.stop()


@pytest.mark.parametrize("state", ["stopped", "lost"])
def test_what_a_twin_or_an_old_will_left_behind_is_put_right(node, state):
    broker, node = node
    watcher = Observer(broker.url, STATUS).start()
    try:
        watcher.wait(lambda seen: seen.record.get("session") == node.session_hex, SOON_S, "itself")
        watcher.publish(STATUS, dump(DeviceStatus(state, "0" * 16)), retain=True)
        wrong = watcher.wait(lambda seen: seen.record.get("session") == "0" * 16, SOON_S,
                             "the other")
        watcher.wait(lambda seen: seen.record == {"state": "ready", "session": node.session_hex},
                     SOON_S, "itself again", after_s=wrong.seen_s)
        late = Observer(broker.url, STATUS).start()
        try:
            first = late.wait(lambda seen: seen.retain, SOON_S, "what is kept")
            assert first.record["session"] == node.session_hex
        finally:
            late.stop()
    finally:
        watcher.stop()


def test_the_last_will_of_the_connection_before_is_put_right_soon(connected):
    """Power came back within a keepalive and a half: the broker says "lost" after our "ready"."""
    broker, node = connected
    watcher = Observer(broker.url, STATUS).start()
    try:
        watcher.wait(lambda seen: seen.record.get("session") == node.session_hex, SOON_S, "itself")
        watcher.publish(STATUS, dump(DeviceStatus("lost", "0" * 16)), retain=True)
        wrong = watcher.wait(lambda seen: seen.record.get("session") == "0" * 16, SOON_S,
                             "the other")
        watcher.wait(lambda seen: seen.record == {"state": "ready", "session": node.session_hex},
                     SOON_S, "itself again", after_s=wrong.seen_s)
        time.sleep(2.5)
        assert len(watcher.seen) <= 4, "once a connection"
    finally:
        watcher.stop()


def test_a_node_that_was_stopped_says_nothing_more(node):
    broker, node = node
    watcher = Observer(broker.url, STATUS).start()
    try:
        watcher.wait(lambda seen: seen.record.get("session") == node.session_hex, SOON_S, "itself")
        node.stop()
        watcher.wait(lambda seen: seen.record.get("state") == "stopped", SOON_S, "its goodbye")
        time.sleep(1.5)                   # more than twice the time after which it would
        assert watcher.seen[-1].record["state"] == "stopped"
    finally:
        watcher.stop()


def test_nor_does_one_that_is_about_to_disconnect(node, monkeypatch):
    """What is under way may take two seconds to leave; a sweep may fall into them."""
    broker, node = node
    watcher = Observer(broker.url, STATUS).start()
    try:
        watcher.wait(lambda seen: seen.record.get("session") == node.session_hex, SOON_S, "itself")
    finally:
        watcher.stop()
    said = []
    monkeypatch.setattr(node, "set_state", said.append)
    monkeypatch.setattr(node.session, "stop", lambda farewell, timeout_s: None)
    node.stop()
    time.sleep(3.0)                   # two keepalives and a half
    monkeypatch.undo()
    assert said == []
