"""Our own packages with their kernels, built for Debian 12's Python on any machine.

Cross-compiled, also for the builder's own machine: the headers and the settings are Debian's,
so the result does not depend on which Python builds it, and an emulator is not needed. To build
arm64 under an emulator would take minutes and give the same (tests/packaging/ runs the result
there).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from recipe import ROOT, TRIPLETS
from wheels import BuildError


def prepare(arch: str, folder: Path) -> Path:
    """Headers and settings of Debian's Python for ``arch``, below ``folder``."""
    base = folder / f"python-{arch}"
    if (base / "fetched").exists():
        return base
    shutil.rmtree(base, ignore_errors=True)
    for part in ("state", "lists/partial", "cache/archives/partial", "root"):
        (base / part).mkdir(parents=True)
    (base / "status").touch()
    # The machine's sources and keys, but a package state of its own: an empty one.
    apt = ["apt-get", "-qq", "-o", f"APT::Architecture={arch}", "-o",
           f"APT::Architectures={arch}", "-o", "APT::Sandbox::User=",
           "-o", f"Dir::State={base}/state", "-o", f"Dir::State::Lists={base}/lists",
           "-o", f"Dir::State::status={base}/status", "-o", f"Dir::Cache={base}/cache",
           "-o", "Debug::NoLocking=1"]
    _run([*apt, "update"], base)
    _run([*apt, "download", "libpython3.11-dev", "libpython3.11-minimal"], base)
    for package in base.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(base / "root")], base)
    # Those headers and nothing of the C library's, which are the cross compiler's own.
    include = base / "include" / TRIPLETS[arch]
    shutil.copytree(base / "root/usr/include/python3.11", base / "include/python3.11")
    shutil.copytree(base / "root/usr/include" / TRIPLETS[arch] / "python3.11",
                    include / "python3.11")
    settings = f"_sysconfigdata__{TRIPLETS[arch]}.py"
    (base / "settings").mkdir()
    shutil.copy(base / "root/usr/lib/python3.11" / settings, base / "settings")
    for part in ("state", "lists", "cache", "root"):
        shutil.rmtree(base / part)
    (base / "fetched").touch()
    return base


def build(arch: str, python: Path, folder: Path) -> Path:
    """Our packages, modules and kernels; the folder that holds them."""
    library = folder / "lib"
    shutil.rmtree(folder, ignore_errors=True)
    settings = python / "settings"
    # What CPython's own cross builds use: the settings of the other machine.
    environment = os.environ | {
        "_PYTHON_HOST_PLATFORM": f"linux-{TRIPLETS[arch].split('-')[0]}",
        "_PYTHON_SYSCONFIGDATA_NAME": f"_sysconfigdata__{TRIPLETS[arch]}",
        "PYTHONPATH": str(settings), "PYTHONDONTWRITEBYTECODE": "1",
        # Headers name themselves in what is compiled: by no path of this machine.
        "CFLAGS": f"-I{python}/include/python3.11 -I{python}/include"
                  f" -ffile-prefix-map={ROOT}=. -ffile-prefix-map={python}=.",
    }
    _run([sys.executable, "setup.py", "-q", "build", "--build-base", str(folder),
          "--build-lib", str(library)], folder, environment)
    built = len(list(library.glob(f"cext/*.cpython-311-{TRIPLETS[arch]}.so")))
    wanted = len(list((ROOT / "cext").glob("*.pyx")))
    if built != wanted:
        raise BuildError(f"{built} kernels for {arch} in {library}/cext, wanted {wanted}")
    return library


def _run(command: list[str], folder: Path, environment: dict | None = None) -> None:
    cwd = folder if environment is None else ROOT
    done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise BuildError(f"{command[0]} {command[-1]}: {done.stdout.strip()[-2000:]}")
