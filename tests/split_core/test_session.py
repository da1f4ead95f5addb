"""A session against real brokers: who gets in, what comes across, how it ends."""

import threading
import time

import pytest

from split_core.errors import ConfigError, LinkDown, MessageError, PermissionRefused
from split_core.session import BrokerOptions, Publication, Received, TlsOptions
from split_core.session.session import MAX_BACKLOG_BYTES
from tests.split_core.session_probe import Probe, probing, wait_for
from tests.support.brokers import Mosquitto, amqtt_broker, free_port, make_certificates
from split_lab.link import Proxy


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    lines = ("max_packet_size 100000",)
    with Mosquitto(tmp_path_factory.mktemp("plain"), lines) as running:
        yield running


@pytest.fixture
def options(broker):
    return BrokerOptions.from_url(broker.url)


def tls_options(broker, certificates, *, client=False, **more):
    tls = TlsOptions(
        ca_file=certificates / "ca.pem",
        cert_file=certificates / "client.pem" if client else None,
        key_file=certificates / "client.key" if client else None,
    )
    return BrokerOptions.from_url(f"mqtts://127.0.0.1:{broker.port}", tls=tls, **more)


def assert_round_trip(probe, topic):
    done = threading.Event()
    payload = bytes(range(256)) * 200
    sent = Publication(topic, payload, qos=1, content_type="image/x", correlation=b"\0\1")
    probe.session.publish(sent, on_done=lambda ok: ok and done.set())
    got_topic, got, received = probe.message()
    assert (got_topic, got) == (topic, payload)
    assert done.wait(5.0)
    return received


def test_round_trip_with_mqtt_5(options):
    with probing(options, "five/#") as probe:
        received = assert_round_trip(probe, "five/a")
        assert received == Received(qos=1, content_type="image/x", correlation=b"\0\1")
        assert probe.session.limits.protocol == "5"
        assert probe.session.limits.max_packet_bytes == 100_000
        assert probe.session.link_info().rtt_s > 0


def test_one_that_is_larger_than_may_wait_goes_when_nothing_does(tmp_path):
    """A result with all its tensors. It must not wait for ever for room that never will be."""
    payload = bytes(MAX_BACKLOG_BYTES + 1000)
    with Mosquitto(tmp_path) as broker:
        with probing(BrokerOptions.from_url(broker.url), "big/#") as probe:
            done = threading.Event()
            probe.session.publish(Publication("big/a", payload, qos=1), lambda ok: done.set())
            # Nor does what is small wait for it, a farewell least of all.
            probe.session.publish(Publication("big/b", b"small", qos=1))
            assert done.wait(10.0)
            assert [probe.message()[1] for _ in range(2)] == [payload, b"small"]


def test_round_trip_with_mqtt_3_1_1(broker):
    with probing(BrokerOptions.from_url(broker.url, protocol="3.1.1"), "three/#") as probe:
        received = assert_round_trip(probe, "three/a")
        assert (received.qos, received.content_type) == (1, None)
        assert probe.session.limits.protocol == "3.1.1"


def test_round_trip_over_a_unix_socket(tmp_path):
    with Mosquitto(tmp_path, unix=True) as broker:
        with probing(BrokerOptions.from_url(broker.url), "unix/#") as probe:
            assert_round_trip(probe, "unix/a")
            assert probe.session.link_info() is None
            assert wait_for(lambda: probe.session.backlog_bytes() == 0)


def test_round_trip_over_tls_needs_the_client_certificate(tmp_path, certificates):
    with Mosquitto(tmp_path, tls=certificates, client_certificates=True) as broker:
        with probing(tls_options(broker, certificates, client=True), "tls/#") as probe:
            assert_round_trip(probe, "tls/a")
        with probing(tls_options(broker, certificates), wait=False) as probe:
            assert "certificate required" in probe.down().lower()
            assert not probe.session.is_up


def test_an_unknown_authority_is_refused_with_its_reason(tmp_path, certificates):
    with Mosquitto(tmp_path, tls=certificates) as broker:
        options = BrokerOptions.from_url(f"mqtts://127.0.0.1:{broker.port}")
        with probing(options, wait=False) as probe:
            assert "certificate" in probe.down()
            assert isinstance(probe.session.trouble, ConfigError)


def test_password_right_and_wrong(tmp_path):
    with Mosquitto(tmp_path, users={"pi": "right"}) as broker:
        options = BrokerOptions.from_url(broker.url, username="pi", password="right")
        with probing(options, "user/#") as probe:
            assert_round_trip(probe, "user/a")
        for protocol in ("5", "3.1.1"):
            options = BrokerOptions.from_url(
                broker.url, username="pi", password="wrong", protocol=protocol
            )
            with probing(options, wait=False) as probe:
                assert "Not authorized" in probe.down()
                assert isinstance(probe.session.trouble, PermissionRefused)


def test_falls_back_to_3_1_1_and_remembers(tmp_path):
    with amqtt_broker(tmp_path) as port, Proxy(port) as proxy:
        options = BrokerOptions.from_url(f"mqtt://127.0.0.1:{proxy.port}")
        with probing(options, "old/#", wait=False) as probe:
            assert probe.up().protocol == "3.1.1"
            assert_round_trip(probe, "old/a")
            attempts = proxy.accepted
            proxy.cut()
            probe.down()
            assert probe.up().protocol == "3.1.1"
            assert proxy.accepted == attempts + 1  # no second try with MQTT 5


def test_status_is_retained_and_the_will_carries_the_session(broker, options):
    status = "dev/up/status"
    with Proxy(broker.port) as proxy:
        link = BrokerOptions.from_url(f"mqtt://127.0.0.1:{proxy.port}")
        will = Publication(status, b'{"state":"lost","session":"s1"}', qos=1, retain=True)
        with probing(link, will=will) as device:
            ready = Publication(status, b'{"state":"ready","session":"s1"}', qos=1, retain=True)
            device.session.publish(ready)
            device.session.publish(Publication("dev/up/done", b"", qos=1))
            with probing(options, status) as watcher:
                assert watcher.message()[1:] == (ready.payload, Received(qos=1, retain=True))
                proxy.cut()
                assert watcher.message()[1] == will.payload
        with probing(options) as cleaner:
            cleaner.session.publish(Publication(status, b"", qos=1, retain=True))


def test_stop_publishes_the_farewell_and_no_will(options):
    with probing(options, "leave/#") as watcher:
        will = Publication("leave/status", b"lost", qos=1)
        device = Probe(options, will=will)
        device.session.start()
        device.up()
        for n in range(15):
            device.session.publish(Publication("leave/data", bytes([n]) * 50_000))
        device.session.stop(Publication("leave/status", b"stopped", qos=0), timeout_s=5.0)
        assert not device.session.is_alive
        got = [watcher.message() for _ in range(16)]
        assert [payload[0] for topic, payload, _ in got[:15]] == list(range(15))
        assert got[15][:2] == ("leave/status", b"stopped")
        watcher.session.publish(Publication("leave/end", b"", qos=1))
        assert watcher.message()[0] == "leave/end"  # a will would have come before
        with pytest.raises(LinkDown):
            device.session.publish(Publication("leave/data", b""))


def test_stop_before_start_during_dial_and_twice(options):
    Probe(options).session.stop()
    probe = Probe(options)
    probe.session.start()
    probe.session.stop()
    probe.session.stop()
    assert not probe.session.is_alive
    unreachable = BrokerOptions.from_url(f"mqtt://127.0.0.1:{free_port()}")
    with probing(unreachable, wait=False) as probe:
        assert "cannot reach" in probe.down()
        with pytest.raises(LinkDown):
            probe.session.publish(Publication("a", b""))
        assert probe.session.backlog_bytes() == 0
        assert probe.session.link_info() is None


def test_oversize_is_refused_here_and_the_connection_stays(options):
    with probing(options, "big/#") as probe:
        limit = probe.session.limits.max_packet_bytes
        header = 1 + 3 + 2 + len("big/a") + 1
        with pytest.raises(MessageError, match="broker takes 100000"):
            probe.session.publish(Publication("big/a", bytes(limit - header + 1)))
        probe.session.publish(Publication("big/a", bytes(limit - header)))
        assert len(probe.message()[1]) == limit - header
        assert probe.session.stats.connects == 1
        assert probe.session.stats.publishes_refused == 1


def test_a_callback_that_raises_is_counted_and_logged_once(options, caplog):
    seen = threading.Semaphore(0)

    def fail(*_message):
        seen.release()
        raise RuntimeError("no")

    with probing(options, "bad/#", on_message=fail) as probe:
        for _ in range(3):
            probe.session.publish(Publication("bad/a", b""))
        for _ in range(3):
            assert seen.acquire(timeout=5.0)
        probe.session.call_soon(lambda: 1 / 0)
        probe.settle()
        assert probe.session.is_alive and probe.session.is_up
        assert probe.session.stats.callback_errors == 4
    assert sum("callback=on_message" in r.getMessage() for r in caplog.records) == 1


def test_more_qos_1_than_the_window_all_arrive_in_order(options):
    with probing(options, "window/#") as probe:
        done = []
        for n in range(100):
            probe.session.publish(Publication("window/a", bytes([n]), qos=1), on_done=done.append)
        assert [probe.message()[1][0] for _ in range(100)] == list(range(100))
        assert wait_for(lambda: len(done) == 100)
        assert all(done)


def test_messages_publish_from_the_callback_and_timers_run(options):
    fired = threading.Event()

    def answer(topic, payload, _received):
        if topic == "ask/q":
            probe.session.publish(Publication("ask/a", payload + b"!"))
        else:
            answers.append(payload)
            probe.session.call_at(time.monotonic() + 0.2, fired.set)

    answers = []
    with probing(options, "ask/#", on_message=answer) as probe:
        cancelled = probe.session.call_at(time.monotonic() + 0.1,
                                          lambda: answers.append("cancelled"))
        cancelled.cancel()
        probe.session.publish(Publication("ask/q", b"hi"))
        assert fired.wait(5.0)
        assert answers == [b"hi!"]


def test_unsubscribed_topics_stay_away(options):
    with probing(options, "off/#", "on/#") as probe:
        probe.session.unsubscribe("off/#")
        probe.session.publish(Publication("off/a", b"", qos=1))
        probe.session.publish(Publication("on/a", b"", qos=1))
        assert probe.message()[0] == "on/a"
