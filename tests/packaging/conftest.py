"""One machine for all tests of a run: it takes a minute to boot and to install."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging import roots, story
from tests.packaging.vm import Machine

HANG = Path(__file__).resolve().parents[1] / "service/hang/sitecustomize.py"


@dataclass(frozen=True)
class Installed:
    """The machine, and how long it took."""

    machine: Machine
    install: list[story.Step]
    reboot: list[story.Step]


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Iterator[Installed]:
    """Both packages installed and running; it has been rebooted since."""
    roots.need("debootstrap", "qemu-system-x86_64", "mke2fs")
    folder = tmp_path_factory.mktemp("machine")
    kernel, initrd, disk = roots.root_disk()
    older = story.older(story.built("amd64")[0], folder)
    stick = story.make_stick(folder / "stick", folder / "stick.ext4", {
        "hang/hang.py": HANG, f"older/{older.name}": older})
    with Machine(kernel, initrd, [disk, stick], folder / "console.log") as machine:
        install = story.install_and_start(machine)
        yield Installed(machine, install, story.reboot(machine))


@pytest.fixture
def machine(installed: Installed) -> Iterator[Machine]:
    """The machine, with the service active; its journal from here on with `journal`. Afterwards
    drop-ins and edits are gone again."""
    machine = installed.machine
    machine.run("cp -p /etc/edge-agent/edge-agent.toml /tmp/as-it-was.toml; systemctl is-active"
                " edge-agent mosquitto cloud-worker@w1", check=True)
    yield machine
    machine.run("""\
systemctl start mosquitto
cmp -s /tmp/as-it-was.toml /etc/edge-agent/edge-agent.toml || changed=1
cp -p /tmp/as-it-was.toml /etc/edge-agent/edge-agent.toml
if [ -d /run/systemd/system/edge-agent.service.d ]; then
    changed=1
    rm -r /run/systemd/system/edge-agent.service.d
    systemctl daemon-reload
fi
if [ "$changed" ]; then systemctl restart edge-agent; else systemctl start edge-agent; fi""",
                timeout_s=180, check=True)
