"""How a socket to the broker is tuned, and what the kernel tells of it.

Linux gives all of it; elsewhere what is missing is left out and reads as zero or None.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

try:
    import fcntl
    import termios
except ImportError:  # not a Unix
    fcntl = termios = None

# Below us nothing may queue that will be stale. At 300 kB/s, 100 kB frames reported as sent at
# once arrived 9.7 s later with the kernel's defaults; with these two, a frame counts as sent
# within 0.17 s of its delivery. The price: bytes in flight are bounded too, about 10 Mbit/s at
# a round trip of 50 ms.
SEND_BUFFER_BYTES = 65_536
UNSENT_LOW_WATER_BYTES = 16_384

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
_TCP_INFO = getattr(socket, "TCP_INFO", None)

# struct tcp_info up to tcpi_delivery_rate (Linux 4.9); the kernel appends, never reorders.
_TCP_INFO_LAYOUT = struct.Struct("=8B24I4Q6IQ")
_APP_LIMITED_BYTE = 7


# What the kernel says for a minimum before the first sample.
_UNKNOWN = 2**32 - 1


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """The kernel's view of the first hop, the connection to the broker."""

    rtt_s: float
    rttvar_s: float
    min_rtt_s: float
    delivery_rate_Bps: int
    app_limited: bool  # the rate says little: we had nothing more to send
    retransmits: int  # segments, since the connection began
    unacked_segments: int
    unsent_bytes: int
    acked_bytes: int


def tune(sock: socket.socket) -> None:
    """Set what a low-latency, drop-when-late sender wants."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # paho never sets it, and a request of two TLS records then waits for the broker's delayed
    # ACK: 41.8 ms for a round trip that takes 1.0 ms with it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # TCP_USER_TIMEOUT is left alone. Set to two keepalives it ended a connection that moved at
    # 16 kB/s: while the peer's window is smaller than the first buffer that waits, the kernel
    # does not count what gets through. liveness.py does, and notices a dead link sooner.
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_LOW_WATER_BYTES)


def rearm_quickack(sock: socket.socket) -> None:
    """Acknowledge at once what arrives next; the kernel forgets it after some segments.

    A QoS 1 frame through a broker that leaves Nagle's algorithm on took 44 ms without this and
    0.46 ms with it.
    """
    if _QUICKACK is not None and sock.family != socket.AF_UNIX:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        except OSError:
            pass  # the connection has just ended, which the next read will tell


def unacked_bytes(sock: socket.socket) -> int:
    """Bytes in the socket that the peer's kernel has not taken: unsent and in flight."""
    if termios is None:
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):  # closed meanwhile
        return 0
    return struct.unpack("i", answer)[0]


def link_info(sock: socket.socket) -> LinkInfo | None:
    """TCP_INFO, or None where there is none (unix socket, closed, not Linux)."""
    if _TCP_INFO is None or sock.family == socket.AF_UNIX:
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TCP_INFO_LAYOUT.size)
    except OSError:
        return None
    if len(raw) < _TCP_INFO_LAYOUT.size:
        return None
    fields = _TCP_INFO_LAYOUT.unpack(raw)
    words = fields[8:32]  # tcpi_rto to tcpi_total_retrans
    return LinkInfo(
        rtt_s=words[15] / 1e6,
        rttvar_s=words[16] / 1e6,
        min_rtt_s=0.0 if fields[39] == _UNKNOWN else fields[39] / 1e6,
        delivery_rate_Bps=fields[42],
        # A bit field: the lowest bit on little-endian machines.
        app_limited=bool(fields[_APP_LIMITED_BYTE] & 1),
        retransmits=words[23],
        unacked_segments=words[4],
        unsent_bytes=fields[38],
        acked_bytes=fields[34],
    )
