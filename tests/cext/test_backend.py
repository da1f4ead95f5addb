"""Which kernels `import cext` gives, each case in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_EXTENSIONS = "import sys; sys.modules['cext.quantize'] = None; "


def run(code, demand=None):
    env = {name: value for name, value in os.environ.items() if name != "SPLIT_CODEC"}
    if demand is not None:
        env["SPLIT_CODEC"] = demand
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, text=True,
                          capture_output=True, timeout=60)


def test_compiled_kernels_are_the_default():
    code = "import cext; print(cext.BACKEND, cext.quantize_f32.__module__)"
    assert run(code).stdout.split() == ["compiled", "cext.quantize"]


def test_an_empty_demand_is_none():
    assert run("import cext; print(cext.BACKEND)", demand="").stdout.strip() == "compiled"


def test_the_reference_can_be_demanded_even_without_a_build():
    code = WITHOUT_EXTENSIONS + "import cext; print(cext.BACKEND, cext.pack_bits.__module__)"
    assert run(code, demand="reference").stdout.split() == ["reference", "cext.reference"]


def test_any_other_demand_is_an_error():
    for demand in ("numpy", "compiled", "Reference"):
        done = run("import cext", demand=demand)
        assert done.returncode != 0
        assert f"ImportError: SPLIT_CODEC is '{demand}', must be unset or 'reference'" in done.stderr


def test_a_missing_extension_is_an_error_with_its_remedy():
    done = run(WITHOUT_EXTENSIONS + "import cext")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the compiled kernels are missing (")
    assert "pip install -e ." in last and "SPLIT_CODEC=reference" in last


def test_both_backends_offer_the_same_names():
    code = "import cext; print(sorted(n for n in cext.__all__ if callable(getattr(cext, n))))"
    assert run(code).stdout == run(code, demand="reference").stdout != ""
