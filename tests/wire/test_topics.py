"""Topics are built and parsed as inverses, and ids cannot smuggle levels."""

from __future__ import annotations

import pytest

from split_core.errors import ConfigError
from split_core.wire.topics import Inbox, Topics, check_node_id, matches

TOPICS = Topics("acme/si/v1")


def test_topics_are_those_of_the_documentation():
    assert TOPICS.device_up("pi-7", "status") == "acme/si/v1/pi-7/up/status"
    assert TOPICS.device_inbox("pi-7", "w1") == "acme/si/v1/pi-7/dn/in/w1"
    assert TOPICS.device_frames("pi-7") == "acme/si/v1/pi-7/dn/frame"
    assert TOPICS.worker_up("w1", "load") == "acme/si/v1/_pool/w1/up/load"
    assert TOPICS.worker_inbox("w1", "pi-7") == "acme/si/v1/_pool/w1/in/pi-7"


def test_inboxes_parse_back():
    assert TOPICS.parse_inbox(TOPICS.device_inbox("pi-7", "w1")) == Inbox("pi-7", "w1")
    assert TOPICS.parse_inbox(TOPICS.worker_inbox("w1", "pi-7")) == Inbox("w1", "pi-7")


@pytest.mark.parametrize("topic", [
    "acme/si/v1/pi-7/up/status", "acme/si/v1/pi-7/dn/frame", "other/pi-7/dn/in/w1",
    "acme/si/v1/_pool/w1/dn/in/x", "acme/si/v1/pi-7/dn/in/w1/more", "", "acme/si/v1",
])
def test_what_is_no_inbox_is_none(topic):
    assert TOPICS.parse_inbox(topic) is None


def test_worker_status_parses_back():
    assert TOPICS.parse_worker_up(TOPICS.worker_up("w1", "status")) == ("w1", "status")
    assert TOPICS.parse_worker_up(TOPICS.worker_up("w1", "load")) == ("w1", "load")
    assert TOPICS.parse_worker_up(TOPICS.device_up("w1", "status")) is None


@pytest.mark.parametrize("node", ["", "a/b", "a+b", "#", "_pool", "_x", "a" * 65, "ä", "a\n"])
def test_ids_that_would_break_the_tree_are_refused(node):
    with pytest.raises(ConfigError):
        check_node_id(node)


@pytest.mark.parametrize("root", ["", "/a", "a/", "a/+", "#", "$share/x"])
def test_roots_that_would_break_the_tree_are_refused(root):
    with pytest.raises(ConfigError):
        Topics(root)


def test_commands_and_replies_parse_back():
    assert TOPICS.parse_command(TOPICS.device_command("pi-7", "policy")) == ("pi-7", "policy")
    assert TOPICS.parse_command(TOPICS.device_frames("pi-7")) is None
    assert TOPICS.parse_device_up(TOPICS.device_up("pi-7", "health")) == ("pi-7", "health")
    assert TOPICS.parse_reply("acme/si/v1/_reply/anna/pi-7") == "pi-7"
    assert TOPICS.parse_reply("acme/si/v1/_reply/anna/pi-7/4") == "pi-7"
    for topic in ("acme/si/v1/_reply/anna", "acme/si/v1/pi-7/up/reply/policy", "_reply/a/pi-7"):
        assert TOPICS.parse_reply(topic) is None


def test_the_tree_fits_brokers_that_allow_seven_slashes():
    deepest = Topics("tenant/si/v1").worker_inbox("w", "d")
    assert deepest.count("/") <= 7


def test_commands_and_channels_of_devices_parse_back():
    assert TOPICS.parse_command(TOPICS.device_command("pi-7", "policy")) == ("pi-7", "policy")
    assert TOPICS.parse_device_up(TOPICS.device_up("pi-7", "health")) == ("pi-7", "health")
    assert TOPICS.parse_command(TOPICS.device_up("pi-7", "policy")) is None
    assert TOPICS.parse_device_up(TOPICS.worker_up("w1", "status")) is None
    assert TOPICS.parse_device_up(TOPICS.device_reply("pi-7", "policy")) is None
    assert matches(TOPICS.device_commands_filter("pi-7"), TOPICS.device_command("pi-7", "x"))
    assert matches(TOPICS.devices_filter("health"), TOPICS.device_up("pi-7", "health"))
    assert not matches(TOPICS.devices_filter("health"), TOPICS.worker_up("w1", "health"))


@pytest.mark.parametrize("topic_filter, topic, wanted", [
    ("a/b", "a/b", True), ("a/b", "a/b/c", False), ("a/+", "a/b", True), ("a/+", "a", False),
    ("a/+/c", "a/b/c", True), ("a/#", "a", True), ("a/#", "a/b/c", True), ("#", "a/b", True),
    ("+/+", "/finance", True), ("/+", "/finance", True), ("+", "/finance", False),
    ("#", "$SYS/x", False), ("+/x", "$SYS/x", False), ("$SYS/#", "$SYS/x", True),
    ("a/+", "a/", True), ("sport/tennis/+", "sport/tennis/player1/ranking", False),
])
def test_filters_match_as_mqtt_says(topic_filter, topic, wanted):
    assert matches(topic_filter, topic) == wanted
