"""What the runtimes say on standard error by themselves, and what they have to go on saying."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from split_core.model import quiet
from split_core.model.runner import available_runtimes
from tests.support.tiny_models import O, T, skip_model, write_model

ROOT = Path(__file__).resolve().parents[2]


def test_the_model_is_what_it_is_said_to_be():
    assert quiet.ONE_OP == write_model([T("a", (1,)), T("b", (1,))], [O("RELU", (0,), (1,))],
                                       [0], [1])


@pytest.mark.parametrize("runtime", available_runtimes())
def test_a_runtime_says_nothing_of_itself(tmp_path, runtime):
    model = tmp_path / "skip.tflite"
    model.write_bytes(skip_model())
    program = (f"from split_core.model.runner import WholeModel\n"
               f"for _ in range(2): WholeModel({str(model)!r}, runtime={runtime!r})\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True,
                          timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    # And it would: the line is the one that is looked for, word for word.
    module = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}[runtime]
    program = (f"from {module}.interpreter import Interpreter\n"
               f"Interpreter(model_path={str(model)!r}).allocate_tensors()\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True,
                          timeout=60)
    assert done.stderr in (quiet.GREETING, b""), "another greeting; see split_core/model/quiet.py"


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(quiet, "_greeted", set())


def test_all_other_lines_come_through_in_their_order(fresh, capfd):
    def allocate(model: bytes) -> None:
        assert model == quiet.ONE_OP
        os.write(2, b"ERROR: something is wrong\n" + quiet.GREETING)
        other = threading.Thread(target=os.write, args=(2, b"<4>event=of-another-thread\nhalf"))
        other.start()
        other.join()

    quiet.greet("made-up", allocate)
    os.write(2, b" a line\n")
    quiet.greet("made-up", lambda model: pytest.fail("a second time"))
    assert capfd.readouterr().err == (
        "ERROR: something is wrong\n<4>event=of-another-thread\nhalf a line\n")


@pytest.mark.parametrize("error", [ValueError, RuntimeError, ZeroDivisionError])
def test_what_fails_leaves_standard_error_as_it_was(fresh, capfd, error):
    def allocate(model: bytes) -> None:
        os.write(2, b"why\n")
        raise error

    if error is ZeroDivisionError:
        with pytest.raises(error):
            quiet.greet("made-up", allocate)
    else:
        quiet.greet("made-up", allocate)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "why\nafter\n"


def test_a_process_without_standard_error_runs_its_model_all_the_same(tmp_path):
    model = tmp_path / "skip.tflite"
    model.write_bytes(skip_model())
    program = (f"import os\nos.close(2)\nfrom split_core.model.runner import WholeModel\n"
               f"WholeModel({str(model)!r})\nprint('ran')\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE,
                          timeout=60)
    assert (done.returncode, done.stdout) == (0, b"ran\n")


def test_what_a_runtime_refuses_is_still_said(tmp_path):
    """In our words with its reason, whether it is the first of the process or not."""
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    program = (f"from split_core.model.runner import WholeModel\n"
               f"try: WholeModel({str(broken)!r})\nexcept Exception as e: print(e)\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)
    assert "the runtime refuses broken.tflite: " in done.stdout, done
