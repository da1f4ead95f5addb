"""What compiled files want of the system: package relations, or a refusal."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from recipe import GLIBC, GLIBCXX, LIBRARIES
from wheels import BuildError


def compiled(tree: Path) -> list[Path]:
    return sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink()
                  and p.open("rb").read(4) == b"\x7fELF")


def depends(tree: Path) -> list[str]:
    """Packages that bring what the compiled files below ``tree`` load. Raises BuildError where
    Debian 12 has no such library, or an older one than is wanted."""
    files = compiled(tree)
    own = {p.name for p in files}
    packages, glibc = set(), (0,)
    for path in files:
        text = subprocess.run(["readelf", "-dVW", str(path)], capture_output=True, text=True,
                              check=True).stdout
        for library in re.findall(r"\(NEEDED\).*\[(.*)\]", text):
            if library not in own:
                if library not in LIBRARIES:
                    raise BuildError(f"{path} loads {library}, which no wheel and no package in"
                                     " recipe.LIBRARIES brings")
                packages.add(LIBRARIES[library])
        wants = {name: max(map(_version, re.findall(rf"Name: {name}_([\d.]+)", text)), default=(0,))
                 for name in ("GLIBC", "GLIBCXX")}
        for name, most in (("GLIBC", GLIBC), ("GLIBCXX", GLIBCXX)):
            if wants[name] > most:
                raise BuildError(f"{path} wants {name} {wants[name]}, Debian 12 has {most}; pin an"
                                 " older wheel, or build on Debian 12")
        glibc = max(glibc, wants["GLIBC"])
    least = ".".join(map(str, glibc))
    return [f"{p} (>= {least})" if p == "libc6" else p for p in sorted(packages)]


def strip(tree: Path, tool: str) -> None:
    """Take out what only a debugger reads; of our own kernels all that nothing looks up."""
    for path in compiled(tree):
        # Symbols that patchelf moved are left alone: strip breaks such files.
        what = "--strip-unneeded" if path.parent.name == "cext" else "--strip-debug"
        subprocess.run([tool, what, str(path)], check=True, capture_output=True)


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
