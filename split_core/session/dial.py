"""Getting a connected socket without holding up the network thread.

Name resolution cannot be given a time limit and a TLS handshake takes round trips, so both
happen on a short-lived thread. The socket it returns is handed over; nothing is shared.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

from split_core.errors import LinkDown, SplitError
from split_core.session import refusals
from split_core.session.options import BrokerOptions
from split_core.session.socket_recipe import tune

CONNECT_TIMEOUT_S = 3.0
HANDSHAKE_TIMEOUT_S = 5.0


class Dial:
    """One attempt to connect. `on_done(dial)` is called on the dialling thread."""

    def __init__(
        self,
        options: BrokerOptions,
        on_done: Callable[[Dial], None],
        name: str,
    ) -> None:
        self.error: SplitError | None = None
        self._sock: socket.socket | None = None
        self._options = options
        self._on_done = on_done
        self._lock = threading.Lock()
        self._cancelled = False
        self._finished = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """No socket is wanted any more; one under way is given up."""
        with self._lock:
            self._cancelled = True
            if self._sock is None:
                return
            if self._finished:
                self._sock.close()
            else:
                _wake(self._sock)

    def take(self) -> socket.socket | None:
        """The connected socket, the caller's from now on; None when there is an error."""
        with self._lock:
            sock, self._sock = self._sock, None
        return sock

    def join(self, timeout_s: float) -> None:
        """Wait for the thread. One that is stuck in the resolver is left to end by itself."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._connect()
        except SplitError as e:
            self.error = e
        except Exception as e:  # a fault of ours must not end the retries silently
            self.error = SplitError(f"dialling {self._options.address}: {e!r}")
        with self._lock:
            self._finished = True
            if (self.error or self._cancelled) and self._sock is not None:
                self._sock.close()
                self._sock = None
        self._on_done(self)

    def _connect(self) -> None:
        options = self._options
        # Read anew each time: a renewed certificate is taken without a restart.
        context = None if options.tls is None else options.tls.context()
        if options.unix_path is not None:
            targets = [(socket.AF_UNIX, str(options.unix_path))]
        else:
            targets = _resolve(options)
        failure: OSError | None = None
        for family, address in targets:
            try:
                self._keep(socket.socket(family, socket.SOCK_STREAM))
                tune(self._sock)
                self._sock.settimeout(CONNECT_TIMEOUT_S)
                self._sock.connect(address)
                break
            except OSError as e:
                failure = e
                self._drop()
        else:
            raise LinkDown(f"cannot reach {options.address}: {_explain(failure)}")
        if context is not None:
            self._handshake(context)

    def _handshake(self, context: ssl.SSLContext) -> None:
        address = self._options.address
        plain = self._sock
        try:
            plain.settimeout(HANDSHAKE_TIMEOUT_S)
            self._keep(
                context.wrap_socket(
                    plain, server_hostname=self._options.host, do_handshake_on_connect=False
                )
            )
            self._sock.do_handshake()
        except ssl.SSLCertVerificationError as e:
            raise refusals.of_server(e, address, self._options.host) from e
        except ssl.SSLError as e:
            raise refusals.of_client(e, address) from e
        except (OSError, ValueError) as e:
            raise LinkDown(f"TLS with {address}: {_explain(e)}") from e

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            self._sock = sock
            if self._cancelled:
                raise LinkDown("cancelled")

    def _drop(self) -> None:
        with self._lock:
            if self._sock is not None:
                self._sock.close()
                self._sock = None


def _resolve(options: BrokerOptions) -> list[tuple[int, tuple]]:
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        raise LinkDown(f"cannot resolve {options.host}: {_explain(e)}") from e
    return [(family, address) for family, _, _, _, address in found]


def _explain(error: Exception | None) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error)


def _wake(sock: socket.socket) -> None:
    """End a connect() or handshake that another thread is waiting in."""
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # not begun, or already gone
