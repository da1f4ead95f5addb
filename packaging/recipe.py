"""What goes into which package. Everything else here is how."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Debian's name of an architecture, and the compilers' and wheels' names of it.
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
# Whoever publishes packages says so as Debian's other tools are told. Without that it is nobody who
# can be written to: .invalid is reserved for such addresses (RFC 2606).
MAINTAINER = (f"{os.environ.get('DEBFULLNAME', 'The edge-agent project')}"
              f" <{os.environ.get('DEBEMAIL', 'nobody@edge-agent.invalid')}>")
# The newest C library, and C++ library, that Debian 12 has: wheels that want more would
# install and then not load.
GLIBC, GLIBCXX = (2, 36), (3, 4, 30)
# Which package of Debian's brings a library that is not in a wheel.
LIBRARIES = {
    "ld-linux-x86-64.so.2": "libc6", "ld-linux-aarch64.so.1": "libc6", "libc.so.6": "libc6",
    "libm.so.6": "libc6", "libdl.so.2": "libc6", "libpthread.so.0": "libc6",
    "librt.so.1": "libc6", "libutil.so.1": "libc6",
    "libstdc++.so.6": "libstdc++6", "libgcc_s.so.1": "libgcc-s1", "libz.so.1": "zlib1g",
}


@dataclass(frozen=True)
class Recipe:
    """One binary package: a virtual environment, a command, a unit, an example to begin with."""

    name: str                                # of the package, the command and the folders
    main: str                                # module:function of the command
    sources: tuple[str, ...]                 # our packages that it runs
    extras: tuple[str, ...]                  # of pyproject.toml, besides its dependencies
    unit: str                                # in systemd/
    restarts: str                            # what systemctl calls its running units
    example: str                             # in systemd/
    config: str                              # below /etc; begins as a copy of the example
    secrets: str                             # below /etc, for root alone
    # Modules that only Debian has, for hardware of the machine, are found behind our own.
    sees_debian_modules: bool
    suggests: str
    summary: str
    description: str

    @property
    def lock(self) -> Path:
        """Names, versions and digests of all wheels."""
        return ROOT / "packaging" / f"{self.name}.lock"

    @property
    def home(self) -> str:
        return f"usr/lib/{self.name}"


AGENT = Recipe(
    name="edge-agent", main="edge_agent.cli:main",
    # The commands for the desk (split, calibrate, field-test) are the agent's, and start workers.
    sources=("edge_agent", "split_core", "split_lab", "cloud_side", "cext"), extras=("metrics", "e2e"),
    unit="edge-agent.service", restarts="edge-agent.service",
    example="edge-agent.toml", config="edge-agent/edge-agent.toml", secrets="edge-agent/secrets",
    sees_debian_modules=True, suggests="mosquitto, python3-opencv, python3-picamera2",
    summary="split inference: the head of a model, on a device",
    description="""\
Runs the first operations of a .tflite model on this machine and sends what is
left to do, coded to a few kilobytes, to a cloud-worker over MQTT; where the
split is, and how it is coded, follows the link, the board and the battery.
When an answer would come too late the rest is computed here.

The virtual environment is in /usr/lib/edge-agent. After installing, edit
/etc/edge-agent/edge-agent.toml and run: systemctl enable --now edge-agent""")

WORKER = Recipe(
    name="cloud-worker", main="cloud_side.cli:main",
    sources=("cloud_side", "split_core", "cext"), extras=("worker", "e2e", "trace"),
    unit="cloud-worker@.service", restarts="cloud-worker@*.service",
    example="cloud-worker.toml", config="cloud-worker/w1.toml", secrets="cloud-worker/w1.secrets",
    sees_debian_modules=False, suggests="mosquitto",
    summary="split inference: the tails of models, on a server",
    description="""\
Computes the rest of a .tflite model for devices that run edge-agent, over
MQTT.

The virtual environment is in /usr/lib/cloud-worker. After installing, edit
/etc/cloud-worker/w1.toml and run: systemctl enable --now cloud-worker@w1""")

RECIPES = {r.name: r for r in (AGENT, WORKER)}
