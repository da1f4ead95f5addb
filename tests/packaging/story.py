"""What somebody does with a new machine, step by step and timed: install, edit one file, start,
reboot. The tests assert on it, and `python -m bench.install` writes the seconds down.

One machine plays everything, the broker (Debian's, as it is after installing it), the worker and
the device, as on the first evening at a desk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from split_core.version import VERSION
from split_lab.demo.frames import compose
from tests.packaging.roots import REPOSITORY, make_disk
from tests.packaging.vm import Machine

DEBS = REPOSITORY / "build" / "deb"
PICTURES = 4
RESULTS = "si/v1/pi-door/up/result"
# The one file of each side; everything else in it is as the example says.
DEVICE_EDIT = ("sed -i -e 's|^url = .*|url = \"mqtt://127.0.0.1:1883\"|' -e 's|^loop = .*|loop = true|'"
               " /etc/edge-agent/edge-agent.toml")
WORKER_EDIT = ("sed -i 's|^url = .*|url = \"mqtt://127.0.0.1:1883\"|' /etc/cloud-worker/w1.toml")


@dataclass(frozen=True)
class Step:
    """What was done, and how long it took."""

    name: str
    seconds: float


def built(arch: str) -> list[Path]:
    """The packages; built if they are not there, or older than what they hold."""
    found = [DEBS / f"{name}_{VERSION}_{arch}.deb" for name in ("edge-agent", "cloud-worker")]
    newest = max(p.stat().st_mtime for p in _sources())
    if any(not p.exists() or p.stat().st_mtime < newest for p in found):
        done = subprocess.run(
            [sys.executable, "packaging/build.py", "--arch", arch], cwd=REPOSITORY, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout
    return found


def _sources() -> list[Path]:
    folders = ("edge_agent", "cloud_side", "split_core", "split_lab", "cext", "packaging",
               "systemd")
    return [REPOSITORY / "pyproject.toml", *(
        p for folder in folders for p in (REPOSITORY / folder).rglob("*")
        if p.is_file() and p.suffix in (".py", ".pyx", ".pxd", ".toml", ".service", ".lock", ""))]


def make_stick(folder: Path, disk: Path, extra: dict[str, str | Path] | None = None) -> Path:
    """What one carries to the machine: packages, a bundle, pictures; and ``extra`` files by name,
    as text or as a file to copy."""
    folder.mkdir(parents=True)
    for package in built("amd64"):
        (folder / package.name).write_bytes(package.read_bytes())
    subprocess.run([sys.executable, "-m", "edge_agent.cli", "split", "split_lab/demo/meter.tflite",
                    "--answer", "sequence", "-o", str(folder / "model.split.tflite")], cwd=REPOSITORY, check=True,
                   stdout=subprocess.DEVNULL)
    (folder / "pictures").mkdir()
    for index in range(PICTURES):
        frame = compose(index, "test")
        Image.fromarray(frame.pixels).save(folder / "pictures" / f"{index}-{frame.text}.png")
    for name, what in (extra or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(what.encode() if isinstance(what, str) else what.read_bytes())
    return make_disk(folder, disk, 400)


def older(package: Path, folder: Path) -> Path:
    """The same package as version 0.0.1, with another example in it."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {VERSION}", "Version: 0.0.1"))
    with (tree / "usr/share/edge-agent/edge-agent.toml").open("a") as example:
        example.write("# An older example.\n")
    path = folder / package.name.replace(VERSION, "0.0.1")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b", str(tree), str(path)],
                   check=True, stdout=subprocess.DEVNULL)
    return path


def install_and_start(machine: Machine) -> list[Step]:
    """From the packages on the stick to the first result on the topic."""
    machine.run("mkdir -p /mnt/stick && mount -o ro /dev/vdb /mnt/stick", check=True)
    steps = []

    def step(name: str, command: str, timeout_s: float = 300.0) -> None:
        done = machine.run(command, timeout_s=timeout_s, check=True)
        steps.append(Step(name, round(done.seconds, 1)))

    step("dpkg -i edge-agent", "dpkg -i /mnt/stick/edge-agent_*.deb")
    step("dpkg -i cloud-worker", "dpkg -i /mnt/stick/cloud-worker_*.deb")
    # Without a model and a broker it could only fail, so nobody starts it yet.
    found = machine.run("systemctl is-enabled edge-agent cloud-worker@w1;"
                        " systemctl is-active edge-agent cloud-worker@w1").output.split()
    assert found == ["disabled", "disabled", "inactive", "inactive"], found
    step("copy the model and the pictures, edit the configuration",
         "mkdir -p /var/lib/edge-agent && cp -r /mnt/stick/model.split.tflite /mnt/stick/pictures"
         f" /var/lib/edge-agent/ && {DEVICE_EDIT}")
    step("edit the worker's configuration", WORKER_EDIT)
    step("systemctl enable --now cloud-worker@w1", "systemctl enable --now cloud-worker@w1")
    # The listener comes first, so that no result is missed.
    machine.run(f"mosquitto_sub -t {RESULTS} -C 1 -W 120 >/tmp/first &", check=True)
    step("systemctl enable --now edge-agent", "systemctl enable --now edge-agent")
    began_s = time.monotonic()
    machine.wait_for("test -s /tmp/first", 120, "a first result", every_s=0.1)
    steps.append(Step("until the first result on the topic", round(time.monotonic() - began_s, 1)))
    return steps


def reboot(machine: Machine) -> list[Step]:
    """From `systemctl reboot` to a result again, with nobody doing anything."""
    before = machine.run("cat /proc/sys/kernel/random/boot_id", check=True).output
    began_s = time.monotonic()
    machine.reboot()
    shell_s = time.monotonic() - began_s
    next_result(machine, 180)
    result_s = time.monotonic() - began_s
    assert machine.run("cat /proc/sys/kernel/random/boot_id", check=True).output != before
    machine.run("mount -o ro /dev/vdb /mnt/stick", check=True)
    return [Step("reboot to a shell", round(shell_s, 1)),
            Step("reboot to a result", round(result_s, 1))]


def next_result(machine: Machine, timeout_s: float = 60, topic: str = RESULTS) -> dict:
    """The next result on the topic. Raises MachineError when none comes."""
    done = machine.wait_for(f"mosquitto_sub -t '{topic}' -C 1 -W 20", timeout_s, "a result")
    return json.loads(done.output)
