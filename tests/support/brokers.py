"""Real brokers for tests, on free ports of the loopback, ended by their own process id.

`Mosquitto` is the system's binary (tests are skipped without it); `amqtt_broker` is the broker
that pip installs, which speaks MQTT 3.1.1 only.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START_TIMEOUT_S = 10.0
_SBIN = "/usr/sbin:/usr/local/sbin"  # where distributions put it, often outside PATH


def mosquitto_path() -> str:
    """The mosquitto binary; skips the test when there is none."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=_SBIN)
    if found is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    return found


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Mosquitto:
    """A mosquitto with a configuration of its own in `directory`; start, stop, start again.

    `lines` are added to the configuration. With `tls` (see make_certificates) clients must show
    a certificate when `client_certificates` is set. With `unix` it listens on a socket file.
    """

    def __init__(
        self,
        directory: Path,
        lines: tuple[str, ...] = (),
        *,
        tls: Path | None = None,
        client_certificates: bool = False,
        unix: bool = False,
        users: dict[str, str] | None = None,
    ) -> None:
        self.binary = mosquitto_path()
        self.port = 0 if unix else free_port()
        self.unix_path = directory / "mosquitto.sock" if unix else None
        self._config = directory / "mosquitto.conf"
        self._log = directory / "mosquitto.log"
        self._process: subprocess.Popen | None = None
        config = [
            # Started by root it would change to a user who may not read the test's directory.
            "user root",
            "persistence false",
            f"listener 0 {self.unix_path}" if unix else f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'false' if users else 'true'}",
        ]
        if tls is not None:
            config += [f"certfile {tls / 'server.pem'}", f"keyfile {tls / 'server.key'}"]
            config += [f"cafile {tls / 'ca.pem'}"]
            config += [f"require_certificate {str(client_certificates).lower()}"]
        if users:
            config += [f"password_file {_password_file(directory, users)}"]
        self._config.write_text("\n".join([*config, *lines]) + "\n")

    def start(self) -> Mosquitto:
        """Start, and wait until it accepts connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, "-c", str(self._config)], stdout=log, stderr=log
            )
        try:
            _wait_until_open(self._process, self.port, self.unix_path)
        except RuntimeError as e:
            raise RuntimeError(f"{e}\n{self.log()}") from None
        return self

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    @property
    def url(self) -> str:
        """For plain connections."""
        if self.unix_path is not None:
            return f"mqtt+unix://{self.unix_path}"
        return f"mqtt://127.0.0.1:{self.port}"

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Mosquitto:
        return self.start()

    def __exit__(self, *_exc) -> None:
        self.stop()


@contextlib.contextmanager
def amqtt_broker(directory: Path) -> Iterator[int]:
    """An amqtt broker in a child process; yields its port."""
    pytest.importorskip("amqtt", reason="amqtt is not installed")
    port = free_port()
    with (directory / "amqtt.log").open("wb") as log:
        command = [sys.executable, "-c", _AMQTT, str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_open(process, port, None)
        yield port
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


_AMQTT = """
import asyncio, sys
from amqtt.broker import Broker

async def main():
    anonymous = "amqtt.plugins.authentication.AnonymousAuthPlugin"
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
        "plugins": {anonymous: {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


def make_certificates(directory: Path) -> Path:
    """An authority, a server (127.0.0.1, localhost) and a client (CN=device), as PEM files."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    _openssl(
        directory,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        # Python 3.13 verifies strictly: an authority must say that it may sign certificates.
        " -addext keyUsage=critical,keyCertSign,cRLSign"
        " -subj /CN=test-authority -keyout ca.key -out ca.pem",
    )
    for name, subject, extra in (
        ("server", "/CN=localhost", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ("client", "/CN=device", "extendedKeyUsage=clientAuth"),
    ):
        _openssl(
            directory,
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
            f" -subj {subject} -keyout {name}.key -out {name}.csr",
        )
        (directory / f"{name}.ext").write_text(extra + "\n")
        _openssl(
            directory,
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
            f" -extfile {name}.ext -out {name}.pem",
        )
    return directory


def _openssl(directory: Path, arguments: str) -> None:
    command = ["openssl", *arguments.split()]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=30)


def _password_file(directory: Path, users: dict[str, str]) -> Path:
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed")
    path = directory / "passwords"
    path.touch(mode=0o600)
    for user, password in users.items():
        command = ["mosquitto_passwd", "-b", str(path), user, password]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    return path


def _wait_until_open(process: subprocess.Popen, port: int, unix_path: Path | None) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"broker ended at once with status {process.returncode}")
        try:
            if unix_path is None:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            else:
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(str(unix_path))
            return
        except OSError:
            time.sleep(0.02)  # nothing announces that a foreign process listens
    process.terminate()
    process.wait(START_TIMEOUT_S)
    raise RuntimeError(f"broker did not listen within {START_TIMEOUT_S} s")
