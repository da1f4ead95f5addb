"""The yardsticks of the round trip: a bare TCP echo and a bare paho echo, each a process.

`python -m bench.echo tcp PORT` and `python -m bench.echo paho PORT [CA]`. The reply's size
stands in the request's first four bytes, so that both directions carry what a frame and its
result carry. The paho echo is the least a program can do: one select loop, no threads,
TCP_NODELAY, QoS 0, replying inside the callback.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import sys
import threading

import paho.mqtt.client as mqtt

SIZE = struct.Struct("<I")


def tcp_server(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            peer, _ = server.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_tcp_echo, args=(peer,), daemon=True).start()


def _tcp_echo(peer: socket.socket) -> None:
    while True:
        head = receive(peer, 2 * SIZE.size)
        if head is None:
            return
        request, reply = struct.unpack("<II", head)
        receive(peer, request)
        peer.sendall(bytes(reply))


def receive(sock: socket.socket, size: int) -> bytes | None:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        got = sock.recv_into(view)
        if not got:
            return None
        view = view[got:]
    return buffer


class PahoLoop:
    """A connected paho client, driven by hand."""

    def __init__(self, name: str, port: int, ca: str | None, on_message):
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name,
                                  protocol=mqtt.MQTTv5)
        if ca:
            context = ssl.create_default_context(cafile=ca)
            self.client.tls_set_context(context)
        self.client.on_socket_open = lambda _c, _u, sock: sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client.on_message = on_message
        self.client.connect("localhost" if ca else "127.0.0.1", port, keepalive=600)
        while not self.client.is_connected():
            self.step()

    def step(self) -> None:
        sock = self.client.socket()
        pending = getattr(sock, "pending", lambda: 0)()
        writers = [sock] if self.client.want_write() else []
        readable, writable, _ = select.select([sock], writers, [], 0 if pending else 1.0)
        if readable or pending:
            self.client.loop_read()
        if writable:
            self.client.loop_write()


def paho_server(port: int, ca: str | None) -> None:
    name = "tls" if ca else "plain"

    def reply(client, _userdata, message) -> None:
        (size,) = SIZE.unpack_from(message.payload)
        client.publish(f"echo/{name}/back", bytes(size))

    loop = PahoLoop(f"echo-{name}", port, ca, reply)
    loop.client.subscribe(f"echo/{name}/there")
    while True:
        loop.step()


if __name__ == "__main__":
    if sys.argv[1] == "tcp":
        tcp_server(int(sys.argv[2]))
    else:
        paho_server(int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
