"""`python -m fuzz.coverage`: how much of the decoders the committed corpus reaches.

Lines and branches of the C that Cython makes of the decoder, by clang and llvm-cov; lines of
the Python parsers by coverage.py. The encoder and the faces, which raise for a programmer's
mistake only, are not what is fuzzed, so the C functions are named here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from fuzz.build import BUILD, ROOT, build

KERNELS = {**dict.fromkeys(("get_bits", "refill"), "rans.pxd"),
           **dict.fromkeys(("decode_kernel", "get_run", "get_rare", "list_models", "list_classes",
                            "class_of", "any_live"), "entropy.pyx")}
PARSERS = ("wire/messages", "wire/chunks", "wire/payload", "wire/transformed", "wire/grids",
           "wire/records", "wire/topics", "model/coding", "model/flatbuffer", "model/graph",
           "model/manifest")


def replay() -> None:
    """Every input, once."""
    from fuzz.targets import TARGETS

    for name, target in TARGETS.items():
        for path in sorted((ROOT / "fuzz/corpus" / name).iterdir()):
            target(path.read_bytes())


def kernels(profiles: Path) -> None:
    """Print what llvm-cov finds of each function."""
    merged = profiles / "all.profdata"
    subprocess.run(["llvm-profdata", "merge", "-o", merged, *profiles.glob("*.profraw")], check=True)
    (library,) = BUILD.glob("covered/lib/cext/entropy.*.so")
    table = subprocess.run(["llvm-cov", "report", library, f"-instr-profile={merged}",
                            "-show-functions", ROOT / "build/cython/cext/entropy.c"],
                           check=True, capture_output=True, text=True).stdout
    for line in table.splitlines():
        # Name, then number, missed and share of regions, lines and branches.
        name, *numbers = line.split() or [""]
        kernel = name.split("_4cext_")[-1].partition("_")[2]
        if kernel in KERNELS and len(numbers) == 9:
            _, _, _, lines, missed, _, branches, missed_branches, _ = numbers
            report(f"cext/{KERNELS[kernel]} {kernel}", int(lines), int(missed),
                   f"{missed_branches} of {branches} branches missed")


def report(name: str, lines: int, missed: int, more: object) -> None:
    print(f"{name:32} {lines - missed:4} of {lines:4} lines"
          f" {100 * (lines - missed) / lines:6.1f} %  {more or ''}")


def main() -> None:
    build("covered")
    profiles = BUILD / "covered/profiles"
    shutil.rmtree(profiles, ignore_errors=True)
    data = BUILD / "covered/coverage.json"
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "COVERAGE_FILE": f"{data}.sqlite",
                   "LLVM_PROFILE_FILE": f"{profiles}/%p-%m.profraw",
                   "PYTHONPATH": f"{BUILD / 'covered/lib'}:{ROOT}"}
    for step in (["run", "--include=*/split_core/*", "-m", "fuzz.coverage", "replay"],
                 ["json", "-q", "-o", str(data)]):
        subprocess.run([sys.executable, "-m", "coverage", *step], env=environment, check=True,
                       cwd=BUILD.parent)
    kernels(profiles)
    files = json.loads(data.read_text())["files"]
    for name in PARSERS:
        (file,) = [f for path, f in files.items() if path.endswith(f"split_core/{name}.py")]
        missed = file["missing_lines"]
        report(f"split_core/{name}.py", len(file["executed_lines"]) + len(missed), len(missed), missed)


if __name__ == "__main__":
    replay() if sys.argv[1:] == ["replay"] else main()
