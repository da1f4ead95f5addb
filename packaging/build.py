"""`make deb`: the packages edge-agent and cloud-worker for Debian 12, amd64 and arm64.

    python packaging/build.py [--arch amd64] [--package edge-agent] [--output build/deb]

Each holds a virtual environment for Debian's own Python; to install it takes neither a compiler
nor a network. Needs Python 3.11, apt-get, dpkg-deb and both cross compilers of Debian.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import elf
import kernels
import tree
import wheels
from recipe import MAINTAINER, RECIPES, ROOT, TRIPLETS, Recipe

sys.path.insert(0, str(ROOT))
from split_core.version import VERSION  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", choices=TRIPLETS, action="append", help="default: both")
    parser.add_argument("--package", choices=RECIPES, action="append", help="default: both")
    parser.add_argument("--output", type=Path, default=ROOT / "build/deb", metavar="FOLDER")
    parser.add_argument("--lock", action="store_true",
                        help="choose the newest wheels anew, and write packaging/*.lock")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    lock = (args.output / "lock").open("w")      # held to the end: two builds would mix their trees
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        _check_tools(args.arch or list(TRIPLETS))
        if args.lock:
            wheels.write_locks()
            return 0
        for arch in args.arch or TRIPLETS:
            _build_all(arch, args.package or list(RECIPES), args.output.resolve())
    except wheels.BuildError as e:
        print(f"make deb: {e}", file=sys.stderr)
        return 1
    return 0


def _check_tools(archs: list[str]) -> None:
    if sys.version_info[:2] != (3, 11):
        raise wheels.BuildError("this is Python %d.%d; byte code and kernels for Debian 12 are"
                                " made with Python 3.11: make deb PYTHON=python3.11"
                                % sys.version_info[:2])
    tools = {"apt-get": "apt", "dpkg-deb": "dpkg", "readelf": "binutils"}
    for arch in archs:
        triplet = TRIPLETS[arch]
        tools[f"{triplet}-gcc"] = f"gcc-{triplet.replace('_', '-')} libc6-dev-{arch}-cross"
        tools[f"{triplet}-strip"] = f"binutils-{triplet.replace('_', '-')}"
    for tool, package in tools.items():
        if shutil.which(tool) is None:
            raise wheels.BuildError(f"no {tool} here; install it with: apt install {package}")


def _build_all(arch: str, names: list[str], output: Path) -> None:
    work = output / "work"
    with _step(f"{arch}: headers of Debian's Python"):
        python = kernels.prepare(arch, work)
    with _step(f"{arch}: kernels"):
        library = kernels.build(arch, python, work / f"build-{arch}")
    for name in names:
        build(RECIPES[name], arch, library, output)


def build(recipe: Recipe, arch: str, library: Path, output: Path) -> Path:
    """One .deb, in ``output``."""
    root = output / "work" / f"{recipe.name}-{arch}"
    shutil.rmtree(root, ignore_errors=True)
    # The times of all files: the commit's, so that the same commit makes the same package.
    environment = {"SOURCE_DATE_EPOCH": _epoch()} | os.environ
    seconds = int(environment["SOURCE_DATE_EPOCH"])
    with _step(f"{arch}: {recipe.name}: wheels and byte code"):
        inside = tree.lay_out(recipe, arch, library, root, VERSION, seconds)
    with _step(f"{arch}: {recipe.name}: pack"):
        _control(recipe, arch, root)
        package = output / f"{recipe.name}_{VERSION}_{arch}.deb"
        _same_times(root, seconds)
        # zstd: 22.2 MB in 7 s where xz makes 18.3 MB in 57 s, and unpacked several times as fast,
        # which a small board feels. Debian 12's dpkg reads it.
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z12", "--build", str(root),
                        str(package)], check=True, env=environment, stdout=subprocess.DEVNULL)
    print(f"  {package.name}: {package.stat().st_size / 1e6:.1f} MB, installed"
          f" {_installed_kb(root) / 1e3:.0f} MB: {', '.join(f'{n} {v}' for n, v in inside)}")
    return package


def _control(recipe: Recipe, arch: str, root: Path) -> None:
    folder = root / "DEBIAN"
    files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    relations = ["python3 (>= 3.11)", "python3 (<< 3.12)", *elf.depends(root)]
    kb = _installed_kb(root)
    folder.mkdir()
    text = "\n".join(f" {line or '.'}" for line in recipe.description.split("\n"))
    (folder / "control").write_text(f"""\
Package: {recipe.name}
Version: {VERSION}
Architecture: {arch}
Maintainer: {MAINTAINER}
Installed-Size: {kb}
Depends: {', '.join(relations)}
Suggests: {recipe.suggests}
Section: science
Priority: optional
Description: {recipe.summary}
{text}
""")
    (folder / "md5sums").write_text("".join(
        f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.relative_to(root)}\n" for p in files))
    for script in ("postinst", "prerm", "postrm"):
        source = (ROOT / "packaging/scripts" / script).read_text()
        for word, value in {"@PACKAGE@": recipe.name, "@UNIT@": recipe.unit,
                            "@UNITS@": recipe.restarts,
                            "@EXAMPLE@": recipe.example, "@CONFIG@": recipe.config,
                            "@SECRETS@": recipe.secrets}.items():
            source = source.replace(word, value)
        (folder / script).write_text(source)
        (folder / script).chmod(0o755)


def _same_times(root: Path, seconds: int) -> None:
    """One time and the usual permissions for everything, whoever builds. Of modules and libraries,
    nothing is executed by itself, whatever their wheels say."""
    for path in [root, *root.rglob("*")]:
        os.utime(path, (seconds, seconds), follow_symlinks=False)
        if not path.is_symlink():
            executable = path.is_dir() or (path.stat().st_mode & 0o100
                                           and "site-packages" not in path.parts)
            path.chmod(0o755 if executable else 0o644)


def _installed_kb(root: Path) -> int:
    return sum(-(-p.lstat().st_size // 1024) for p in root.rglob("*"))


def _epoch() -> str:
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True,
                          text=True)
    return done.stdout.strip() or str(int((ROOT / "CHANGELOG.md").stat().st_mtime))


class _step:
    """Says what is being done, and how long it took."""

    def __init__(self, what: str):
        self._what = what

    def __enter__(self) -> None:
        self._began_s = time.monotonic()
        print(f"{self._what} ...", end="", flush=True)

    def __exit__(self, kind, *_) -> None:
        print(f" {time.monotonic() - self._began_s:.0f} s" if kind is None else " failed",
              flush=True)


if __name__ == "__main__":
    sys.exit(main())
