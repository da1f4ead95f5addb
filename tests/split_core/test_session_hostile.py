"""A session against peers that real brokers are not: raw bytes, written out."""

import socket
import threading

import pytest

from split_core.errors import ConfigError
from split_core.session import BrokerOptions
from split_core.session.wire import Wire
from tests.split_core.session_probe import probing, wait_for

ACCEPTED = bytes.fromhex("20 03 00 00 00")


class RawBroker:
    """Accepts connections; answers the first packet of each with the next of `answers`, and a
    SUBSCRIBE with a refusal."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        port = self._listener.getsockname()[1]
        self.options = BrokerOptions.from_url(f"mqtt://127.0.0.1:{port}", protocol="5")

    def _serve(self) -> None:
        while self._answers:
            try:
                end, _ = self._listener.accept()
            except OSError:
                return
            self._ends.append(end)
            end.settimeout(5.0)
            try:
                end.recv(4096)
                end.sendall(self._answers.pop(0))
                while packet := end.recv(4096):
                    if packet[:1] == b"\x82":
                        # SUBACK: packet id, no properties, 0x87 not authorized
                        end.sendall(b"\x90\x04" + packet[2:4] + b"\x00\x87")
            except OSError:
                pass
            end.close()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            end.close()
        self._thread.join(10.0)


def test_a_refused_subscription_is_reported():
    refused = []
    with RawBroker(ACCEPTED) as broker:
        more = {"on_subscription_refused": lambda *what: refused.append(what)}
        with probing(broker.options, "no/#", **more) as probe:
            assert wait_for(lambda: refused)
            assert probe.session.stats.subscriptions_refused == 1
    assert refused == [("no/#", "Not authorized")]


@pytest.mark.parametrize(
    "garbage",
    [
        "f0 00",  # AUTH, never asked for
        "20 01 00",  # CONNACK cut short
        "20 03 00 63 00",  # CONNACK with a reason code that does not exist
        "30 03 00 ff 61",  # PUBLISH whose topic is longer than the packet
        "30 05 00 01 61 05 27",  # PUBLISH whose properties are longer than the packet
        "30 00",  # PUBLISH of nothing
        "40 ff ff ff ff ff",  # a length field of more than four bytes
        "90 02 00 01",  # SUBACK without properties
        "e0 01 fa",  # DISCONNECT with a reason code that does not exist
    ],
)
def test_garbage_costs_the_connection_and_nothing_else(garbage):
    with RawBroker(ACCEPTED + bytes.fromhex(garbage), ACCEPTED) as broker:
        with probing(broker.options, wait=False) as probe:
            probe.up()
            assert probe.down()
            probe.up()
            assert probe.session.stats.connects == 2


def test_an_invalid_topic_is_dropped():
    good = b"\x30\x04\x00\x01a\x00"
    with RawBroker(ACCEPTED + b"\x30\x04\x00\x01\xff\x00" + good) as broker:
        with probing(broker.options) as probe:
            assert probe.message()[:2] == ("a", b"")


def test_a_packet_is_not_believed_to_be_as_large_as_it_says():
    with RawBroker(ACCEPTED + bytes.fromhex("30 ff ff ff 7f 00"), ACCEPTED) as broker:
        with probing(broker.options, wait=False, max_incoming_bytes=100_000) as probe:
            probe.up()
            assert "268435455 bytes, 100000 are taken" in probe.down()


def test_a_client_id_in_use_elsewhere_is_not_fought_over():
    with RawBroker(ACCEPTED + bytes.fromhex("e0 01 8e")) as broker:
        with probing(broker.options) as probe:
            assert "Session taken over" in probe.down()
            assert isinstance(probe.session.trouble, ConfigError)


def test_reading_ahead_gives_the_same_bytes():
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        wire = Wire(near, max_packet_bytes=1_000_000)
        sent = bytes(range(256)) * 4
        far.sendall(sent)
        got = bytes(wire.recv(1))
        assert wire.pending() == len(sent) - 1
        while wire.pending():
            got += wire.recv(100)
        assert got == sent
        with pytest.raises(BlockingIOError):
            wire.recv(1)
        assert wire.received_bytes == len(sent)
