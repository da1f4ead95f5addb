"""Sanitized builds of the kernels (fuzz/build.py): made when a test first needs one."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.build import ROOT
from fuzz.build import build as build_variant

CORPUS = ROOT / "fuzz/corpus"


@functools.cache
def build(variant: str) -> None:
    """Build it, or skip the test where that needs what is not here."""
    if shutil.which("clang") is None:
        pytest.skip("no clang here")
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no atheris here: pip install atheris")
    build_variant(variant)


def run(variant: str, *args: str | Path, timeout_s: float) -> subprocess.CompletedProcess:
    """Python with the kernels of a variant."""
    return subprocess.run(
        ["sh", "fuzz/sanitized.sh", variant, sys.executable, *map(str, args)], cwd=ROOT, text=True,
        errors="replace", capture_output=True, timeout=timeout_s,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")})
