"""A session on bad links: slow, silent, cut, restarted, and the 40 ms that TLS can cost."""

import statistics
import threading
import time

import pytest

from split_core.session import BrokerOptions, Publication, TlsOptions
from split_core.session.socket_recipe import SEND_BUFFER_BYTES, UNSENT_LOW_WATER_BYTES
from tests.split_core.session_probe import probing, wait_for
from tests.support.brokers import Mosquitto, make_certificates
from split_lab.link import Proxy


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Mosquitto(tmp_path_factory.mktemp("plain")) as running:
        yield running


def through(proxy, **more):
    return BrokerOptions.from_url(f"mqtt://127.0.0.1:{proxy.port}", **more)


class Feed:
    """Hands out `count` chunks; remembers how much was below at each one."""

    def __init__(self, session, topic, count, chunk_bytes):
        self.session = session
        self.topic = topic
        self.left = count
        self.chunk = bytes(chunk_bytes)
        self.backlogs = []

    def __call__(self):
        self.backlogs.append(self.session.backlog_bytes())
        if self.left == 0:
            return None
        self.left -= 1
        return Publication(self.topic, self.chunk)


def test_back_within_two_seconds_of_a_broker_restart(tmp_path):
    with Mosquitto(tmp_path) as broker:
        with probing(BrokerOptions.from_url(broker.url), "a/#") as probe:
            for _ in range(3):
                broker.stop()
                probe.down()
                failed = probe.session.stats.failed_attempts
                assert wait_for(lambda: probe.session.stats.failed_attempts > failed)
                broker.start()
                probe.up(timeout_s=2.0)
                probe.session.publish(Publication("a/b", b"again"))
                assert probe.message()[1] == b"again"  # subscribed again


def test_feed_over_a_slow_link_stays_bounded_and_connected(broker):
    chunk = 32_000
    with Proxy(broker.port) as proxy, probing(BrokerOptions.from_url(broker.url), "feed/#") as sink:
        with probing(through(proxy, keepalive_s=2)) as probe:
            proxy.throttle(300_000)
            session = probe.session
            feed = Feed(session, "feed/a", 2_000_000 // chunk, chunk)
            started_s = time.monotonic()
            session.set_feed(feed)
            worst = 0
            for _ in range(2_000_000 // chunk):
                assert len(sink.message()[1]) == chunk
                worst = max(worst, session.backlog_bytes())
            took_s = time.monotonic() - started_s
            assert session.stats.connects == 1 and session.stats.losses == 0
    # A chunk is asked for only when the last one has left for the kernel and less than the low
    # water mark is unsent there. What the kernel holds is at most its send buffer, which it
    # doubles for bookkeeping.
    assert max(feed.backlogs) <= 2 * SEND_BUFFER_BYTES
    assert worst <= 2 * SEND_BUFFER_BYTES + chunk
    assert took_s > 0.7 * 2_000_000 / 300_000  # else the link was not slow
    print(f"asked at {max(feed.backlogs)} B, worst {worst} B, took {took_s:.1f} s")
    assert UNSENT_LOW_WATER_BYTES < chunk  # else the bound above says nothing of the mark


def test_a_kick_wakes_a_feed_that_had_nothing(broker):
    with probing(BrokerOptions.from_url(broker.url), "kick/#") as probe:
        feed = Feed(probe.session, "kick/a", 0, 10)
        probe.session.set_feed(feed)
        assert wait_for(lambda: len(feed.backlogs) > 0)
        feed.left = 3
        probe.session.kick()
        assert [len(probe.message()[1]) for _ in range(3)] == [10, 10, 10]


def test_one_chunk_slower_than_the_keepalive_arrives(broker):
    # 64 kB at 16 kB/s take 4 s, four keepalives; paho's own check would give up after two,
    # and again after each reconnect.
    with Proxy(broker.port) as proxy, probing(BrokerOptions.from_url(broker.url), "slow/#") as sink:
        with probing(through(proxy, keepalive_s=1)) as probe:
            proxy.throttle(16_000)
            probe.session.publish(Publication("slow/a", bytes(64_000)))
            assert len(sink.message(timeout_s=20.0)[1]) == 64_000
            assert probe.session.stats.losses == 0


def test_idle_is_healthy(broker):
    with probing(BrokerOptions.from_url(broker.url, keepalive_s=1)) as probe:
        before = probe.session.link_info().acked_bytes
        # Two pings of two bytes; also fails should paho rename what sends them.
        assert wait_for(lambda: probe.session.link_info().acked_bytes >= before + 4)
        assert probe.session.stats.losses == 0


@pytest.mark.parametrize("busy", [False, True])
def test_black_hole_is_noticed_within_two_keepalives(broker, busy):
    with Proxy(broker.port) as proxy, probing(through(proxy, keepalive_s=2)) as probe:
        proxy.black_hole()
        started_s = time.monotonic()
        if busy:
            # Buffers on the way swallow these, which must not count as a sign of life.
            def trickle():
                if probe.session.is_up:
                    probe.session.publish(Publication("hole/a", bytes(100)))
                    probe.session.call_at(time.monotonic() + 0.1, trickle)

            probe.session.call_soon(trickle)
        assert "no sign of life" in probe.down()
        assert time.monotonic() - started_s < 4.0
        proxy.heal()
        probe.up()


def test_a_cut_link_fails_what_was_under_way(broker):
    with Proxy(broker.port) as proxy, probing(through(proxy)) as probe:
        proxy.black_hole()
        outcomes = []
        for _ in range(30):  # more than the window, so that some are held
            probe.session.publish(Publication("cut/a", b"x", qos=1), on_done=outcomes.append)
        probe.settle()
        proxy.cut()
        probe.down()
        assert wait_for(lambda: len(outcomes) == 30)
        assert not any(outcomes)
        proxy.heal()
        probe.up()
        assert probe.session.stats.publishes_lost == 30


def round_trip_times_s(options, payload, count):
    """Request and answer through the broker, both ends of ours."""
    answered = threading.Event()
    times_s = []

    def answer(_topic, payload, _received):
        far.session.publish(Publication("rtt/a", payload))

    def on_answer(*_message):
        answered.set()

    with probing(options, "rtt/q", on_message=answer) as far:
        with probing(options, "rtt/a", on_message=on_answer) as near:
            far.settle()
            for _ in range(count):
                answered.clear()
                started_s = time.perf_counter()
                near.session.publish(Publication("rtt/q", payload))
                assert answered.wait(5.0)
                times_s.append(time.perf_counter() - started_s)
    return times_s


def test_tls_round_trip_does_not_wait_for_delayed_acks(tmp_path):
    certificates = make_certificates(tmp_path)
    # 0.5 ms; without TCP_NODELAY on our side 48 ms, whatever the broker does.
    with Mosquitto(tmp_path, ("set_tcp_nodelay true",), tls=certificates) as broker:
        tls = TlsOptions(ca_file=certificates / "ca.pem")
        options = BrokerOptions.from_url(f"mqtts://127.0.0.1:{broker.port}", tls=tls)
        times_s = round_trip_times_s(options, bytes(20_000), count=60)
    assert statistics.median(times_s[10:]) < 0.015
