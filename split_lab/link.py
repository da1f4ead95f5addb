"""A link that can be bad, in user space: slow, late, silent, or cut; for the demo and for tests.

A TCP proxy on the loopback. Deterministic: no chance in it, and its own buffers are small, so
that what a sender believes to be on the way is on the way. One thread for each direction of
each connection.

    with Proxy(broker.port) as proxy:
        proxy.throttle(300_000)     # bytes per second, each direction
        proxy.delay(0.05)           # one way
        proxy.black_hole()          # nothing moves, nothing closes; proxy.heal() ends it
        proxy.cut()                 # reset every connection; new ones are let in
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque

# Small, so that a throttled link looks slow to its sender at once. The kernel doubles them.
BUFFER_BYTES = 8_192
PIECE_BYTES = 4_096
# As on Ethernet. Loopback's segments are larger than our buffers: a sender then holds back what
# does not fit the window, until a timer of 0.2 s and more, and the link crawls at 30 kB/s or does
# not, by the sizes of the messages on it.
SEGMENT_BYTES = 1_448
# While a piece is delayed more may come in: enough for 1 MB/s at 250 ms.
HELD_BYTES = 262_144
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards to 127.0.0.1:`target_port`; connect to `port`."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it, and it must be set before the handshake.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self.accepted = 0                # connections so far
        self._rate_Bps: float | None = None
        self._delay_s = 0.0
        self._open = threading.Event()
        self._open.set()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def throttle(self, rate_Bps: float | None) -> None:
        """Limit each direction of each connection; None lifts it."""
        self._rate_Bps = rate_Bps

    def delay(self, delay_s: float) -> None:
        """Hold every piece this long, in each direction."""
        self._delay_s = delay_s

    def black_hole(self) -> None:
        """Stop forwarding and reading; connections stay open, new ones are accepted."""
        self._open.clear()

    def heal(self) -> None:
        """Forward again."""
        self._open.set()

    def cut(self) -> None:
        """Reset all connections, towards both ends."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.cut()

    def start(self) -> Proxy:
        """Begin to accept."""
        self._thread.start()
        return self

    def close(self) -> None:
        """End everything and join the threads."""
        self._closing.set()
        self._open.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        with self._lock:
            pairs = list(self._pairs)
        self.cut()
        for pair in pairs:
            pair.join()
        self._thread.join(5.0)

    def __enter__(self) -> Proxy:
        return self.start()

    def __exit__(self, *_exc) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
            try:
                far.connect(("127.0.0.1", self._target_port))
            except OSError:
                near.close()
                far.close()
                continue
            self.accepted += 1
            pair = _Pair(self, near, far)
            with self._lock:
                self._pairs.append(pair)
            pair.start()

    # Used by the pumps.

    def pass_piece(self, nbytes: int, ended: threading.Event) -> None:
        """Take the time that a piece of this size takes on the link."""
        if self._rate_Bps:
            ended.wait(nbytes / self._rate_Bps)
        while not self._open.wait(0.1):
            if ended.is_set():
                return

    @property
    def is_open(self) -> bool:
        """Whether pieces are read at all."""
        return self._open.is_set()

    @property
    def delay_s(self) -> float:
        """How long each piece is held."""
        return self._delay_s


class _Pair:
    """One connection: two sockets, two pumps."""

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket) -> None:
        self._sockets = (near, far)
        self._ended = threading.Event()
        self._proxy = proxy
        self._pumps = [
            threading.Thread(target=self._pump, args=ends, name="proxy-pump", daemon=True)
            for ends in ((near, far), (far, near))
        ]
        self._running = len(self._pumps)
        self._lock = threading.Lock()
        for s in self._sockets:
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)

    def start(self) -> None:
        for pump in self._pumps:
            pump.start()

    def join(self) -> None:
        for pump in self._pumps:
            pump.join(5.0)

    def cut(self) -> None:
        """Reset both sides; the pumps close the sockets when they notice."""
        for s in self._sockets:
            with contextlib.suppress(OSError):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._ended.set()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        held: deque[tuple[float, bytes]] = deque()
        held_bytes = 0
        at_end = False
        try:
            while not self._ended.is_set() and not (at_end and not held):
                if not at_end and self._proxy.is_open and held_bytes < HELD_BYTES:
                    data = self._read(source, held)
                    if data == b"":
                        at_end = True
                    elif data:
                        held.append((time.monotonic() + self._proxy.delay_s, data))
                        held_bytes += len(data)
                elif held:
                    self._ended.wait(max(0.0, held[0][0] - time.monotonic()))
                else:
                    self._ended.wait(0.02)
                while held and held[0][0] <= time.monotonic() and not self._ended.is_set():
                    data = held.popleft()[1]
                    held_bytes -= len(data)
                    self._proxy.pass_piece(len(data), self._ended)
                    self._send(sink, data)
            if not self._ended.is_set():
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._ended.set()
        finally:
            self._leave()

    def _read(self, source: socket.socket, held: deque) -> bytes | None:
        """A piece; empty at the end of the stream; None when it is time for a held one."""
        wait_s = 0.1
        if held:
            wait_s = min(wait_s, max(0.0, held[0][0] - time.monotonic()))
        if not select.select([source], [], [], wait_s)[0]:
            return None
        return source.recv(PIECE_BYTES)

    def _send(self, sink: socket.socket, data: bytes) -> None:
        while data and not self._ended.is_set():
            if select.select([], [sink], [], 0.1)[1]:
                data = data[sink.send(data) :]

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0:
                for s in self._sockets:
                    s.close()
