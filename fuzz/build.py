"""`python -m fuzz.build VARIANT`: the packages into build/VARIANT/lib, kernels built otherwise.

sanitized    clang's address and undefined-behaviour sanitizers, and libFuzzer's coverage
planted      the same of a decoder that no longer asks whether words are left
covered      clang's source-based coverage

setup.py says what is built and how; this adds flags behind its own, which win. The normal
build is not touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Undefined behaviour traps, which needs no runtime beside the address sanitizer's.
_SANITIZE = ("-O1 -g -fno-omit-frame-pointer -fsanitize=address,fuzzer-no-link,undefined"
             " -fsanitize-trap=undefined")
VARIANTS = {
    "sanitized": ("clang", _SANITIZE),
    "planted": ("clang", _SANITIZE),
    "covered": ("clang", "-O1 -fprofile-instr-generate -fcoverage-mapping"),
}
# The planted bug: the decoder reads on behind the last word, and says so only at the end.
CHECKED = "cext/rans.pxd"
CHECK, PLANTED = "2 * (eye.word if eye.word <= eye.words else 0)", "2 * eye.word"
ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"


def build(variant: str) -> None:
    if variant == "planted":
        _plant()
    # In a process of its own: setup.py counts on its folder and on CC.
    source = BUILD / "planted/source" if variant == "planted" else ROOT
    subprocess.run([sys.executable, __file__, variant, "here"], cwd=source, check=True)


def _plant() -> None:
    """The sanitized build once more, to take one kernel from a source with the bug in it."""
    build("sanitized")
    shutil.rmtree(BUILD / "planted", ignore_errors=True)
    shutil.copytree(BUILD / "sanitized/lib", BUILD / "planted/lib")
    source = BUILD / "planted/source"
    shutil.copytree(ROOT / "cext", source / "cext", ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(ROOT / "setup.py", source)
    path = source / CHECKED
    text = path.read_text()
    if text.count(CHECK) != 1:
        raise SystemExit(f"{CHECKED} has no {CHECK!r} to take out: see fuzz/build.py")
    path.write_text(text.replace(CHECK, PLANTED))


def _build_here(variant: str) -> None:
    import setuptools  # noqa: F401 - its distutils, which newer Pythons have not

    from distutils.core import run_setup

    compiler, flags = VARIANTS[variant]
    os.environ["CC"] = compiler
    base = BUILD / variant
    what = "build_ext" if variant == "planted" else "build"
    distribution = run_setup(
        "setup.py", ["-q", what, "--build-lib", str(base / "lib")], stop_after="commandline")
    distribution.get_command_obj("build").build_base = str(base)
    if variant == "planted":
        distribution.ext_modules = [e for e in distribution.ext_modules if e.name == "cext.entropy"]
    for extension in distribution.ext_modules:
        extension.extra_compile_args += flags.split()
        extension.extra_link_args += [f for f in flags.split() if f.startswith(("-fsan", "-fprofile"))]
    distribution.run_commands()


if __name__ == "__main__":
    _build_here(sys.argv[1]) if sys.argv[2:] else build(sys.argv[1])
