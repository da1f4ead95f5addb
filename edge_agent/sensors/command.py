"""A command that prints a report: the provider `exec`.

It runs on the monitor's thread, without a shell, and in a session of its own, so that ending
one that hangs also ends what it started. Its last run decides: one that fails, hangs or prints
nonsense makes what it would tell unknown, and the log says why when the reason changes.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from edge_agent.sensors.health import Health
from edge_agent.sensors.report import MAX_REPORT_BYTES, parse_report
from split_core.errors import MessageError

_log = logging.getLogger(__name__)
# After SIGKILL; what is stuck in the kernel is left to whoever reaps orphans.
_REAP_S = 0.5


class Command:
    name = "exec"

    def __init__(self, command: Sequence[str], *, timeout_s: float, every_s: float,
                 clock: Callable[[], float] = time.monotonic):
        self._command, self._timeout_s, self._every_s = tuple(command), timeout_s, every_s
        self._clock = clock
        self._ran_s: float | None = None
        self._last = Health()
        self._complaint = ""
        self._lock = threading.Lock()            # guards the two below
        self._process: subprocess.Popen | None = None
        self._closed = False

    def read(self, now_s: float) -> Health:
        """What the last run said; runs it again if that was `every_s` ago."""
        if self._ran_s is not None and now_s - self._ran_s < self._every_s:
            return self._last
        self._ran_s = now_s
        try:
            self._last, complaint = parse_report(self._run(), self.name), ""
        except (MessageError, OSError, ValueError) as e:
            self._last, complaint = Health(), str(e)
        if complaint and complaint != self._complaint and not self._closed:
            _log.warning("event=sensor-command command=%r error=%r", self._command[0], complaint)
        self._complaint = complaint
        return self._last

    def close(self) -> None:
        """End a run that is under way, and start none any more."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                _kill(self._process)

    def _run(self) -> bytes:
        """What the command prints. Raises MessageError, OSError or ValueError."""
        deadline_s = self._clock() + self._timeout_s
        with self._lock:
            if self._closed:
                raise MessageError("closed")
            process = self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, bufsize=0, start_new_session=True)
        try:
            output = self._output(process, deadline_s)
            code = process.wait(max(0.0, deadline_s - self._clock()))
        except subprocess.TimeoutExpired:
            raise MessageError(f"not done after {self._timeout_s} s") from None
        finally:
            with self._lock:
                self._process = None
                _kill(process)
            process.stdout.close()
            try:
                process.wait(_REAP_S)
            except subprocess.TimeoutExpired:
                _log.warning("event=sensor-command-stuck pid=%d", process.pid)
        if code:
            raise MessageError(f"exit code {code}, wanted 0")
        return output

    def _output(self, process: subprocess.Popen, deadline_s: float) -> bytes:
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        output = b""
        while len(output) <= MAX_REPORT_BYTES:
            left_s = deadline_s - self._clock()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                raise subprocess.TimeoutExpired(self._command, self._timeout_s)
            piece = os.read(process.stdout.fileno(), MAX_REPORT_BYTES + 1 - len(output))
            if not piece:
                return output
            output += piece
        raise MessageError(f"more than {MAX_REPORT_BYTES} bytes of output")


def _kill(process: subprocess.Popen) -> None:
    """The command's whole session; nothing if it has ended by itself.

    One that was not waited for keeps its number even when dead, so it is no one else's.
    """
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError) as e:   # the latter: it became root
            _log.debug("event=sensor-command-kill pid=%d error=%r", process.pid, e)
