"""Runtime, kernels and bundle: tried in a child, judged here; faults planted on its path."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from split_core.doctor import probe, runtime
from split_core.doctor.runtime import Step, check_runtime, judge, run_probe
from split_core.model.runner import available_runtimes
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.tiny_models import ADD, O, T

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bundle(tmp_path):
    model = tmp_path / "skip.tflite"
    model.write_bytes(tiny_models.skip_model())
    path = tmp_path / "skip.split.tflite"
    path.write_bytes(split_model(str(model), cuts="all"))
    return path


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """A folder that the child looks into before all others."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    monkeypatch.chdir(tmp_path)                # -m looks into the folder one is in first
    return folder


def by_check(findings):
    return {f.check: f for f in findings}


def test_the_embedded_model_is_what_it_says():
    made = tiny_models.write_model(
        [T("x", (1, 4)), T("one", (1, 4), data=np.ones((1, 4), np.float32)), T("y", (1, 4))],
        [O("ADD", (0, 1), (2,), (ADD, {}))], [0], [2])
    assert made == probe.MODEL


@pytest.mark.parametrize("name", [None, *available_runtimes()])
def test_all_well(bundle, name):
    found = by_check(check_runtime(name, 1, str(bundle)))
    assert {f.state for f in found.values()} == {"ok"}
    assert set(found) == {"kernels", "runtime", "bundle"}
    assert (name or available_runtimes()[0]) in found["runtime"].found
    assert "skip, 6 segments" in found["bundle"].found


@pytest.mark.parametrize("damage, remedy", [
    (lambda b: b.unlink(), "put the bundle there"),
    (lambda b: b.write_bytes(b.read_bytes()[:-9]), "copy it again"),
    (lambda b: b.write_bytes(b.read_bytes()[:200] + b"\xff" + b.read_bytes()[201:]), "it is damaged"),
])
def test_a_bundle_that_is_damaged(bundle, damage, remedy):
    damage(bundle)
    found = by_check(check_runtime(None, 1, str(bundle)))
    assert found["bundle"].state == "fail" and remedy in found["bundle"].remedy
    assert found["runtime"].state == "ok"


def copy_of_cext(folder: Path, ignore=None) -> Path:
    return shutil.copytree(ROOT / "cext", folder / "cext", ignore=ignore)


def test_kernels_that_are_missing(on_path):
    copy_of_cext(on_path, shutil.ignore_patterns("*.so", "__pycache__"))
    # An editable installation would find them elsewhere, module by module.
    (on_path / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path\n"
        "                    if not getattr(f, '__module__', '').startswith('__editable__')]\n")
    found = by_check(check_runtime(None, 1, None))
    assert found["kernels"].state == "fail" and "kernels are missing" in found["kernels"].found
    assert "install the package anew" in found["kernels"].remedy


def test_kernels_that_compute_something_else(on_path):
    folder = copy_of_cext(on_path)
    twin = folder / "reference.py"
    text = twin.read_text()
    twin.write_text(text + "\n_right = pack_bits\n\n\ndef pack_bits(src, dst, bits):\n"
                           "    _right(src, dst, bits)\n    dst[-1] ^= 1\n")
    found = by_check(check_runtime(None, 1, None))
    assert found["kernels"].state == "fail" and "compute something else" in found["kernels"].found
    assert "must not be used" in found["kernels"].remedy


def test_the_slow_twins_on_purpose(monkeypatch):
    monkeypatch.setenv("SPLIT_CODEC", "reference")
    found = by_check(check_runtime(None, 1, None))
    assert found["kernels"].state == "warn" and "unset SPLIT_CODEC" in found["kernels"].remedy


def test_numpy_that_cannot_be_loaded(on_path):
    (on_path / "numpy.py").write_text("raise ImportError('libopenblas.so.0: cannot open')\n")
    (found,) = check_runtime(None, 1, None)
    assert (found.check, found.state) == ("runtime", "fail")
    assert "libopenblas" in found.found and "environment of its own" in found.remedy


def test_no_runtime_at_all(on_path):
    for name in ("ai_edge_litert", "tflite_runtime"):
        (on_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    found = by_check(check_runtime(None, 1, None))
    assert found["runtime"].state == "fail" and "no TFLite runtime here" in found["runtime"].found
    assert "pip install ai-edge-litert" in found["runtime"].remedy


def test_tflite_runtime_with_numpy_2(on_path):
    """A stand-in that fails as tflite-runtime 2.14.0 does beside NumPy 2.4 (it imports, and its
    Interpreter raises SystemError), and a NumPy that says it is 2: the real pair takes another
    environment."""
    (on_path / "tflite_runtime").mkdir()
    (on_path / "tflite_runtime/__init__.py").touch()
    (on_path / "tflite_runtime/interpreter.py").write_text(
        "class Interpreter:\n    def __init__(self, **_):\n        raise SystemError("
        "'initialization of _pywrap_tensorflow_interpreter_wrapper raised unreported exception')\n")
    (on_path / "sitecustomize.py").write_text("import numpy\nnumpy.__version__ = '2.4.6'\n")
    found = by_check(check_runtime("tflite-runtime", 1, None))
    assert found["runtime"].state == "fail" and "NumPy 2.4.6" in found["runtime"].found
    assert "'numpy<2'" in found["runtime"].remedy


def test_a_child_that_is_killed_is_a_finding(on_path):
    (on_path / "ai_edge_litert").mkdir()
    (on_path / "ai_edge_litert/__init__.py").touch()
    (on_path / "ai_edge_litert/interpreter.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    found = by_check(check_runtime("litert", 1, None))
    assert found["kernels"].state == "ok"
    assert found["runtime"].state == "fail" and "SIGILL" in found["runtime"].found
    assert "another processor" in found["runtime"].remedy


def test_a_child_that_hangs_is_a_finding(on_path, monkeypatch):
    monkeypatch.setattr(runtime, "TIMEOUT_S", 3.0)
    (on_path / "ai_edge_litert").mkdir()
    (on_path / "ai_edge_litert/__init__.py").touch()
    (on_path / "ai_edge_litert/interpreter.py").write_text("import time\ntime.sleep(60)\n")
    steps = run_probe("litert", 1, None)
    assert steps["kernels"].ok and "did not end within 3 s" in steps["runtime"].text


def test_every_way_to_fail_has_a_remedy():
    for text in ("SystemError: x", "ImportError: y", "the process that tried ended with SIGSEGV"):
        steps = {"numpy": Step(True, "1.26"), "kernels": Step(False, text),
                 "runtime": Step(False, text), "bundle": Step(False, text)}
        for finding in judge(steps, None, "b", "model.bundle"):
            assert finding.state == "fail" and len(finding.remedy) > 20


def test_an_error_of_several_lines_is_said_in_one_with_what_set_it_off():
    try:
        try:
            raise ModuleNotFoundError("No module named 'numpy.core.x'")
        except ImportError as e:
            raise ImportError("Error importing numpy: you should not\n        be here") from e
    except ImportError as e:
        assert probe._said(e) == ("ImportError: Error importing numpy: you should not be here; because"
                                  " of ModuleNotFoundError: No module named 'numpy.core.x'")
    assert probe._said(SystemError()) == "SystemError"
