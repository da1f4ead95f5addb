"""What a host may lack whatever runs on it: memory cgroup, ceiling, clock, rights, room.

``root`` is where /proc, /sys, /run and /boot are looked for, so that tests can plant faults.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from split_core.doctor.findings import Finding, fail, ok, warn

_MB = 1 << 20
_SERVICES = Path("/var/lib")      # where systemd makes each its own
# 2026-01-01. A clock before it is that of a board which woke up without one.
_EARLIEST_S = 1_767_225_600
_LATEST_S = 4_102_444_800            # 2100
_STA_UNSYNC = 0x40
# A day of logs and a bundle fetched beside the old one.
_LOW_BYTES = 200 * _MB
# Journals and profiles are cut off from here on.
_FULL_BYTES = 8 * _MB


def read(root: str | Path, path: str) -> str | None:
    """A small file's text; None where it is absent or cannot be read."""
    try:
        return (Path(root) / path).read_bytes()[:262_144].decode("utf-8", "replace").strip()
    except OSError:
        return None


def check_memory(max_mb: int, root: str | Path = "/") -> Iterator[Finding]:
    """The kernel's ceiling, and our own, which holds without it."""
    total = _total_bytes(root)
    if max_mb == 0:
        yield warn("memory ceiling", "service.memory_max_mb is 0: a leak would take the whole"
                   " machine", "set it to what may be taken at most, in MB")
    elif total is not None and max_mb * _MB > total:
        yield warn("memory ceiling", f"service.memory_max_mb is {max_mb}, this machine has"
                   f" {total // _MB} MB", f"set it below that: {int(0.8 * total / _MB)}")
    else:
        of = f" of {total // _MB}" if total is not None else ""
        yield ok("memory ceiling", f"this process keeps itself below {max_mb}{of} MB")
    if _has_memory_cgroup(root):
        yield ok("memory cgroup", "on: the unit's MemoryMax= holds")
    else:
        yield warn("memory cgroup", "off: MemoryMax= of a unit is silently void; only our own"
                   " ceiling holds", boot_remedy("cgroup_enable=memory cgroup_memory=1", root))


def check_pressure(root: str | Path = "/") -> Iterator[Finding]:
    """PSI, which Raspberry Pi OS builds in and leaves off."""
    if read(root, "proc/pressure/cpu") is not None:
        yield ok("pressure", "on: /proc/pressure tells when something waits")
    else:
        yield warn("pressure", "off: /proc/pressure is not there, so a starved processor or disk"
                   " is not seen", boot_remedy("psi=1", root))


def boot_remedy(words: str, root: str | Path) -> str:
    """How words get onto the kernel's command line here."""
    for path in ("boot/firmware/cmdline.txt", "boot/cmdline.txt"):
        if (Path(root) / path).exists():
            return (f"add  {words}  to the one line of /{path} and reboot:"
                    f" sudo sed -i '1s/$/ {words}/' /{path}")
    return (f"add  {words}  to the kernel's command line and reboot (GRUB: GRUB_CMDLINE_LINUX in"
            " /etc/default/grub, then update-grub)")


def _has_memory_cgroup(root: str | Path) -> bool:
    if (controllers := read(root, "sys/fs/cgroup/cgroup.controllers")) is not None:
        return "memory" in controllers.split()
    # The first version of cgroups: subsystem, hierarchy, cgroups, enabled.
    for line in (read(root, "proc/cgroups") or "").splitlines():
        words = line.split()
        if words[:1] == ["memory"]:
            return words[-1] == "1"
    return False


def _total_bytes(root: str | Path) -> int | None:
    for line in (read(root, "proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal" and rest.split()[:1] and rest.split()[0].isdigit():
            return int(rest.split()[0]) << 10
    return None


def check_clock(root: str | Path = "/", *, clock: Callable[[], float] = time.time,
                kernel_synchronised: Callable[[], bool | None] | None = None,
                ) -> Iterator[Finding]:
    """A board without a clock of its own wakes up in the past, and TLS refuses certificates."""
    now_s = clock()
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
    if not _EARLIEST_S < now_s < _LATEST_S:
        yield fail("clock", f"it is {shown} here", "set the time: sudo timedatectl set-ntp true;"
                   " without a network sudo date -s '2026-05-01 12:00'. A board without a battery"
                   " for its clock needs a time server at every start")
        return
    # systemd-timesyncd leaves a mark; every other daemon tells the kernel.
    marked = (Path(root) / "run/systemd/timesync/synchronized").exists()
    told = (kernel_synchronised or _kernel_synchronised)()
    if marked or told:
        yield ok("clock", f"{shown}, kept by a time server")
    elif told is None:
        yield ok("clock", f"{shown}; whether a time server keeps it is not known here")
    else:
        yield warn("clock", f"{shown}, kept by no time server",
                   "sudo timedatectl set-ntp true (or install chrony); TLS refuses certificates"
                   " when the clock is off")


class _Timex(ctypes.Structure):
    # struct timex: the fields up to `status` are read, the rest is room.
    _fields_ = [("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long),
                ("maxerror", ctypes.c_long), ("esterror", ctypes.c_long), ("status", ctypes.c_int),
                ("room", ctypes.c_char * 512)]


def _kernel_synchronised() -> bool | None:
    """adjtimex(2), asked and not told; None where there is none."""
    try:
        timex = _Timex()
        result = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if result < 0 else not timex.status & _STA_UNSYNC


def check_governor(root: str | Path = "/") -> Iterator[Finding]:
    """How the processor chooses its clock. Nothing is said where it has no choice."""
    found = {}
    for path in sorted(Path(root).glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq")):
        governor, driver = read(path, "scaling_governor"), read(path, "scaling_driver") or ""
        # These drivers call "powersave" what others call ondemand.
        if governor and not (governor == "powersave" and driver.startswith(("intel_pstate",
                                                                            "amd-pstate"))):
            found[governor] = path.parent.name
    slow = next((g for g in ("powersave", "conservative") if g in found), None)
    if slow is not None:
        yield warn("governor", f"{found[slow]} runs under {slow}, which keeps it at or near its"
                   " lowest clock: every frame takes longer", "echo ondemand | sudo tee"
                   " /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor (performance answers"
                   " soonest and draws most)")
    elif found:
        yield ok("governor", ", ".join(sorted(found)))


def check_state_dir(path: str | Path, key: str = "state_dir") -> Iterator[Finding]:
    """Profiles and journals are written there."""
    folder = Path(path)
    there = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"doctor")
            file.flush()
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            yield fail("disk", f"{there} is full", _room_remedy(there))
            return
        # Of the folder itself. One above it, such as / or /var, is nobody's to give away, and what
        # is the service's stays the service's.
        if _SERVICES in folder.parents:
            theirs = "it is the service's: run the doctor with sudo"
        elif there == folder:
            theirs = f"sudo chown {_user()} {there}"
        else:
            theirs = f"sudo install -d -o {_user()} {folder}"
        yield fail("state", f"this user ({_user()}) cannot write to {there}: {e.strerror}",
                   f"{theirs}, or name another folder in {key}; the service has its own"
                   " (StateDirectory=)")
        return
    new = "" if there == folder else ", which will be made"
    yield ok("state", f"{folder} can be written to{new}")
    yield from _room(there)


def _room(folder: Path) -> Iterator[Finding]:
    stat = os.statvfs(folder)
    free = stat.f_bavail * stat.f_frsize
    shown = f"{free / _MB:.0f} MB free at {folder}"
    if free < _FULL_BYTES:
        yield fail("disk", shown, _room_remedy(folder))
    elif free < _LOW_BYTES:
        yield warn("disk", shown, _room_remedy(folder))
    else:
        yield ok("disk", shown)


def _room_remedy(folder: Path) -> str:
    return (f"make room: sudo journalctl --vacuum-size=50M, sudo apt clean, du -xh {folder} | sort"
            " -h | tail")


def _user() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return str(os.getuid())
