"""What the demo runs on: a broker, a link between it and the agent, and a worker."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from split_core.errors import LinkDown
from split_lab.link import Proxy

_START_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Stack:
    """Where the agent connects, and the link it goes over."""

    url: str
    link: Proxy


@contextlib.contextmanager
def running_stack(folder: Path, *, rate_Bps: float, delay_s: float) -> Iterator[Stack]:
    """Start everything, end everything. The worker sits beside the broker, as in a data
    centre; the agent is behind a link of ``rate_Bps`` bytes a second and ``delay_s`` one way."""
    port = _free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_child(folder / "broker.log", "split_lab.demo.broker", str(port)))
        _wait_for(port)
        (folder / "worker.toml").write_text(
            f'id = "worker"\n[broker]\nurl = "mqtt://127.0.0.1:{port}"\nprotocol = "3.1.1"\n'
            f'[store]\npath = "{folder / "store"}"\n')
        stack.enter_context(_child(folder / "worker.log", "cloud_side.cli", "run", "-c",
                                   str(folder / "worker.toml")))
        link = stack.enter_context(Proxy(port))
        link.throttle(rate_Bps)
        link.delay(delay_s)
        yield Stack(f"mqtt://127.0.0.1:{link.port}", link)


@contextlib.contextmanager
def _child(log: Path, module: str, *arguments: str) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=out,
                                   stderr=out)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _wait_for(port: int) -> None:
    limit_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < limit_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.05)
    raise LinkDown(f"the demo's broker did not open port {port} in {_START_TIMEOUT_S:.0f} s")
