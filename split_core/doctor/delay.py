"""The 40 ms trap: a broker that leaves Nagle's algorithm on.

Such a broker holds a small packet back until the one before it is acknowledged, and a receiver
may take 40 ms over that. Our sessions ask their kernel to acknowledge at once, which hides it,
until the uplink is full or the kernel has forgotten; another program's client has it always.

The probe is two PINGREQ in one segment, on a connection of its own that was told to acknowledge
late: the broker answers with two packets. Where it does not hold back they come together; where it
does, the second is late by what acknowledging takes. That needs no right to any topic and leaves
nothing behind. It tells on loopback as well as over a network, because the delay is the receiving
kernel's, and ours (measured with mosquitto 2.0.11 on loopback: 43 to 48 ms without
set_tcp_nodelay, under 0.1 ms with it; plain and TLS). It does not tell over a unix socket, which has no such delay.
"""

from __future__ import annotations

import socket
import statistics
import struct
import time

from split_core.errors import LinkDown
from split_core.session import BrokerOptions

ROUNDS = 5
# Linux acknowledges after 40 ms at the earliest when told to wait; a broker under load takes a few.
HELD_BACK_S = 0.020
_TIMEOUT_S = 3.0
_PINGREQ, _PINGRESP = b"\xc0\x00", b"\xd0\x00"


def held_back_s(options: BrokerOptions, client_id: str) -> float | None:
    """By how much the second of two answers is late, the median of some rounds; None where it
    cannot be told. Raises LinkDown."""
    if options.unix_path is not None or not hasattr(socket, "TCP_QUICKACK"):
        return None
    try:
        with _connect(options) as sock:
            _greet(sock, connect_packet(client_id, options.username, options.password))
            gaps = [_gap_s(sock) for _ in range(ROUNDS)]
    except (OSError, ValueError) as e:
        raise LinkDown(f"the connection for measuring ended: {e}") from None
    return statistics.median(gaps)


def connect_packet(client_id: str, username: str | None, password: str | None) -> bytes:
    """CONNECT of MQTT 3.1.1, which every broker takes; clean, without a will."""
    flags = 0x02 | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = _text("MQTT") + bytes([4, flags]) + struct.pack(">H", 30) + _text(client_id)
    body += b"".join(_text(t) for t in (username, password) if t is not None)
    return b"\x10" + _length(len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _length(n: int) -> bytes:
    """A variable byte integer."""
    out = b""
    while True:
        n, digit = n >> 7, n & 0x7F
        if not n:
            return out + bytes([digit])
        out += bytes([digit | 0x80])


def _connect(options: BrokerOptions) -> socket.socket:
    sock = socket.create_connection((options.host, options.port), timeout=_TIMEOUT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.tls is None:
        return sock
    try:
        return options.tls.context().wrap_socket(sock, server_hostname=options.host)
    except BaseException:
        sock.close()
        raise


def _greet(sock: socket.socket, packet: bytes) -> None:
    sock.sendall(packet)
    answer = _receive(sock, 4)
    if answer[:2] != b"\x20\x02" or answer[3]:
        raise LinkDown(f"the broker refused the connection for measuring (code {answer[3]})")


def _gap_s(sock: socket.socket) -> float:
    # The kernel forgets it after a segment or two.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    sock.sendall(_PINGREQ + _PINGREQ)
    first = _receive(sock, 2)
    begun_s = time.monotonic()
    second = _receive(sock, 2)
    if (first, second) != (_PINGRESP, _PINGRESP):
        raise LinkDown(f"the broker answered a ping with {(first + second).hex()}")
    return time.monotonic() - begun_s


def _receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise LinkDown("the broker closed the connection for measuring")
        data += piece
    return data
