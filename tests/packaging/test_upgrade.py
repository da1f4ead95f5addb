"""docs/upgrading.md, done as it says: upgrade, roll back, remove. Last of all tests here: nothing
of ours is left on the machine afterwards."""

from __future__ import annotations

import re

import pytest

from split_core.version import VERSION
from tests.packaging import story
from tests.packaging.roots import REPOSITORY
from tests.packaging.vm import Machine

pytestmark = pytest.mark.check
OLDER = "/mnt/stick/older/edge-agent_0.0.1_amd64.deb"
NEWER = f"/mnt/stick/edge-agent_{VERSION}_amd64.deb"
WORKER = f"/mnt/stick/cloud-worker_{VERSION}_amd64.deb"


def documented(heading: str, package: str) -> list[str]:
    """The commands below ``heading``, with ``package`` in place of their file name."""
    page = (REPOSITORY / "docs/upgrading.md").read_text("utf-8")
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = "".join(re.findall(r"```sh\n(.*?)```", section, re.S)).strip().split("\n")
    assert lines and all(lines)
    return [re.sub(r"edge-agent_[\d.]+_\w+\.deb", package, line.removeprefix("sudo "))
            for line in lines]


def do(machine: Machine, heading: str, package: str = "") -> str:
    return "\n".join(machine.run(c, timeout_s=300, check=True).output
                     for c in documented(heading, package))


def state(machine: Machine) -> tuple[str, str]:
    """Version, and what the service runs as."""
    return (machine.run("dpkg-query -W -f '${Version}' edge-agent", check=True).output,
            machine.run("systemctl show --value -p MainPID edge-agent", check=True).output)


def config(machine: Machine) -> str:
    return machine.run("sha256sum /etc/edge-agent/edge-agent.toml; stat -c %a:%Y"
                       " /etc/edge-agent/edge-agent.toml", check=True).output


def test_upgrade_and_back_keep_the_configuration_and_the_service_running(machine):
    story.next_result(machine)
    before, (version, pid) = config(machine), state(machine)
    assert version == VERSION
    assert VERSION in do(machine, "Before")

    assert "downgrading edge-agent" in do(machine, "Roll back", OLDER)
    version, older_pid = state(machine)
    assert version == "0.0.1" and older_pid not in ("0", pid)
    story.next_result(machine)
    assert config(machine) == before

    assert "active (running)" in do(machine, "Upgrade", NEWER)
    version, newer_pid = state(machine)
    assert version == VERSION and newer_pid not in ("0", older_pid)
    story.next_result(machine)
    assert config(machine) == before
    # Nothing has been written among the package's files: no byte code, no caches.
    assert machine.run("dpkg --verify edge-agent cloud-worker", timeout_s=120).output == ""


def test_the_worker_is_the_same_all_its_instances_at_once(machine):
    pid = "systemctl show --value -p MainPID cloud-worker@w1"
    before = machine.run(pid, check=True).output
    machine.run(f"dpkg -i {WORKER}", timeout_s=300, check=True)
    assert machine.run(pid, check=True).output not in ("0", before)
    assert machine.run("systemctl is-active cloud-worker@w1").output == "active"
    story.next_result(machine)


def test_an_upgrade_does_not_start_what_was_stopped(machine):
    try:
        machine.run("systemctl stop edge-agent", timeout_s=60, check=True)
        machine.run(f"dpkg -i {OLDER}", timeout_s=300, check=True)
        assert machine.run("systemctl is-active edge-agent").output == "inactive"
    finally:
        machine.run(f"dpkg -i {NEWER}; systemctl start edge-agent", timeout_s=400, check=True)


def test_removed_and_purged_nothing_of_ours_is_left(installed):
    machine = installed.machine
    remove, purge = documented("Remove", "")
    machine.run(remove, timeout_s=120, check=True)
    machine.run("test -f /etc/edge-agent/edge-agent.toml && test -f"
                " /var/lib/edge-agent/model.split.tflite", check=True)
    assert machine.run("systemctl is-active edge-agent").output == "inactive"
    assert machine.run("command -v edge-agent").code != 0
    # And installed once more it is as it was, enabled with its configuration.
    machine.run(f"dpkg -i {NEWER} && systemctl start edge-agent", timeout_s=400, check=True)
    assert machine.run("systemctl is-enabled edge-agent").output == "enabled"
    story.next_result(machine)

    machine.run(f"{purge}; {purge.replace('edge-agent', 'cloud-worker')}", timeout_s=300, check=True)
    left = machine.run(
        r"find / -xdev \( -path /mnt -o -path /tmp -o -path /proc -o -path /var/log/journal \) -prune"
        r" -o \( -name '*edge-agent*' -o -name '*cloud-worker*' \) -print").output
    assert left == ""
    assert machine.run("dpkg -l | grep -c -e edge-agent -e cloud-worker").output == "0"
    assert machine.run("systemctl --failed --no-legend").output == ""
