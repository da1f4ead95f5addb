"""A link that the kernel makes: a network namespace behind a pair of devices, with a token
bucket in front of it. Needs root; the test is skipped, saying so, where that is not to be had.

Unlike a proxy it has a queue of its own, and can lose packets without anybody being told.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.brokers import START_TIMEOUT_S, mosquitto_path

_numbers = itertools.count(1)
_PORT = 1883


class Link:
    """This machine on the near end, a namespace on the far one.

    The addresses are of the range for benchmarks of networks (RFC 2544), so they are nobody's.
    """

    def __init__(self):
        if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
            pytest.skip("network namespaces need root, and the commands ip and tc")
        number = next(_numbers)
        self.namespace = f"rig{os.getpid()}x{number}"
        # Device names have at most 15 characters.
        self._near, self._far = f"n{os.getpid()}x{number}", f"f{os.getpid()}x{number}"
        self.near_address, self.far_address = f"198.18.{number}.1", f"198.18.{number}.2"
        self.inside = ("ip", "netns", "exec", self.namespace)
        self._broker: subprocess.Popen | None = None

    def __enter__(self) -> Link:
        try:
            _run("ip", "netns", "add", self.namespace)
        except subprocess.CalledProcessError as e:
            pytest.skip(f"no network namespaces here: {e.stderr.strip()}")
        try:
            _run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far,
                 "netns", self.namespace)
            _run("ip", "addr", "add", f"{self.near_address}/30", "dev", self._near)
            _run("ip", "link", "set", self._near, "up")
            _run(*self.inside, "ip", "addr", "add", f"{self.far_address}/30", "dev", self._far)
            _run(*self.inside, "ip", "link", "set", self._far, "up")
            _run(*self.inside, "ip", "link", "set", "lo", "up")
            self.shape(rate_Bps=100_000_000, queue_bytes=1_000_000)
        except subprocess.CalledProcessError as e:
            self._remove()
            pytest.skip(f"no shaped links here: {e.stderr.strip()}")
        return self

    def __exit__(self, *_exc) -> None:
        if self._broker is not None:
            self._broker.terminate()
            self._broker.wait(START_TIMEOUT_S)
        self._remove()

    def _remove(self) -> None:
        # Its devices go with it.
        _run("ip", "netns", "delete", self.namespace)

    def shape(self, *, rate_Bps: int, queue_bytes: int) -> None:
        """Bytes a second in each direction, and how many may wait; the rest is lost."""
        rate = ("rate", f"{8 * rate_Bps}bit", "burst", "16kb", "limit", str(queue_bytes))
        self._discipline("tbf", *rate)

    def lose_everything(self) -> None:
        """No packet gets through in either direction, and nobody is told."""
        # Packets larger than the bucket can ever hold are dropped.
        self._discipline("tbf", "rate", "8bit", "burst", "1", "limit", "1")

    def _discipline(self, *words: str) -> None:
        for where, device in (((), self._near), (self.inside, self._far)):
            _run(*where, "tc", "qdisc", "replace", "dev", device, "root", *words)

    def start_broker(self, directory: Path) -> int:
        """A mosquitto on the far end; its port."""
        config = directory / "far.conf"
        # Without set_tcp_nodelay one result in thirty came 240 to 340 ms later on a full
        # 300 kB/s uplink: Nagle's algorithm held it until the device's acknowledgement of
        # something else had got through that uplink's queue.
        config.write_text(f"user root\npersistence false\nlistener {_PORT}\n"
                          "allow_anonymous true\nset_tcp_nodelay true\n")
        with (directory / "far.log").open("wb") as log:
            self._broker = subprocess.Popen(
                [*self.inside, mosquitto_path(), "-c", str(config)], stdout=log, stderr=log)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        listening = f":{_PORT:04X} 00000000:0000 0A"
        while listening not in _run(*self.inside, "cat", "/proc/net/tcp"):
            if self._broker.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError((directory / "far.log").read_text(errors="replace"))
            time.sleep(0.02)  # nothing announces that a foreign process listens
        return _PORT


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True,
                          timeout=10).stdout
