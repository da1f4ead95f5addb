"""Who may read and write what, on a real mosquitto with the shipped configuration."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from edge_agent.remote.discovery import object_id
from split_core.errors import ConfigError
from split_core.wire.topics import check_node_id
from tests.support.brokers import Mosquitto
from tests.support.secured import FENCE, SHIPPED, SecuredBroker, User, make_acl
from split_core.session import BrokerOptions

NAMES = """
device door
device gate
worker w1
worker w2
operator anna
operator bert
viewer wall
program bell door
home-assistant ha
"""
# Every kind of topic there is, with who may write it and who may read it; nobody else may.
DEVICES, WORKERS, PEOPLE = {"door", "gate"}, {"w1", "w2"}, {"anna", "bert"}
LOOKING = PEOPLE | {"wall", "ha"}
RIGHTS = {
    "si/v1/door/up/status": ({"door"}, LOOKING | WORKERS | {"bell"}),
    "si/v1/door/up/info": ({"door"}, LOOKING | WORKERS),
    "si/v1/door/up/plan": ({"door"}, LOOKING | WORKERS),
    "si/v1/door/up/health": ({"door"}, LOOKING | WORKERS),
    "si/v1/door/up/event": ({"door"}, LOOKING | WORKERS),
    "si/v1/door/up/profile": ({"door"}, LOOKING | WORKERS),
    "si/v1/door/up/result": ({"door"}, LOOKING | {"bell"}),
    "si/v1/gate/up/result": ({"gate"}, LOOKING),
    "si/v1/door/up/reply/policy": ({"door"}, LOOKING),
    "si/v1/door/dn/in/w1": ({"w1"}, {"door"}),
    "si/v1/door/dn/in/w2": ({"w2"}, {"door"}),
    "si/v1/door/dn/in/door": ({"door"}, {"door"}),      # doctor's letter to itself
    "si/v1/door/dn/in/gate": (set(), {"door"}),
    "si/v1/door/dn/frame": ({"bell"}, {"door"}),
    "si/v1/gate/dn/frame": (set(), {"gate"}),
    "si/v1/door/dn/cmd/policy": (PEOPLE | {"ha"}, {"door"}),
    "si/v1/door/dn/cmd/model": (PEOPLE, {"door"}),
    "si/v1/_reply/anna/door": ({"door"}, {"anna"}),
    "si/v1/_reply/anna/door/policy": ({"door"}, {"anna"}),
    "si/v1/_reply/anna": (set(), {"anna"}),
    "si/v1/_pool/w1/up/status": ({"w1"}, DEVICES | WORKERS | PEOPLE | {"wall"}),
    "si/v1/_pool/w1/up/load": ({"w1"}, DEVICES | WORKERS | PEOPLE | {"wall"}),
    "si/v1/_pool/door/up/status": (set(), DEVICES | WORKERS | PEOPLE | {"wall"}),
    "si/v1/_pool/w1/in/door": ({"door"}, {"w1"}),
    "si/v1/_pool/w1/in/gate": ({"gate"}, {"w1"}),
    "si/v1/_pool/w1/in/w2": ({"w2"}, {"w1"}),
    "si/v1/_pool/w1/in/anna": (set(), {"w1"}),
    "si/v1/_pool/w1/in/door/x": (set(), {"w1"}),
    "si/v1/w1/up/status": (set(), LOOKING | WORKERS),   # a worker is no device
    "si/v1/anna/up/result": (set(), LOOKING),
    "homeassistant/device/door/config": ({"door", "ha"}, {"ha"}),
    "homeassistant/device/gate/config": ({"gate", "ha"}, {"ha"}),
    "homeassistant/status": ({"ha"}, {"ha"} | DEVICES),
    "homeassistant/sensor/x/config": ({"ha"}, {"ha"}),
    "other/topic": (set(), set()),
    "si/v2/door/up/status": (set(), set()),
}
USERS = ("door", "gate", "w1", "w2", "anna", "bert", "wall", "bell", "ha")
_fences = itertools.count(1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with SecuredBroker(tmp_path_factory.mktemp("secured"), NAMES) as running:
        yield running


def fence(auditor: User, *users: User) -> None:
    """Until all that was sent to these users before this has come."""
    payload = f"fence {next(_fences)}".encode()
    assert auditor.may_write(FENCE, payload)
    for user in users:
        user.wait_for(payload)


def test_each_may_write_what_is_his_and_nothing_else(broker):
    with broker.user("auditor", "#") as auditor:
        for name in USERS:
            with broker.user(name) as user:
                for topic, (writers, _) in RIGHTS.items():
                    payload = f"{name} writes {topic}".encode()
                    assert user.may_write(topic, payload) == (name in writers), payload
        fence(auditor, auditor)
        # It was not only said: what was refused reached nobody.
        got = {(s.topic, s.payload.split()[0].decode()) for s in auditor.seen
               if b" writes " in s.payload}
        assert got == {(topic, name) for topic, (writers, _) in RIGHTS.items() for name in writers}


@pytest.mark.parametrize("name", USERS)
def test_each_gets_what_is_for_him_and_nothing_else(broker, name):
    """Subscribing is granted for anything; what counts is what is delivered."""
    with broker.user("auditor") as auditor, broker.user(name, "#", *RIGHTS) as user:
        for topic in RIGHTS:
            assert auditor.may_write(topic, b"for whom it concerns")
        fence(auditor, user)
        assert user.topics == {topic for topic, (_, readers) in RIGHTS.items() if name in readers}


def test_nobody_gets_what_is_retained_for_another_by_asking_later(broker):
    with broker.user("auditor") as auditor:
        topic = "si/v1/door/dn/in/w1"
        assert auditor.may_write(topic, b"kept", retain=True)
        try:
            for name in ("gate", "w1", "w2", "anna", "wall", "ha", "bell"):
                with broker.user(name, topic, "si/v1/#") as user:
                    fence(auditor, user)
                    assert topic not in user.topics, name
        finally:
            auditor.may_write(topic, b"", retain=True)


def test_an_outsider_in_a_shared_subscription_takes_nothing_from_a_pinned_inbox(broker):
    """mosquitto grants any share of any topic. Workers do not share, so each still gets all."""
    inbox = "si/v1/_pool/w1/in/door"
    shared = ("$share/g/si/v1/_pool/w1/in/+", "$share/g/si/v1/_pool/#", "$share/w1/#")
    with (broker.user("auditor") as auditor, broker.user("gate", *shared) as outsider,
          broker.user("anna", *shared) as operator,
          broker.user("w1", "si/v1/_pool/w1/in/+") as worker, broker.user("door") as door):
        for k in range(40):
            assert door.may_write(inbox, b"frame %d" % k)
        fence(auditor, worker, outsider, operator)
        frames = [s.payload for s in worker.seen if s.topic == inbox]
        assert frames == [b"frame %d" % k for k in range(40)]
        assert not outsider.topics and not operator.topics


def test_who_has_a_certificate_but_no_line_in_the_list_may_nothing(broker):
    with broker.user("auditor", "#") as auditor, broker.user("stranger", "#") as stranger:
        for topic in (*RIGHTS, "si/v1/stranger/up/status", "si/v1/_pool/w1/in/stranger"):
            assert not stranger.may_write(topic)
            assert auditor.may_write(topic)
        fence(auditor, auditor)
        assert not stranger.seen


def test_nobody_gets_in_without_a_certificate_or_by_a_name_of_his_choice(broker):
    from split_core.session import TlsOptions
    from tests.split_core.session_probe import probing

    plain = BrokerOptions.from_url(broker.url, tls=TlsOptions(broker.authority.file),
                                   username="w1", password="x")
    with probing(plain, wait=False) as probe:
        assert "certificate" in probe.down()
    # With a certificate its name counts, whatever is said beside it.
    made = broker.certificate("gate")
    named = BrokerOptions.from_url(
        broker.url, tls=TlsOptions(broker.authority.file, made.cert, made.key), username="w1",
        password="x")
    user = User(named, "gate-as-w1").start()
    try:
        assert not user.may_write("si/v1/_pool/w1/up/status")
        assert user.may_write("si/v1/gate/up/status")
    finally:
        user.stop()


def test_the_broker_says_how_large_a_packet_may_be(broker):
    user = User(broker.config("door").options(), "door").start()
    try:
        assert user._session.limits.max_packet_bytes == 1_048_576
    finally:
        user.stop()


def test_with_patterns_for_all_a_device_could_pose_as_a_worker(tmp_path):
    """Why there is a section a user: measured on what docs and examples usually show."""
    (tmp_path / "acl").write_text("pattern write si/v1/%u/up/#\npattern read si/v1/%u/dn/#\n"
                                  "pattern write si/v1/_pool/+/in/%u\n"
                                  "pattern write si/v1/_pool/%u/up/#\n"
                                  "pattern write si/v1/+/dn/in/%u\n")
    with Mosquitto(tmp_path, (f"acl_file {tmp_path / 'acl'}",),
                   users={"gate": "x"}) as broker:
        options = BrokerOptions.from_url(broker.url, username="gate", password="x")
        gate = User(options, "gate").start()
        try:
            assert gate.may_write("si/v1/_pool/gate/up/status"), "it announces itself as a worker"
            assert gate.may_write("si/v1/door/dn/in/gate"), "and answers frames that come to it"
        finally:
            gate.stop()


# -- the script

def test_the_shipped_acl_is_what_the_script_makes_of_the_shipped_list():
    assert make_acl((SHIPPED / "names").read_text()) == (SHIPPED / "acl").read_text()


def test_another_root(tmp_path):
    with SecuredBroker(tmp_path, NAMES, root="acme/si/v1") as broker:
        with broker.user("door") as door:
            assert door.may_write("acme/si/v1/door/up/status")
            assert not door.may_write("si/v1/door/up/status")
            assert not door.may_write("other/si/v1/door/up/status")


def test_home_assistants_topic_is_the_one_that_devices_use():
    for name in ("door", "pi.door", "a_b-c", "x.y.z"):
        acl = make_acl(f"device {name}\nhome-assistant ha\n")
        assert f"topic write homeassistant/device/{object_id(name)}/config" in acl


@pytest.mark.parametrize("names, words", [
    ("", "the list is empty"),
    ("device", "line 1: wanted one name behind device"),
    ("device a b", "line 1: wanted one name behind device"),
    ("devise a", "role 'devise', wanted one of device, worker"),
    ("device a\nworker a", "line 2: a is a device already"),
    ("device +", "name '+'"), ("worker a/b", "name 'a/b'"), ("device _pool", "name '_pool'"),
    ("worker up", "none of up, dn, in"),
    ("device a\nalso b read x", "also b: there is no such name"),
    ("device a\nalso a look x", "wanted: also NAME"),
    ("program p gate", "gate is no device"),
])
def test_lists_that_give_no_acl(names, words):
    run = subprocess.run([sys.executable, SHIPPED / "make_acl.py", "-"], input=names, text=True,
                         capture_output=True, timeout=30)
    assert (run.returncode, run.stdout) == (65, "")
    assert words in run.stderr


def test_a_root_with_wildcards_is_refused():
    for root in ("+/si", "si/#", "/si", "si/", "a b", ""):
        run = subprocess.run([sys.executable, SHIPPED / "make_acl.py", "--root", root, "-"],
                             input="device a", text=True, capture_output=True, timeout=30)
        assert run.returncode == 65 and "root" in run.stderr, root


@pytest.mark.parametrize("name", ["up", "dn", "in"])
def test_no_program_takes_an_id_whose_inbox_others_may_read(name):
    with pytest.raises(ConfigError, match="none of up, dn, in"):
        check_node_id(name)
