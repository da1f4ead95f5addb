"""The files of a package, as they will lie on the machine."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import changelog
import elf
import licences
import wheels
from recipe import MAINTAINER, ROOT, TRIPLETS, Recipe

# What nobody runs on a device: tests, what is for compilers and type checkers, commands of the
# wheels, and what drives chips that need their maker's libraries anyway. Of NumPy's compiled tests
# `_multiarray_tests` stays: `import numpy` loads it.
LEFT_OUT = ("bin", "**/tests", "**/_examples", "**/*.pyi", "**/py.typed", "**/*.a", "**/*.lib",
            "**/*.sh", "**/*.[ch]", "**/*.pyx", "**/*.pxd", "numpy/core/include",
            "numpy/core/_operand_flag_tests.*.so", "numpy/core/_struct_ufunc_tests.*.so",
            "numpy/f2py", "numpy/distutils",
            "ai_edge_litert/vendors", "ai_edge_litert/tools",
            "ai_edge_litert/libLiteRtWebGpuAccelerator.so")


def lay_out(recipe: Recipe, arch: str, library: Path, tree: Path, version: str,
            seconds: int) -> list[tuple[str, str]]:
    """Everything but DEBIAN/; the wheels inside, with their versions. ``seconds`` is the commit's
    time, which the changelog tells."""
    home = tree / recipe.home
    site = home / "lib/python3.11/site-packages"
    site.mkdir(parents=True)
    wheels.install(recipe, arch, site)
    versions = wheels.check(recipe, arch, site)
    for pattern in LEFT_OUT:
        for path in list(site.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for source in recipe.sources:
        shutil.copytree(library / source, site / source,
                        ignore=shutil.ignore_patterns("__pycache__", "*.pyx", "*.pxd", "*.pyi"))
    elf.strip(tree, f"{TRIPLETS[arch]}-strip")
    _environment(recipe, home)
    _compile(home, f"/{recipe.home}")
    _system(recipe, tree)
    _documents(recipe, tree, site, version, seconds)
    return versions


def _environment(recipe: Recipe, home: Path) -> None:
    """What `python3 -m venv` makes, less pip, by hand: it must not be made by running the Python
    of another machine, and must not hold this machine's paths."""
    (home / "pyvenv.cfg").write_text(
        "home = /usr/bin\n"
        f"include-system-site-packages = {str(recipe.sees_debian_modules).lower()}\n"
        "version = 3.11\n")
    (home / "bin").mkdir()
    (home / "bin/python").symlink_to("../../../bin/python3.11")
    module, function = recipe.main.split(":")
    command = home / "bin" / recipe.name
    # -I: neither PYTHON* in the environment nor the folder it is called from choose the modules.
    command.write_text(f"#!/{recipe.home}/bin/python -I\n"
                       f"import sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n")
    command.chmod(0o755)
    binary = home.parents[1] / "bin" / recipe.name
    binary.parent.mkdir(parents=True, exist_ok=True)
    binary.symlink_to(f"../lib/{recipe.name}/bin/{recipe.name}")


def _compile(home: Path, installed: str) -> None:
    """Byte code beside the modules: nothing may write it on the machine, and without it each start
    takes seconds more. Believed unchecked, and so without the time of the build in it."""
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash",
         "-s", str(home), "-p", installed, str(home / "lib")],
        check=True, env=os.environ | {"PYTHONHASHSEED": "0"}, stdout=subprocess.DEVNULL)


def _system(recipe: Recipe, tree: Path) -> None:
    units = tree / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(ROOT / "systemd" / recipe.unit, units)
    share = tree / "usr/share" / recipe.name
    share.mkdir(parents=True)
    shutil.copy(ROOT / "systemd" / recipe.example, share)


def _documents(recipe: Recipe, tree: Path, site: Path, version: str, seconds: int) -> None:
    folder = tree / "usr/share/doc" / recipe.name
    (folder / "examples").mkdir(parents=True)
    (folder / "examples" / recipe.example).symlink_to(
        f"../../../{recipe.name}/{recipe.example}")
    (folder / "copyright").write_text(licences.copyright_of(recipe, site), "utf-8")
    text = changelog.debian_changelog(
        recipe.name, version, MAINTAINER, (ROOT / "CHANGELOG.md").read_text("utf-8"),
        datetime.fromtimestamp(seconds, timezone.utc))
    with gzip.GzipFile(folder / "changelog.gz", "wb", 9, mtime=0) as out:
        out.write(text.encode())
    overrides = tree / "usr/share/lintian/overrides" / recipe.name
    overrides.parent.mkdir(parents=True)
    overrides.write_text((ROOT / "packaging/lintian-overrides").read_text("utf-8")
                         .replace("@PACKAGE@", recipe.name).replace("@HOME@", recipe.home))
    _manual(recipe, tree / "usr/share")


def _manual(recipe: Recipe, share: Path) -> None:
    """Manual pages and completions, which the command writes itself."""
    module = recipe.main.split(":")[0]
    pages = share / "man/man1"
    pages.mkdir(parents=True)
    _own(module, "man", str(pages))
    for page in sorted(pages.iterdir()):
        with gzip.GzipFile(f"{page}.gz", "wb", 9, mtime=0) as out:
            out.write(page.read_bytes())
        page.unlink()
    for shell, name in (("bash", f"bash-completion/completions/{recipe.name}"),
                        ("zsh", f"zsh/vendor-completions/_{recipe.name}")):
        path = share / name
        path.parent.mkdir(parents=True)
        path.write_text(_own(module, "completion", shell))


def _own(module: str, *arguments: str) -> str:
    """What our command prints; run from the sources, on the machine that builds."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, text=True,
                          capture_output=True)
    if done.returncode:
        raise wheels.BuildError(f"{module} {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
    return done.stdout
