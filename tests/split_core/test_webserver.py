"""The small server: what it answers, what it refuses, and how long anybody can hold it up."""

from __future__ import annotations

import http.client
import socket
import threading
import time

import pytest

from split_core import webserver
from split_core.errors import ConfigError, UsageError
from split_core.listen import parse_listen
from split_core.webserver import Reply, Stream, WebServer
from tests.support.rig import wait_until


def serve(routes=None, **options) -> WebServer:
    def broken(query):
        raise RuntimeError("secret words")

    def refused(query):
        raise UsageError("no such thing")

    server = WebServer(("127.0.0.1", 0), {
        "/": lambda query: Reply(b"hello"), "/broken": broken, "/refused": refused,
        "/echo": lambda query: Reply(repr(query).encode()), **(routes or {})}, **options)
    server.start()
    return server


@pytest.fixture
def server():
    server = serve()
    yield server
    server.stop()


def ask(server: WebServer, path: str = "/", method: str = "GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers={k.replace("_", "-"): v
                                                  for k, v in headers.items()})
        reply = connection.getresponse()
        return reply, reply.read()
    finally:
        connection.close()


def raw(server: WebServer, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        s.sendall(data)
        received = b""
        try:
            while more := s.recv(65536):
                received += more
        except ConnectionResetError:
            pass
        return received


def test_an_answer_and_its_headers(server):
    reply, body = ask(server)
    assert (reply.status, body) == (200, b"hello")
    headers = {k.lower(): v for k, v in reply.getheaders()}
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store" and headers["x-frame-options"] == "DENY"
    assert not [h for h in headers if h.startswith("access-control")]
    assert headers["server"] == "split"                     # no versions for strangers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "X"])
def test_nothing_but_get(server, method):
    reply, _ = ask(server, method=method)
    assert reply.status == 405 and reply.getheader("Allow") == "GET, HEAD"


def test_head_has_no_body(server):
    reply, body = ask(server, method="HEAD")
    assert (reply.status, body, reply.getheader("Content-Length")) == (200, b"", "5")


@pytest.mark.parametrize("path, status", [
    ("/nothing", 404), ("/../etc/passwd", 404), ("/%2e%2e/", 404), ("/refused", 400),
    ("/broken", 500), ("/echo?" + "&".join(f"a{i}=1" for i in range(50)), 400)])
def test_what_is_not_there(server, path, status):
    reply, body = ask(server, path)
    assert reply.status == status and b"secret" not in body
    assert reply.getheader("Content-Security-Policy")


@pytest.mark.parametrize("host, status", [
    ("127.0.0.1", 200), ("localhost:8099", 200), ("[::1]:80", 200), ("evil.example", 421),
    ("127.0.0.1.evil.example", 421), ("", 421), ("10.0.0.1", 421)])
def test_another_sites_name_for_us_is_refused(server, host, status):
    assert ask(server, Host=host)[0].status == status


@pytest.mark.parametrize("data", [
    b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x00\xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
    b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n"])
def test_what_is_no_request_harms_nobody(server, data):
    assert b"200" not in raw(server, data)[:15]
    assert ask(server)[1] == b"hello"


def test_a_client_that_dawdles_is_let_go(monkeypatch):
    monkeypatch.setattr(webserver, "HEAD_TIMEOUT_S", 0.4)
    server = serve(max_connections=2)
    try:
        begin_s, slow = time.monotonic(), []
        for _ in range(2):
            slow.append(socket.create_connection(("127.0.0.1", server.port)))
        # One byte now and then: each would begin a line's time anew, but the head has one in all.
        stop = threading.Event()

        def drip():
            while not stop.wait(0.05):
                for s in slow:
                    try:
                        s.send(b"G")
                    except OSError:
                        pass

        dripper = threading.Thread(target=drip)
        dripper.start()

        def is_served() -> bool:
            try:
                return ask(server)[0].status == 200
            except OSError:
                return False

        assert ask(server)[0].status == 503          # all taken, and said so at once
        wait_until(is_served, 5.0, "an answer beside those that dawdle")
        assert time.monotonic() - begin_s < 4.0
    finally:
        stop.set()
        dripper.join()
        for s in slow:
            s.close()
        server.stop()


def test_streams_are_bounded_and_end_with_the_server():
    stopped = threading.Event()

    def ticks():
        while not stopped.is_set():
            yield b"data: tick\n\n"
            stopped.wait(0.05)

    server = serve({"/live": lambda query: Stream(ticks())}, max_streams=2)
    connections = []
    try:
        for wanted in (200, 200, 503):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/live")
            reply = connection.getresponse()
            assert reply.status == wanted
            connections.append((connection, reply))
        assert connections[0][1].getheader("Content-Type") == "text/event-stream"
        assert connections[0][1].readline() == b"data: tick\n"
        connections[1][1].close()
        connections[1][0].close()

        def has_room() -> bool:
            reply, _ = ask(server, "/live", method="HEAD")
            return reply.status == 200

        wait_until(has_room, 5.0, "the place of a viewer that left")
    finally:
        stopped.set()
        server.stop()
        for connection, reply in connections:
            reply.close()
            connection.close()


def test_an_address_that_is_taken_is_said(server):
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {server.port}"):
        WebServer(("127.0.0.1", server.port), {})


@pytest.mark.parametrize("text, wanted", [
    ("127.0.0.1:8099", ("127.0.0.1", 8099)), ("[::1]:1", ("::1", 1)), ("", None),
    ("0.0.0.0:80", ("0.0.0.0", 80))])
def test_addresses(text, wanted):
    assert parse_listen(text, "status.listen") == wanted


@pytest.mark.parametrize("text", ["8099", "localhost:80", "127.0.0.1", "127.0.0.1:", "1.2.3.4:x",
                                  "127.0.0.1:99999", "127.0.0.1:-1", ":80", "127.0.0.1:\u0663"])
def test_addresses_that_are_none(text):
    with pytest.raises(ConfigError, match="status.listen"):
        parse_listen(text, "status.listen")
