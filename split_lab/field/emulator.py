"""The link of a `LinkSpec`, between real sockets on the loopback.

    with Emulator(LinkSpec.parse("synthetic:7,0.8Mbit"), broker.port) as link:
        connect_to(link.port)
        link.start()            # the trace's time zero is now

A TCP relay in one thread. What it reads it sends at once into the `Uplink` of the spec, which
says when each piece arrives; then it only has to wait. All connections share the two directions
of the link, first in, first out. Bytes waiting at a bottleneck never exceed `queue_bytes`, a
modest modem's buffer: beyond that nothing is read, and senders feel it through their kernels. A
burst of a trace that is larger than the queue is therefore not used in full, as on a real modem.

In a black hole nothing moves; a new connection succeeds as far as its kernel can tell, which
completes it by itself, and is let in when the hole ends. TCP's own handshake takes no time here,
and neither loss nor slow start is emulated.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

from split_lab.field.link_spec import LinkSpec
from split_lab.field.uplink import OPPORTUNITY_BYTES, QUEUE_BYTES, Uplink

# Small, so that a sender's kernel soon knows of a slow link. The kernel doubles it.
BUFFER_BYTES = 8_192
READ_BYTES = 16_384
# What may be on its way or waiting for the receiver on one connection: 20 Mbit/s for 400 ms.
HELD_BYTES = 1_000_000
# Bytes that leave within so long are passed on together: at most 500 wake-ups a second.
GRAIN_S = 0.002
CONNECT_WITHIN_S = 2.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# What a direction carries besides bytes: the end of its stream, and a reset.
_END, _RESET = b"", None


class Emulator:
    """Forwards to 127.0.0.1:`target_port` as `spec` says; connect to `port`."""

    def __init__(self, spec: LinkSpec, target_port: int, *, queue_bytes: int = QUEUE_BYTES) -> None:
        self.spec = spec
        self.accepted = 0
        self._target_port = target_port
        self._queue_bytes = queue_bytes
        self._connections: list[_Connection] = []
        self._watched: dict[socket.socket, int] = {}
        # select, not epoll: its timeout is in microseconds, epoll's in milliseconds.
        self._selector = selectors.SelectSelector()
        self._listener = socket.socket()
        # Accepted sockets inherit it, and it must be set before the handshake.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._waker, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="link-emulator", daemon=True)
        self._begin(time.monotonic())

    # For other threads.

    def start(self, t0_s: float | None = None) -> Emulator:
        """Let the link's time zero be `t0_s` of time.monotonic(), else now; before it nothing
        moves. Called again, the link begins anew; what was on its way sets out again."""
        t0_s = time.monotonic() if t0_s is None else t0_s
        if self._thread.is_alive():
            self._order(lambda: self._begin(t0_s))
        else:
            self._begin(t0_s)
            self._thread.start()
        return self

    def cut(self) -> None:
        """Reset all connections, towards both ends; returns when it is done."""
        self._order(self._cut)

    def close(self) -> None:
        """End everything and join the thread."""
        self._closing = True
        if self._thread.ident is None:
            self._close_all()
        else:
            self._wake()
            self._thread.join(5.0)
        self._waker.close()

    def __enter__(self) -> Emulator:
        return self if self._thread.is_alive() else self.start()

    def __exit__(self, *_exc) -> None:
        self.close()

    def _order(self, order: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.append((order, done))
        self._wake()
        if not done.wait(5.0):
            raise RuntimeError("the link emulator's thread does not answer")

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # closed meanwhile
            self._waker.send(b"!")

    # In the emulator's own thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                while self._orders:
                    order, done = self._orders.popleft()
                    order()
                    done.set()
                now_s = time.monotonic()
                for connection in self._connections:
                    for flow in connection.flows:
                        self._deliver(connection, flow, now_s)
                self._connections = [c for c in self._connections if not self._ended(c)]
                self._wait()
        finally:
            self._close_all()

    def _begin(self, t0_s: float) -> None:
        self._t0_s = t0_s
        self._up = _Line(self.spec.uplink(), t0_s, self._queue_bytes)
        self._down = _Line(self.spec.downlink(), t0_s, self._queue_bytes)
        for connection in self._connections:
            for flow, line in zip(connection.flows, (self._up, self._down), strict=True):
                flow.line = line
                flow.carry_again(time.monotonic())

    def _wait(self) -> None:
        """Sleep until something can be read or written or is due, then read."""
        wake_s, sources = self._arrange(time.monotonic())
        timeout_s = None if wake_s == math.inf else max(0.0, wake_s - time.monotonic())
        for key, events in self._selector.select(timeout_s):
            if key.fileobj is self._wakes:
                self._wakes.recv(4096)
            elif key.fileobj is self._listener:
                self._accept()
            elif events & selectors.EVENT_READ:
                self._read(*sources[key.fileobj])

    def _arrange(self, now_s: float) -> tuple[float, dict]:
        """Watch the sockets that matter now; when to look again, and whose each socket is."""
        wanted: dict[socket.socket, int] = {}
        sources: dict[socket.socket, tuple[_Connection, _Flow]] = {}
        wake_s = self._up.model.path.black_hole_end_s(now_s - self._t0_s)
        if wake_s is None:
            wake_s = math.inf
            wanted[self._listener] = selectors.EVENT_READ
        else:
            wake_s += self._t0_s
        for connection in self._connections:
            for flow in connection.flows:
                if flow.held:
                    wake_s = min(wake_s, flow.held[0][0])
                if flow.due:
                    wanted[flow.sink] = wanted.get(flow.sink, 0) | selectors.EVENT_WRITE
                if flow.reading and flow.held_bytes < HELD_BYTES:
                    room_s = flow.line.has_room_s(now_s)
                    if room_s <= now_s:
                        wanted[flow.source] = wanted.get(flow.source, 0) | selectors.EVENT_READ
                        sources[flow.source] = (connection, flow)
                    else:
                        wake_s = min(wake_s, room_s)
        self._watch(wanted)
        return wake_s, sources

    def _watch(self, wanted: dict[socket.socket, int]) -> None:
        for sock in self._watched.keys() - wanted.keys():
            self._selector.unregister(sock)
        for sock, events in wanted.items():
            if sock not in self._watched:
                self._selector.register(sock, events)
            elif self._watched[sock] != events:
                self._selector.modify(sock, events)
        self._watched = wanted

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:  # gone again before we came
            return
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        far.settimeout(CONNECT_WITHIN_S)
        try:
            far.connect(("127.0.0.1", self._target_port))
        except OSError:
            _reset(near)
            far.close()
            return
        self.accepted += 1
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.append(_Connection(near, far, self._up, self._down))

    def _read(self, connection: _Connection, flow: _Flow) -> None:
        now_s = time.monotonic()
        room_bytes = flow.line.room_bytes(now_s)
        if not flow.reading or not room_bytes:  # another took the room since the socket was watched
            return
        try:
            data = flow.source.recv(min(READ_BYTES, room_bytes))
        except BlockingIOError:
            return
        except OSError:
            connection.broke(flow.source, now_s)
            return
        if data:
            flow.carry(data, now_s)
        else:
            flow.carry_mark(_END, now_s)

    def _deliver(self, connection: _Connection, flow: _Flow, now_s: float) -> None:
        """Hand over what has arrived."""
        if connection.closed:
            return
        while flow.held and flow.held[0][0] <= now_s:
            data = flow.held.popleft()[1]
            if data is _RESET:
                connection.reset()
                return
            if data == _END:
                flow.ending = True
            flow.due += data
        try:
            if flow.due:
                sent = flow.sink.send(flow.due)
                del flow.due[:sent]
                flow.held_bytes -= sent
            if flow.ending and not flow.due and not flow.done:
                flow.done = True
                flow.sink.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            connection.broke(flow.sink, now_s)

    def _ended(self, connection: _Connection) -> bool:
        if not connection.closed and all(flow.done for flow in connection.flows):
            connection.close()
        if connection.closed:
            self._forget(connection)
        return connection.closed

    def _forget(self, connection: _Connection) -> None:
        for sock in (connection.near, connection.far):
            if self._watched.pop(sock, None) is not None:
                self._selector.unregister(sock)

    def _cut(self) -> None:
        for connection in self._connections:
            self._forget(connection)
            connection.reset()
        self._connections = []

    def _close_all(self) -> None:
        self._cut()
        self._selector.close()
        self._listener.close()
        self._wakes.close()
        while self._orders:
            self._orders.popleft()[1].set()


class _Line:
    """One direction of the link, on time.monotonic() and with a bounded queue."""

    def __init__(self, model: Uplink, t0_s: float, queue_bytes: int) -> None:
        self.model = model
        self._t0_s = t0_s
        self._queue_bytes = queue_bytes

    def room_bytes(self, now_s: float) -> int:
        return max(0, self._queue_bytes - self.model.backlog_bytes(now_s - self._t0_s))

    def has_room_s(self, now_s: float) -> float:
        """When there is room for a packet; `now_s` or before if there is."""
        wanted_bytes = min(OPPORTUNITY_BYTES, self._queue_bytes)
        if self.room_bytes(now_s) >= wanted_bytes:
            return now_s
        return self._t0_s + self.model.drained_s(self._queue_bytes - wanted_bytes)

    def arrivals(self, nbytes: int, now_s: float) -> list[tuple[int, float]]:
        """Queue bytes; in which pieces they arrive, and when."""
        at_s = now_s - self._t0_s
        pieces = self.model.send_pieces(nbytes, at_s, GRAIN_S)
        return [(piece, self._t0_s + self.model.arrives_s(left_s)) for piece, left_s in pieces]

    def mark_arrives_s(self, now_s: float) -> float:
        return self._t0_s + self.model.arrives_s(self.model.send(0, now_s - self._t0_s))


class _Flow:
    """One direction of one connection."""

    def __init__(self, source: socket.socket, sink: socket.socket, line: _Line) -> None:
        self.source = source
        self.sink = sink
        self.line = line
        self.held: deque[tuple[float, bytes | None]] = deque()
        self.due = bytearray()
        self.held_bytes = 0
        self.reading = True
        self.ending = False
        self.done = False

    def carry(self, data: bytes, now_s: float) -> None:
        start = 0
        for nbytes, arrival_s in self.line.arrivals(len(data), now_s):
            self.held.append((arrival_s, data[start:start + nbytes]))
            start += nbytes
        self.held_bytes += len(data)

    def carry_again(self, now_s: float) -> None:
        """Put what is under way onto a line that was changed, even beyond its queue."""
        held, self.held = self.held, deque()
        for _, data in held:
            if data:
                self.held_bytes -= len(data)
                self.carry(data, now_s)
            else:
                self.carry_mark(data, now_s)

    def carry_mark(self, mark: bytes | None, now_s: float) -> None:
        """Carry the end of the stream or a reset, behind all that went before."""
        self.reading = False
        self.held.append((self.line.mark_arrives_s(now_s), mark))


class _Connection:
    """Two sockets, and a flow each way."""

    def __init__(self, near: socket.socket, far: socket.socket, up: _Line, down: _Line) -> None:
        self.near = near
        self.far = far
        self.flows = (_Flow(near, far, up), _Flow(far, near, down))
        self.closed = False

    def broke(self, sock: socket.socket, now_s: float) -> None:
        """One end is gone: nothing more goes there, and the other is told over the link."""
        for flow in self.flows:
            flow.reading = False
            if flow.source is sock:
                flow.carry_mark(_RESET, now_s)
            else:
                flow.held.clear()
                flow.due.clear()
                flow.done = True

    def reset(self) -> None:
        self.closed = True
        _reset(self.near)
        _reset(self.far)

    def close(self) -> None:
        self.closed = True
        self.near.close()
        self.far.close()


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()
