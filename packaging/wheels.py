"""The wheels of a package: locked by digest, laid out for another machine, checked.

Nothing of the other machine is run: pip is told which machine to install for, and takes the
wheels from its cache or an index; their digests are in the lock.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from email.parser import HeaderParser
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename
from recipe import GLIBC, RECIPES, ROOT, TRIPLETS, Recipe

# Debian 12's.
PYTHON = "3.11"
_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


class BuildError(Exception):
    """What was found, what was wanted, and what to do."""


def _target(arch: str) -> list[str]:
    machine = TRIPLETS[arch].split("-")[0]
    names = ["manylinux1", "manylinux2010", "manylinux2014",
             *(f"manylinux_2_{minor}" for minor in range(5, GLIBC[1] + 1))]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON,
            *(f"--platform={name}_{machine}" for name in reversed(names))]


def requirements(recipe: Recipe) -> list[Requirement]:
    """What pyproject.toml asks for, for Debian 12's Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = [Requirement(line) for line in project["dependencies"]]
    wanted = list(recipe.extras)
    for extra in wanted:                     # grows: an extra may ask for another of ours
        for line in project["optional-dependencies"][extra]:
            requirement = Requirement(line)
            if requirement.name == project["name"]:
                wanted += sorted(requirement.extras - set(wanted))
            else:
                found.append(requirement)
    return [r for r in found if _applies(r, "x86_64")]


def _applies(requirement: Requirement, machine: str) -> bool:
    environment = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.2", "extra": "",
                   "platform_machine": machine, "sys_platform": "linux",
                   "platform_system": "Linux", "os_name": "posix",
                   "implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def install(recipe: Recipe, arch: str, site: Path) -> None:
    """The locked wheels, unpacked into ``site``."""
    _run([*_PIP, "install", "--no-deps", "--no-compile", "--require-hashes", "--target", str(site),
          *_target(arch), "-r", str(recipe.lock)])


def check(recipe: Recipe, arch: str, site: Path) -> list[tuple[str, str]]:
    """Every requirement, ours and the wheels', is met by what is in ``site``: name and version
    of each. Raises BuildError."""
    machine = TRIPLETS[arch].split("-")[0]
    metadata = [HeaderParser().parsestr(p.read_text("utf-8"))
                for p in sorted(site.glob("*.dist-info/METADATA"))]
    versions = {canonicalize_name(m["Name"]): m["Version"] for m in metadata}
    wanted = [(recipe.name, r) for r in requirements(recipe)]
    wanted += [(m["Name"], Requirement(line)) for m in metadata
               for line in m.get_all("Requires-Dist", [])]
    for who, requirement in wanted:
        if not _applies(requirement, machine):
            continue
        version = versions.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            raise BuildError(f"{who} needs {requirement}, {recipe.lock.name} has"
                             f" {version or 'none'}; run: make deb-lock")
    return sorted(versions.items())


def write_locks() -> None:
    """Resolve anew, for all machines together, and write down what was found."""
    chosen: dict[str, str] = {}
    for recipe in RECIPES.values():
        digests: dict[str, set[str]] = {}
        for arch in TRIPLETS:
            with tempfile.TemporaryDirectory() as folder:
                pins = Path(folder) / "pins"
                pins.write_text("".join(f"{n}=={v}\n" for n, v in chosen.items()))
                _run([*_PIP, "download", *_target(arch), "-d", folder, "-c", str(pins),
                      *(re.sub(";.*", "", str(r)) for r in requirements(recipe))])
                for wheel in Path(folder).glob("*.whl"):
                    name, version, *_ = parse_wheel_filename(wheel.name)
                    if chosen.setdefault(name, str(version)) != str(version):
                        raise BuildError(f"{name}: {version} for {arch}, {chosen[name]} elsewhere")
                    digests.setdefault(name, set()).add(
                        hashlib.sha256(wheel.read_bytes()).hexdigest())
        recipe.lock.write_text(
            "# Written by `make deb-lock`: the wheels in the package, for all machines.\n"
            + "".join(f"{name}=={chosen[name]}"
                      + "".join(f" \\\n    --hash=sha256:{d}" for d in sorted(digests[name])) + "\n"
                      for name in sorted(digests)))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise BuildError(f"{' '.join(command[:6])} ...: {done.stdout.strip()[-2000:]}")
