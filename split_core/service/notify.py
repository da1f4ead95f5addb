"""What a service tells systemd: datagrams of KEY=value lines to $NOTIFY_SOCKET (sd_notify(3)).

Without a socket, which is how it is in a terminal and in a container, nothing is said. What
cannot be delivered is dropped: an agent does not stop because nobody listens.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

_log = logging.getLogger(__name__)
# systemd drains the socket in its main loop; one that is this busy hears the next word.
_SEND_TIMEOUT_S = 1.0


class Notifier:
    """One process's words to systemd. Thread-safe; never raises.

    ``address`` is a path, or @name of the abstract namespace; anything else stays silent.
    """

    def __init__(self, address: str | None):
        self._address = address if address and address[0] in "/@" else None
        self._lock = threading.Lock()
        self._refused = self._status = ""

    @classmethod
    def of_environment(cls) -> Notifier:
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def ready(self) -> None:
        """Start-up, or a reload, is over."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Settings are being read; `ready` ends it. systemd 253 and later wants the moment."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows; the same twice is said once."""
        text = " ".join(text.split())
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def feed_watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def more_time(self, seconds: float) -> None:
        """Starting (or stopping) goes on; do not kill us for so long from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    def _send(self, words: str) -> None:
        if self._address is None:
            return
        # An abstract name begins with a zero byte, which an environment variable cannot hold.
        where = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with self._lock, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(_SEND_TIMEOUT_S)
                out.sendto(words.encode(), where)
        except OSError as e:
            if str(e) != self._refused:
                self._refused = str(e)
                _log.warning("event=notify-failed socket=%s error=%r note=systemd does not hear"
                             " this process", self._address, str(e))
