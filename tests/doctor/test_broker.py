"""The broker step by step, with a real mosquitto that has one thing wrong."""

from __future__ import annotations

import socket
import threading

import pytest

from split_core.doctor import broker as broker_checks
from split_core.doctor.broker import Place, Seen, check_broker
from split_core.doctor.delay import HELD_BACK_S, _length, connect_packet, held_back_s
from split_core.session import BrokerOptions, TlsOptions
from split_core.wire.topics import Topics
from tests.doctor.planting import certificate
from tests.support.brokers import Mosquitto, free_port, make_certificates

NODELAY = "set_tcp_nodelay true"
TOPICS = Topics()
PLACE = Place("pi", TOPICS.device_up("pi", "doctor"), TOPICS.device_inbox_filter("pi"),
              TOPICS.device_inbox("pi", "pi"), TOPICS.workers_filter("status"))
STEPS = ["broker reached", "login", "own branch", "own inbox", "packet size", "40 ms trap"]


def look(url, seen=None, place=PLACE, **options):
    found = list(check_broker(BrokerOptions.from_url(url, **options), place, seen or Seen()))
    for finding in found:
        assert bool(finding.remedy) == (finding.state != "ok"), finding
    return found


def only_fault(found):
    (fault,) = [f for f in found if f.state != "ok"]
    return fault


def test_all_well(tmp_path):
    with Mosquitto(tmp_path, (NODELAY,)) as broker:
        seen = Seen()
        found = look(broker.url, seen)
    assert [(f.check, f.state) for f in found] == [(name, "ok") for name in STEPS]
    assert seen.logged_in and seen.limits.protocol == "5" and not seen.workers


def test_all_well_with_tls_and_a_unix_socket(tmp_path):
    make_certificates(tmp_path)
    tls = TlsOptions(tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key")
    with Mosquitto(tmp_path, (NODELAY,), tls=tmp_path, client_certificates=True) as broker:
        found = look(f"mqtts://127.0.0.1:{broker.port}", tls=tls)
    # Made for two days, which is soon.
    assert only_fault(found).check == "certificate" and "renew" in only_fault(found).remedy
    assert [f.check for f in found] == [STEPS[0], "certificate", *STEPS[1:]]
    with Mosquitto(tmp_path, (NODELAY,), unix=True) as broker:
        assert {f.state for f in look(broker.url)} == {"ok"}


# -- the 40 ms trap

@pytest.mark.parametrize("tls", [False, True])
def test_the_trap_is_told_from_its_absence(tmp_path, tls):
    make_certificates(tmp_path)
    gaps_s = {}
    for lines in ((), (NODELAY,)):
        with Mosquitto(tmp_path, lines, tls=tmp_path if tls else None) as broker:
            options = BrokerOptions.from_url(
                f"{'mqtts' if tls else 'mqtt'}://127.0.0.1:{broker.port}",
                tls=TlsOptions(tmp_path / "ca.pem") if tls else None)
            gaps_s[lines] = held_back_s(options, "x")
    print(gaps_s)
    assert gaps_s[()] > 1.5 * HELD_BACK_S and gaps_s[(NODELAY,)] < 0.5 * HELD_BACK_S


def test_a_broker_without_nodelay_is_named(tmp_path):
    with Mosquitto(tmp_path) as broker:
        fault = only_fault(look(broker.url))
    assert (fault.check, fault.state) == ("40 ms trap", "warn")
    assert "set_tcp_nodelay true" in fault.remedy


@pytest.mark.parametrize("n, wanted", [(0, "00"), (127, "7f"), (128, "8001"), (16_384, "808001")])
def test_lengths_as_mqtt_writes_them(n, wanted):
    assert _length(n).hex() == wanted


def test_a_connect_packet_by_the_byte():
    assert connect_packet("ab", "u", "pw") == bytes.fromhex(
        "1015" "00044d515454" "04" "c2" "001e" "00026162" "000175" "00027077")


# -- the way there

def test_a_broker_that_is_not_running():
    fault = only_fault(look(f"mqtt://127.0.0.1:{free_port()}"))
    assert (fault.check, fault.state) == ("broker reached", "fail")
    assert "refuses connections" in fault.found and "systemctl status" in fault.remedy


def test_a_name_that_nobody_knows():
    fault = only_fault(look("mqtts://no-such-host.invalid"))
    assert "the name no-such-host.invalid is not known" in fault.found
    assert "broker.url" in fault.remedy


def test_a_machine_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(broker_checks, "_CONNECT_S", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(4):                    # the queue of connections is full
            other = socket.socket()
            other.setblocking(False)
            other.connect_ex(full.getsockname())
            waiting.append(other)
        fault = only_fault(look(f"mqtt://127.0.0.1:{full.getsockname()[1]}"))
        for other in waiting:
            other.close()
    assert "does not answer" in fault.found and "firewall" in fault.remedy


# -- TLS

@pytest.mark.parametrize("begin, end, words, remedy", [
    ("20500101000000Z", "20510101000000Z", "not valid yet", "set this machine's clock"),
    ("20200101000000Z", "20210101000000Z", "expired", "renew the certificate"),
])
def test_certificates_out_of_their_time(tmp_path, begin, end, words, remedy):
    make_certificates(tmp_path)
    certificate(tmp_path, begin=begin, end=end)
    with Mosquitto(tmp_path, (NODELAY,), tls=tmp_path) as broker:
        fault = only_fault(look(f"mqtts://127.0.0.1:{broker.port}",
                                tls=TlsOptions(tmp_path / "ca.pem")))
    assert (fault.check, fault.state) == ("certificate", "fail")
    assert words in fault.found and remedy in fault.remedy


def test_a_certificate_of_another_authority(tmp_path):
    make_certificates(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    make_certificates(other)
    with Mosquitto(tmp_path, (NODELAY,), tls=tmp_path) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        for tls in (TlsOptions(other / "ca.pem"), None):
            fault = only_fault(look(url, tls=tls))
            assert fault.check == "certificate" and "broker.ca_file" in fault.remedy


def test_a_certificate_for_another_name(tmp_path):
    make_certificates(tmp_path)
    certificate(tmp_path, begin="20200101000000Z", end="20510101000000Z", name="DNS:elsewhere")
    with Mosquitto(tmp_path, (NODELAY,), tls=tmp_path) as broker:
        fault = only_fault(look(f"mqtts://127.0.0.1:{broker.port}",
                                tls=TlsOptions(tmp_path / "ca.pem")))
    assert "another name" in fault.found and "subjectAltName IP:127.0.0.1" in fault.remedy.replace(
        "DNS:127.0.0.1 (for an address ", "").replace(")", "")


def test_a_port_without_tls(tmp_path):
    with Mosquitto(tmp_path, (NODELAY,)) as broker:
        fault = only_fault(look(f"mqtts://127.0.0.1:{broker.port}"))
    assert "speaks no TLS" in fault.found and "8883" in fault.remedy


def test_a_broker_that_wants_a_certificate_of_ours(tmp_path):
    make_certificates(tmp_path)
    with Mosquitto(tmp_path, (NODELAY,), tls=tmp_path, client_certificates=True) as broker:
        found = look(f"mqtts://127.0.0.1:{broker.port}", tls=TlsOptions(tmp_path / "ca.pem"))
    fault = [f for f in found if f.state == "fail"][0]
    assert "broker.cert_file" in fault.remedy


# -- login and rights

@pytest.fixture
def acl(tmp_path):
    path = tmp_path / "acl"

    def write(*lines: str) -> tuple[str, str]:
        path.write_text("user pi\n" + "\n".join(lines) + "\n")
        path.chmod(0o600)
        return NODELAY, f"acl_file {path}"
    return write


LOGIN = {"username": "pi", "password": "right"}
ALLOWED = ("topic write si/v1/pi/up/#", "topic read si/v1/pi/dn/#", "topic read si/v1/_pool/+/up/#",
           "topic write si/v1/pi/dn/in/pi")


@pytest.mark.parametrize("login, words", [
    ({"username": "pi", "password": "wrong"}, "password"),
    ({"username": "who", "password": "right"}, "mosquitto_passwd"),
    ({}, "broker.username"),
])
def test_a_login_that_is_refused(tmp_path, login, words):
    with Mosquitto(tmp_path, (NODELAY,), users={"pi": "right"}) as broker:
        fault = only_fault(look(broker.url, **login))
    assert (fault.check, fault.state) == ("login", "fail") and words in fault.remedy
    assert "right" not in fault.found + fault.remedy.replace("rights", "")


@pytest.mark.parametrize("lost, check, state, words", [
    (None, None, None, None),
    (0, "own branch", "fail", "write si/v1/pi/up/#"),
    (1, "own inbox", "fail", "read si/v1/pi/dn/in/+"),
    (3, "own inbox", "warn", "write si/v1/pi/dn/in/pi"),
])
def test_what_an_acl_denies_is_found_by_real_messages(tmp_path, acl, lost, check, state, words):
    lines = acl(*(line for i, line in enumerate(ALLOWED) if i != lost))
    with Mosquitto(tmp_path, lines, users={"pi": "right"}) as broker:
        found = look(broker.url, **LOGIN)
    if lost is None:
        assert {f.state for f in found} == {"ok"}
        return
    fault = only_fault(found)
    assert (fault.check, fault.state) == (check, state) and words in fault.remedy


def test_an_id_that_is_not_the_user_name(tmp_path, acl):
    place = Place("other", TOPICS.device_up("other", "doctor"),
                  TOPICS.device_inbox_filter("other"), TOPICS.device_inbox("other", "other"))
    with Mosquitto(tmp_path, acl(*ALLOWED), users={"pi": "right"}) as broker:
        faults = [f for f in look(broker.url, place=place, **LOGIN) if f.state == "fail"]
    assert "has to be the user name" in faults[0].remedy


@pytest.mark.parametrize("lines, protocol, states, words", [
    (("max_packet_size 20000",), "5", ["warn"], "the broker takes 20000 bytes"),
    (("message_size_limit 20000",), "5", ["fail"], "did not come back"),
    (("message_size_limit 20000",), "3.1.1", ["fail"], "did not come back"),
])
def test_packets_that_are_too_small(tmp_path, lines, protocol, states, words):
    with Mosquitto(tmp_path, (NODELAY, *lines)) as broker:
        found = look(broker.url, protocol=protocol)
    sizes = [f for f in found if f.check == "packet size"]
    assert [f.state for f in sizes] == states and words in sizes[0].found
    assert "max_packet_size" in sizes[0].remedy


def test_something_that_is_no_broker(tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve():
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(100)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        fault = only_fault(look(f"mqtt://127.0.0.1:{server.getsockname()[1]}"))
    assert fault.check == "login" and "is it an MQTT broker" in fault.remedy
