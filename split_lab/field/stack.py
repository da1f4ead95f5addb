"""A broker and a worker on this machine, for a field test that has none, or that breaks them."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from split_core.errors import LinkDown

_SBIN = "/usr/sbin:/usr/local/sbin"  # where distributions put it, often outside PATH
_START_S = 20.0
_STOP_S = 10.0


class Child:
    """A process of ours, by its handle."""

    def __init__(self, name: str, command: list[str], log: Path):
        self.name, self._command, self._log = name, command, log
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """No goodbye."""
        self._process.kill()
        self._process.wait(_STOP_S)

    def pause(self) -> None:
        """It keeps its connection and does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()


class LocalStack:
    """mosquitto where it is installed, else amqtt; and a worker. A context manager."""

    def __init__(self, folder: Path):
        self.port = _free_port()
        mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path=_SBIN)
        if mosquitto is not None:
            config = folder / "mosquitto.conf"
            config.write_text(f"user root\npersistence false\nset_tcp_nodelay true\n"
                              f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
            command = [mosquitto, "-c", str(config)]
        else:
            command = [sys.executable, "-m", "split_lab.demo.broker", str(self.port)]
        self.name = "mosquitto" if mosquitto else "amqtt"
        self.broker = Child("broker", command, folder / "broker.log")
        settings = folder / "worker.toml"
        settings.write_text(
            f'id = "field-worker"\nstate_dir = "{folder / "state"}"\n'
            f'[broker]\nurl = "{self.url}"\n'
            + ('' if mosquitto else 'protocol = "3.1.1"\n')
            + f'[store]\npath = "{folder / "bundles"}"\n')
        self.worker = Child("worker", [sys.executable, "-m", "cloud_side.cli", "run", "-c",
                                       str(settings)], folder / "worker.log")

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def __enter__(self) -> LocalStack:
        try:
            self.start_broker()
            self.worker.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start_broker(self) -> None:
        """And wait until it listens. Raises LinkDown."""
        self.broker.start()
        limit_s = time.monotonic() + _START_S
        while time.monotonic() < limit_s:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 0.5).close()
                return
            time.sleep(0.05)         # nothing announces that a foreign process listens
        raise LinkDown(f"{self.name} did not open port {self.port} in {_START_S:.0f} s")

    def __exit__(self, *_exc) -> None:
        self.worker.stop()
        self.broker.stop()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
