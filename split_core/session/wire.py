"""The socket as paho is given it: reads ahead, counts, and remembers why it ended.

paho reads a packet's first bytes one by one, a system call each, and each gives the interpreter
lock away. Reading ahead makes it one system call for a typical message. The counts are what
the keepalive and the backlog are judged by, and the reason is what paho would log and forget.
"""

from __future__ import annotations

import select
import socket
import ssl
import time

from split_core.session import socket_recipe

READ_AHEAD_BYTES = 65_536
# Python allocates what it asks for: a large packet that arrives piece by piece would otherwise
# cost its whole size for each piece.
MAX_READ_BYTES = 262_144


class Wire:
    """A connected, non-blocking socket (plain or TLS) for one paho client."""

    def __init__(self, sock: socket.socket, max_packet_bytes: int) -> None:
        self.sock = sock
        self._max_packet_bytes = max_packet_bytes
        self.tls = isinstance(sock, ssl.SSLSocket)
        self.received_bytes = 0
        self.sent_bytes = 0
        self.ended: str | None = None
        self.ended_by: ssl.SSLError | None = None        # what the broker said in TLS, if it did
        self.keep_open = False  # set before DISCONNECT, so that paho's close() is ours to do
        self._ahead = memoryview(b"")
        self._poll = select.poll()
        self._poll.register(sock, select.POLLOUT)

    def recv(self, size: int) -> bytes | memoryview:
        """At most `size` bytes; empty at the end of the stream."""
        ahead = self._ahead
        if size > self._max_packet_bytes:
            # paho asks for the rest of a packet, whatever its header claims: up to 256 MB.
            self.ended = f"packet of {size} bytes, {self._max_packet_bytes} are taken"
            raise ConnectionAbortedError(self.ended)
        if not ahead:
            if size >= READ_AHEAD_BYTES:
                return self._read(min(size, MAX_READ_BYTES))
            ahead = memoryview(self._read(READ_AHEAD_BYTES))
        self._ahead = ahead[size:]
        return ahead[:size]

    def _read(self, size: int) -> bytes:
        try:
            data = self.sock.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as e:
            self._end(e)
            raise
        if not data:
            self.ended = self.ended or "closed by the broker"
        self.received_bytes += len(data)
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Send what the socket takes."""
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as e:
            self._end(self._last_word() or e)
            raise
        self.sent_bytes += sent
        return sent

    def _end(self, error: OSError) -> None:
        if self.ended is None:
            self.ended = f"connection lost: {error}"
            self.ended_by = error if isinstance(error, ssl.SSLError) else None

    def _last_word(self) -> ssl.SSLError | None:
        """Why TLS was ended. "Certificate required" comes after a handshake that looked fine,
        and is still waiting to be read when the first send fails."""
        try:
            if self.tls:
                self.sock.recv(1)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass  # nothing more was said
        except ssl.SSLError as e:
            return e
        except OSError:
            pass
        return None

    def pending(self) -> int:
        """Bytes already read from the kernel, which a selector therefore will not announce."""
        return len(self._ahead) + (self.sock.pending() if self.tls and not self.closed else 0)

    def writable(self) -> bool:
        """Whether little is waiting in the socket (see UNSENT_LOW_WATER_BYTES)."""
        return bool(self._poll.poll(0))

    def progress(self) -> tuple[int, int]:
        """Bytes the peer's kernel has acknowledged, and those handed to ours, on one scale."""
        info = socket_recipe.link_info(self.sock)
        waiting = socket_recipe.unacked_bytes(self.sock)
        acked = self.sent_bytes - waiting if info is None else info.acked_bytes
        return acked, acked + waiting

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self.sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """As a socket."""
        self.sock.setblocking(flag)

    @property
    def closed(self) -> bool:
        """Whether the descriptor is gone."""
        return self.sock.fileno() < 0

    def close(self) -> None:
        """Close, unless a polite end is under way."""
        if not self.keep_open:
            self.sock.close()

    def hang_up(self, timeout_s: float) -> None:
        """End politely: no more from us, read until the broker closes, then close.

        Closing at once with unread bytes waiting makes the kernel send a reset, which can
        overtake a farewell still under way.
        """
        deadline_s = time.monotonic() + timeout_s
        try:
            # SSLSocket.shutdown() would drop the TLS layer; this only ends our direction.
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
            while (left_s := deadline_s - time.monotonic()) > 0:
                self.sock.settimeout(left_s)
                if not self.sock.recv(READ_AHEAD_BYTES):
                    break
        except OSError:
            pass  # out of time, or reset by the broker after it had read our DISCONNECT
        finally:
            self.keep_open = False
            self.sock.close()
