"""What systemd is to a service: a datagram socket that listens, and a few variables."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANG = Path(__file__).with_name("hang")


@dataclass(frozen=True)
class Word:
    at_s: float
    key: str
    value: str


class FakeSystemd:
    """Listens on ``address``, a path or @name, from `__enter__` on."""

    def __init__(self, address: str):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard = threading.Condition()
        self.words: list[Word] = []

    def __enter__(self) -> FakeSystemd:
        self._socket.bind("\0" + self.address[1:] if self.address[0] == "@" else self.address)
        self._socket.settimeout(0.05)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, *_exc) -> None:
        self._over.set()
        self._thread.join(5)
        self._socket.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                words = self._socket.recv(65536).decode().splitlines()
                with self._heard:
                    for word in words:
                        key, _, value = word.partition("=")
                        self.words.append(Word(time.monotonic(), key, value))
                    self._heard.notify_all()

    def said(self, key: str) -> list[str]:
        return [w.value for w in self.words if w.key == key]

    def wait(self, key: str, value: str | Callable[[str], bool] = "1", *, timeout_s: float = 20.0,
             after: int = 0) -> int:
        """Until a word came that fits, of those from number ``after`` on; its number + 1."""
        fits = value if callable(value) else lambda found: found == value
        limit_s = time.monotonic() + timeout_s
        with self._heard:
            while True:
                for i, word in enumerate(self.words[after:], after):
                    if word.key == key and fits(word.value):
                        return i + 1
                if not self._heard.wait(limit_s - time.monotonic()):
                    raise AssertionError(f"no {key}={value} in {timeout_s} s; heard"
                                         f" {[(w.key, w.value) for w in self.words]}")


class Service:
    """A program of ours, started as systemd does it; its log is a file."""

    def __init__(self, systemd: FakeSystemd | None, log: Path, *command: str,
                 watchdog_s: float = 0.0, hang: str | None = None, fill_mb: int = 0):
        env = {k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"}
        if systemd is not None:
            env["NOTIFY_SOCKET"] = systemd.address
        if watchdog_s:
            env["WATCHDOG_USEC"] = str(round(1e6 * watchdog_s))
        if hang is not None:
            env |= {"HANG": hang, "PYTHONPATH": f"{HANG}{os.pathsep}{ROOT}"}
        if fill_mb:
            env["FILL_MB"] = str(fill_mb)
        self.systemd, self._log = systemd, log
        with log.open("ab") as out:
            self.process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=env,
                                            stderr=out, stdin=subprocess.DEVNULL)

    def log(self) -> str:
        return self._log.read_text()

    def wait_for_log(self, text: str, timeout_s: float = 20.0) -> str:
        limit_s = time.monotonic() + timeout_s
        while text not in (log := self.log()):
            assert time.monotonic() < limit_s, f"no {text!r} in {timeout_s} s:\n{log}"
            assert self.process.poll() is None, f"ended before {text!r}:\n{log}"
            time.sleep(0.02)
        return next(line for line in log.splitlines() if text in line)

    def hang_now(self) -> None:
        """Have the thread stand still. Python serves a signal once the kernel gives one to the
        main thread, which it does with most but not with all."""
        for _ in range(20):
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(0.02)

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self, timeout_s: float = 20.0) -> int:
        self.process.terminate()
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def service(systemd: FakeSystemd | None, log: Path, *command: str, **options) -> Iterator[Service]:
    """Killed at the end, if it still runs."""
    running = Service(systemd, log, *command, **options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait(10)
