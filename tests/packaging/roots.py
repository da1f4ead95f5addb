"""Clean Debian roots, made once and kept under build/roots/, and disks made of them.

Nothing of ours is in them; the packages are installed into a copy, or on a disk that forgets.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.vm import CONSOLE_UNIT

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "build" / "roots"
# A machine that boots, a broker with its command-line clients, and what our packages depend on:
# there is no network in there to fetch it from.
MACHINE = ("systemd,systemd-sysv,udev,dbus,procps,python3,mosquitto,mosquitto-clients,"
           "linux-image-cloud-amd64,libstdc++6,zlib1g")
# Enough to install and to run in.
CHROOT = "python3,libstdc++6,zlib1g"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
ARM64_HANDLER = "/usr/lib/binfmt.d/qemu-aarch64.conf"


def need(*tools: str) -> None:
    """Skip, saying which tool is missing."""
    if os.geteuid():
        pytest.skip("only root may make a Debian root")
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here")


def make_root(arch: str, packages: str) -> Path:
    """A root of Debian 12 with ``packages``; as it was left by debootstrap."""
    root = FOLDER / arch
    made = FOLDER / f"{arch}.made"
    if made.exists() and made.read_text() == packages:
        return root
    shutil.rmtree(root, ignore_errors=True)
    cache = FOLDER / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{arch}.ext4").unlink(missing_ok=True)
    done = subprocess.run(
        ["debootstrap", f"--arch={arch}", "--variant=minbase", f"--cache-dir={cache}",
         f"--include={packages}", "bookworm", str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        pytest.skip(f"debootstrap could not make a root: {done.stdout.strip()[-500:]}")
    made.write_text(packages)
    return root


def root_disk() -> tuple[Path, Path, Path]:
    """Kernel, initial file system and disk of a machine that boots."""
    root, disk = make_root("amd64", MACHINE), FOLDER / "amd64.ext4"
    made = FOLDER / "amd64.ext4.made"
    if not disk.exists() or not made.exists() or made.read_text() != MACHINE + CONSOLE_UNIT:
        unit = root / "etc/systemd/system/test-console.service"
        unit.write_text(CONSOLE_UNIT)
        link = root / "etc/systemd/system/multi-user.target.wants" / unit.name
        link.unlink(missing_ok=True)
        link.symlink_to(f"../{unit.name}")
        (root / "etc/hostname").write_text("pi\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost pi\n")
        make_disk(root, disk, 2000)
        made.write_text(MACHINE + CONSOLE_UNIT)
    [kernel], [initrd] = root.glob("boot/vmlinuz-*"), root.glob("boot/initrd.img-*")
    return kernel, initrd, disk


def make_disk(folder: Path, disk: Path, size_mb: int) -> Path:
    """An ext4 file system that holds what is in ``folder``; needs no mount."""
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(size_mb << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "nodiscard",
                    "-d", str(folder), str(disk)], check=True)
    return disk


@contextlib.contextmanager
def arm64_programs() -> Iterator[None]:
    """The kernel runs programs for arm64, in a chroot too. What was set up is taken back."""
    with contextlib.ExitStack() as undo:
        if not (BINFMT / "register").exists():
            done = subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)],
                                  capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"binfmt_misc cannot be mounted here: {done.stderr.strip()}")
            undo.callback(subprocess.run, ["umount", str(BINFMT)], check=True)
        if not (BINFMT / "qemu-aarch64").exists():
            if not Path(ARM64_HANDLER).exists():
                pytest.skip(f"no {ARM64_HANDLER} here (package qemu-user-static)")
            (BINFMT / "register").write_text(Path(ARM64_HANDLER).read_text().strip())
            undo.callback((BINFMT / "qemu-aarch64").write_text, "-1")
        yield
