"""The parts of the session that need no socket."""

import random

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from split_core.errors import ConfigError, MessageError
from split_core.session import BrokerLimits, BrokerOptions, Publication, TlsOptions
from split_core.session.backoff import Backoff, ProtocolChoice
from split_core.session.liveness import Liveness
from split_core.session.publication import packet_bytes


def test_url_gives_host_port_and_tls():
    options = BrokerOptions.from_url("mqtts://broker.example", username="pi", password="pw")
    assert (options.host, options.port, options.tls) == ("broker.example", 8883, TlsOptions())
    assert options.address == "broker.example:8883"


def test_url_gives_a_unix_path():
    options = BrokerOptions.from_url("mqtt+unix:///run/mosquitto.sock")
    assert str(options.unix_path) == "/run/mosquitto.sock"
    assert options.tls is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"])
def test_plain_is_fine_on_loopback(host):
    assert BrokerOptions.from_url(f"mqtt://{host}").port == 1883


@pytest.mark.parametrize("host", ["broker.example", "192.168.1.2", "localhost.example"])
def test_plain_elsewhere_needs_the_flag(host):
    with pytest.raises(ConfigError, match="in the clear"):
        BrokerOptions.from_url(f"mqtt://{host}")
    assert BrokerOptions.from_url(f"mqtt://{host}", allow_plain=True).host == host


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "mqtt://",
        "mqtt://127.0.0.1/topic",
        "mqtt://127.0.0.1:0",
        "mqtt://127.0.0.1:99999",
        "mqtt://127.0.0.1?x=1",
        "mqtt+unix://host/path",
        "mqtt+unix://",
        "127.0.0.1:1883",
    ],
)
def test_bad_urls_are_refused(url):
    with pytest.raises(ConfigError):
        BrokerOptions.from_url(url)


def test_password_is_neither_taken_from_a_url_nor_shown():
    with pytest.raises(ConfigError) as refused:
        BrokerOptions.from_url("mqtt://pi:hunter2@127.0.0.1")
    assert "hunter2" not in str(refused.value)
    options = BrokerOptions.from_url("mqtt://pi@127.0.0.1", password="hunter2")
    assert options.username == "pi"
    assert "hunter2" not in repr(options)


def test_missing_tls_files_are_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.pem"):
        TlsOptions(ca_file=tmp_path / "nowhere.pem").context()


@pytest.mark.parametrize(
    ("max_packet_bytes", "chunk_bytes"),
    [(None, 64_000), (2_000_000, 64_000), (64_256, 64_000), (10_000, 9_744), (100, 1)],
)
def test_chunks_leave_room_for_the_header(max_packet_bytes, chunk_bytes):
    assert BrokerLimits("5", max_packet_bytes).chunk_bytes == chunk_bytes


def test_packet_bytes_counts_every_header_byte():
    # 1 type, 1 length, 2+3 topic, 1 property length, 4 payload
    assert packet_bytes(Publication("a/b", b"1234"), "5") == 12
    # no properties in 3.1.1; a packet id for QoS 1
    assert packet_bytes(Publication("a/b", b"1234", qos=1), "3.1.1") == 13


@pytest.mark.parametrize("length", [0, 118, 119, 120, 16_373, 16_374, 16_375])
def test_packet_bytes_grows_with_the_length_field(length):
    # 8 bytes beside the length field and the payload; the field has 7 bits a byte
    field = 1 if 7 + length < 128 else 2 if 7 + length < 16_384 else 3
    got = packet_bytes(Publication("a/b/c", b"x" * length, qos=0), "3.1.1")
    assert got == 1 + field + 7 + length


def test_packet_bytes_of_properties_agree_with_paho():
    publication = Publication("t", b"", 0, False, 7, "image/jpeg", "r/ä", b"12345678")
    properties = Properties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = 7
    properties.ContentType = "image/jpeg"
    properties.ResponseTopic = "r/ä"
    properties.CorrelationData = b"12345678"
    assert packet_bytes(publication, "5") == 2 + 3 + len(properties.pack())


def test_limits_refuse_one_byte_too_many():
    limits = BrokerLimits("5", max_packet_bytes=12)
    assert limits.check(Publication("a/b", b"1234")) == 12
    with pytest.raises(MessageError, match="13 bytes, the broker takes 12"):
        limits.check(Publication("a/b", b"12345"))


@pytest.mark.parametrize(("topic", "qos"), [("", 0), ("a/+", 0), ("#", 0), ("a", 2)])
def test_impossible_publications_are_refused(topic, qos):
    with pytest.raises(ValueError):
        Publication(topic, b"", qos)


def test_first_retry_is_quick_and_near_ones_come_within_a_second():
    backoff = Backoff(chance=lambda: 1.0)  # the worst draw
    backoff.on_down(now_s=100.0)
    delays = [backoff.next_delay_s(100.0 + n) for n in range(5)]
    assert delays == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_long_absences_are_asked_ever_more_rarely():
    backoff = Backoff(chance=lambda: 1.0)
    backoff.on_down(now_s=0.0)
    for n in range(10):
        backoff.next_delay_s(float(n))
    assert [backoff.next_delay_s(61.0) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_delays_are_spread_over_the_whole_ceiling():
    backoff = Backoff(chance=random.Random(7).random)
    backoff.on_down(now_s=0.0)
    delays = sorted(backoff.next_delay_s(59.0) for _ in range(200))
    assert delays[0] < 0.05 and delays[-1] > 0.95


def test_a_stable_connection_forgets_the_outage_and_a_flapping_one_does_not():
    backoff = Backoff(chance=lambda: 1.0)
    backoff.on_down(now_s=0.0)
    backoff.next_delay_s(0.0)
    backoff.on_up(now_s=1.0)
    backoff.on_down(now_s=1.9)
    assert backoff.next_delay_s(1.9) == 0.4
    backoff.on_up(now_s=10.0)
    backoff.on_down(now_s=15.0)
    assert backoff.next_delay_s(15.0) == 0.2


def test_what_only_an_operator_can_mend_is_asked_slowly():
    backoff = Backoff(chance=lambda: 0.0)
    backoff.on_down(now_s=0.0)
    assert backoff.next_delay_s(0.0, refused=True) == 15.0


def test_protocol_falls_back_on_refusal_and_stays():
    choice = ProtocolChoice("auto")
    assert choice.current == "5"
    assert choice.on_version_refused()
    choice.on_accepted()
    choice.on_hang_up()
    choice.on_hang_up()
    assert not choice.on_no_answer()
    assert not choice.on_version_refused()
    assert choice.current == "3.1.1"


def test_one_hang_up_is_a_restart_two_are_a_question():
    choice = ProtocolChoice("auto")
    seen = []
    for _ in range(5):
        choice.on_hang_up()
        seen.append(choice.current)
    assert seen == ["5", "3.1.1", "5", "5", "3.1.1"]


def test_no_answer_to_either_protocol_alternates():
    choice = ProtocolChoice("auto")
    assert [choice.on_no_answer() for _ in range(4)] == [True, False, True, False]


@pytest.mark.parametrize("wanted", ["5", "3.1.1"])
def test_a_protocol_asked_for_is_a_demand(wanted):
    choice = ProtocolChoice(wanted)
    assert not choice.on_version_refused()
    assert not choice.on_no_answer()
    choice.on_hang_up()
    choice.on_hang_up()
    assert choice.current == wanted


def test_idle_link_is_pinged_once_a_keepalive_and_lives_on():
    pulse = Liveness(keepalive_s=10.0, now_s=0.0)
    for n in range(1, 100):
        now_s = 10.0 * n
        assert not pulse.dead(now_s)
        assert pulse.ping_due(now_s)
        pulse.on_ping(now_s)
        pulse.on_heard(now_s + 0.1)
        assert pulse.next_check_s(now_s + 0.1) == now_s + 10.0


def test_idle_black_hole_is_dead_after_one_and_a_half_keepalives():
    pulse = Liveness(keepalive_s=10.0, now_s=0.0)
    pulse.on_ping(10.0)
    pulse.on_progress(acked=2, handed=2, queued=False, now_s=10.1)  # taken by a kernel on the way
    assert not pulse.dead(15.05)
    assert pulse.dead(15.1)


def test_a_ping_behind_bytes_that_move_is_only_slow():
    pulse = Liveness(keepalive_s=10.0, now_s=0.0)
    pulse.on_progress(0, 64_000, True, now_s=1.0)
    pulse.on_ping(10.0)
    for n in range(10, 60):  # 1 kB/s, far slower than a chunk per keepalive
        pulse.on_progress(1_000 * n, 64_000, queued=n < 20, now_s=float(n))
        assert not pulse.dead(float(n))
        assert not pulse.ping_due(float(n))  # another would only queue behind
    assert pulse.dead(59.0 + 15.0)


def test_bytes_behind_the_ping_prove_nothing():
    pulse = Liveness(keepalive_s=10.0, now_s=0.0)
    pulse.on_ping(10.0)
    pulse.on_progress(acked=100, handed=100, queued=False, now_s=10.0)
    for n in range(11, 15):  # a full buffer on the way still swallows more
        pulse.on_progress(100 * n, 100 * n, queued=False, now_s=float(n))
    assert pulse.dead(15.0)


def test_the_longer_the_ping_took_the_longer_its_answer_may_take():
    pulse = Liveness(keepalive_s=10.0, now_s=0.0)
    pulse.on_ping(10.0)
    pulse.on_progress(acked=0, handed=2, queued=False, now_s=10.0)
    pulse.on_progress(acked=2, handed=2, queued=False, now_s=18.0)
    assert not pulse.dead(25.9)
    assert pulse.dead(26.0)


def test_a_doubted_link_is_dead_after_the_patience_unless_it_shows_life():
    pulse = Liveness(keepalive_s=15, now_s=0.0)
    pulse.on_doubt(1.0, 10.0)
    pulse.on_ping(10.0)
    assert not pulse.dead(10.9) and pulse.dead(11.0)
    assert pulse.next_check_s(10.0) <= 10.125
    pulse.on_doubt(1.0, 10.5)                 # doubted again: the first doubt's clock runs on
    assert pulse.dead(11.0)
    pulse.on_heard(10.9)
    assert not pulse.dead(12.0)


def test_a_doubted_link_whose_bytes_move_is_only_slow():
    pulse = Liveness(keepalive_s=15, now_s=0.0)
    pulse.on_doubt(1.0, 10.0)
    pulse.on_progress(acked=5, handed=9, queued=True, now_s=10.8)
    assert not pulse.dead(11.7) and pulse.dead(11.8)
