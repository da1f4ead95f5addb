"""What faults are planted with: a tree of /proc and /sys, and certificates out of their time."""

from __future__ import annotations

import subprocess
from pathlib import Path

# A Raspberry Pi that wants for nothing.
HEALTHY = {
    "proc/meminfo": "MemTotal:        3884000 kB\nMemFree:         2000000 kB\n",
    "proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    "run/systemd/timesync/synchronized": "",
    "boot/firmware/cmdline.txt": "console=tty1 root=PARTUUID=1 rootwait\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "cpufreq-dt\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
}


def plant(root: Path, changes: dict[str, str | None] | None = None) -> Path:
    """A healthy tree with some files changed; None takes one away."""
    for name, text in {**HEALTHY, **(changes or {})}.items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def certificate(folder, *, begin: str, end: str, name="IP:127.0.0.1,DNS:localhost"):
    """A server's certificate for a span of time, by the authority in the folder."""
    def openssl(arguments):
        subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True,
                       capture_output=True, timeout=30)
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("77\n")
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n"
        "certificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\npolicy=p\n"
        f"unique_subject=no\nx509_extensions=e\n[p]\ncommonName=supplied\n"
        f"[e]\nsubjectAltName={name}\n")
    openssl(f"ca -batch -config ca.cnf -in server.csr -out server.pem -startdate {begin}"
            f" -enddate {end} -notext")
