"""A small HTTP server for what an operator looks at: GET only, bounded, no login.

Loopback is meant. Threads, connections and the time that one may take are bounded, so that a
client that is slow, or many, costs a bounded amount and never the program's work. Nothing is
read of a request but its first lines, nothing is kept of it, and no answer may be used by
another site: a name that is not ours (DNS rebinding) is refused while we listen on loopback.
"""

from __future__ import annotations

import io
import ipaddress
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from split_core.errors import ConfigError, SplitError

_log = logging.getLogger(__name__)
MAX_CONNECTIONS = 32
# Streams last; others must still get a turn.
MAX_STREAMS = 12
MAX_HEAD_BYTES = 8192
# From the connection to the request's last line, and for sending an answer.
HEAD_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 10.0
# A stream ends after this; a browser comes again by itself, one that vanished does not.
STREAM_LIFE_S = 3600.0
_HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self';"
     " connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
     " frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    body: bytes
    content_type: str = TEXT
    status: int = 200


@dataclass(frozen=True, slots=True)
class Stream:
    """Server-sent events: each of ``events`` is sent as it comes, until the client is gone."""

    events: Iterable[bytes] = field(repr=False)


# As our servers name themselves to whoever asks.
SERVER_NAME = "split"
# Gets the query, its first values by name.
Route = Callable[[dict[str, str]], Reply | Stream]


class WebServer:
    """Serves ``routes`` (paths to functions) on an address. Functions are called on threads of
    the server; what they raise is a 500 and a line in the log."""

    def __init__(self, address: tuple[str, int], routes: dict[str, Route], *,
                 max_connections: int = MAX_CONNECTIONS, max_streams: int = MAX_STREAMS):
        """Listens at once. Raises ConfigError for an address that cannot be had."""
        host, port = address
        self.routes = routes             # more may be added before `start`
        self.stopping = threading.Event()
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = kind(address, _Handler)
        except (OSError, OverflowError) as e:
            raise ConfigError(f"cannot listen on {host} port {port}: {e.strerror or e}") from None
        self._server.routes, self._server.stopping = routes, self.stopping
        self._server.connections = threading.BoundedSemaphore(max_connections)
        self._server.streams = threading.BoundedSemaphore(max_streams)
        self._server.loopback = ipaddress.ip_address(host).is_loopback
        self.host, self.port = host, self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="web",
                                        kwargs={"poll_interval": 0.25}, daemon=True)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End streams, listen no more."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join(2.0)
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One thread a connection, and not more connections than there are permits."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 16
    routes: Mapping[str, Route]
    stopping: threading.Event
    connections: threading.BoundedSemaphore
    streams: threading.BoundedSemaphore
    loopback: bool

    def process_request(self, request, client_address) -> None:
        if not self.connections.acquire(blocking=False):
            # Its buffer is empty: this does not wait.
            request.settimeout(0.0)
            try:
                request.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
                             b"Connection: close\r\n\r\n")
            except OSError:
                pass
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:             # no thread to be had
            self.connections.release()
            raise

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def handle_error(self, request, client_address) -> None:
        _log.debug("event=web-connection-failed", exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Writer(io.BufferedIOBase):
    """A socket as a file. Its timeout is that of a whole `write`."""

    def __init__(self, connection: socket.socket):
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self._connection.sendall(data)
        return len(data)


class _Handler(BaseHTTPRequestHandler):
    """One request a connection. The head is read whole, within a time and a size, before the
    library looks at it: it would wait for each line anew."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.connection = self.request
        self.rfile = io.BytesIO(self._read_head())
        self.connection.settimeout(SEND_TIMEOUT_S)
        self.wfile = _Writer(self.connection)

    def finish(self) -> None:
        self.rfile.close()

    def _read_head(self) -> bytes:
        head, limit_s = b"", time.monotonic() + HEAD_TIMEOUT_S
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            left_s = limit_s - time.monotonic()
            if left_s <= 0 or len(head) > MAX_HEAD_BYTES:
                return b""
            self.connection.settimeout(left_s)
            try:
                more = self.connection.recv(MAX_HEAD_BYTES)
            except OSError:
                return b""
            if not more:
                return b""
            head += more
        return head[:MAX_HEAD_BYTES]

    def version_string(self) -> str:
        return SERVER_NAME

    def log_message(self, format: str, *args) -> None:
        _log.debug("event=web-request what=%r", format % args)

    def send_error(self, code, message=None, explain=None) -> None:
        """As the library finds fault: in plain text, with our headers."""
        code = 405 if code == 501 else code
        self._send(Reply(f"{message or code}\n".encode(), status=int(code)))

    def do_GET(self) -> None:
        if not self._is_for_us():
            self._send(Reply(b"this name is not served here\n", status=421))
            return
        parts = urlsplit(self.path)
        route = self.server.routes.get(parts.path)
        if route is None:
            self._send(Reply(b"nothing here\n", status=404))
            return
        try:
            query = {k: v[0] for k, v in parse_qs(parts.query, max_num_fields=8).items()}
            reply = route(query)
        except (ValueError, SplitError) as e:
            reply = Reply(f"{e}\n".encode("utf-8", "replace"), status=400)
        except Exception:
            _log.exception("event=web-route-failed path=%r", parts.path)
            reply = Reply(b"internal error; the log has it\n", status=500)
        if isinstance(reply, Stream):
            self._stream(reply)
        else:
            self._send(reply)

    do_HEAD = do_GET

    def _is_for_us(self) -> bool:
        """A page of another site can make its own name point here; then the name is wrong."""
        if not self.server.loopback:
            return True
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def _head(self, status: int, content_type: str) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Connection", "close")
        for name, value in _HEADERS:
            self.send_header(name, value)

    def _send(self, reply: Reply) -> None:
        self._head(reply.status, reply.content_type)
        if reply.status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _stream(self, stream: Stream) -> None:
        if not self.server.streams.acquire(blocking=False):
            self._send(Reply(b"too many look on already\n", status=503))
            return
        try:
            self._head(200, "text/event-stream")
            self.end_headers()
            if self.command == "HEAD":
                return
            limit_s = time.monotonic() + STREAM_LIFE_S
            for event in stream.events:
                self.connection.settimeout(SEND_TIMEOUT_S)
                self.wfile.write(event)
                if self.server.stopping.is_set() or time.monotonic() > limit_s:
                    return
        finally:
            self.server.streams.release()
