"""How long it takes to have it: `python -m bench.install` (root; needs debootstrap and qemu).

A clean Debian 12 in a virtual machine: install both packages, edit one file, start, first result;
reboot, and a result again. The machine is emulated in software, ten to twenty times slower than
this one: what is measured is an upper bound, and that nothing but these steps is needed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench import rig
from tests.packaging import roots, story
from tests.packaging.vm import Machine


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kernel, initrd, disk = roots.root_disk()
        packages = story.built("amd64") + story.built("arm64")
        stick = story.make_stick(folder / "stick", folder / "stick.ext4")
        with Machine(kernel, initrd, [disk, stick], folder / "console.log") as machine:
            install, reboot = story.install_and_start(machine), story.reboot(machine)
    results = {
        "install_s": {s.name: s.seconds for s in install},
        "install_total_s": round(sum(s.seconds for s in install), 1),
        "reboot_s": {s.name: s.seconds for s in reboot},
        "package_bytes": {p.name: p.stat().st_size for p in packages},
    }
    rig.save("install", results)
    for name, seconds in (results["install_s"] | results["reboot_s"]).items():
        print(f"{seconds:7.1f} s  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
