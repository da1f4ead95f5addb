"""Commands that write files, where nothing can be written: whose fault it is, and that nothing
half is left."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.cli import main as edge_agent
from tests.support import tiny_models

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"edge-agent": "edge_agent.cli", "cloud-worker": "cloud_side.cli"}


def run(folder: Path, program: str, *arguments: str, most_bytes: int | None = None,
        stdout=subprocess.PIPE) -> subprocess.CompletedProcess:
    """A command in a process of its own, whose files end at ``most_bytes``."""
    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return subprocess.run(
        [sys.executable, "-m", MODULES[program], *arguments], cwd=folder, stdin=subprocess.DEVNULL,
        stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120, preexec_fn=limit,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, its bundle and a key."""
    folder = tmp_path_factory.mktemp("full")
    (folder / "skip.tflite").write_bytes(tiny_models.skip_model())
    assert edge_agent(["split", str(folder / "skip.tflite"),
                       "-o", str(folder / "skip.split.tflite")]) == 0
    assert run(folder, "cloud-worker", "keys", "k.pem").returncode == 0
    return folder


@pytest.mark.parametrize("program, arguments", [
    ("edge-agent", ["init", "--yes", "-o", "out/a.toml", "--id", "pi", "--bundle", "m"]),
    ("cloud-worker", ["init", "--yes", "-o", "out/w.toml", "--id", "w", "--store", "s"]),
    ("edge-agent", ["diag", "-o", "out/diag.tar.gz"]),
    ("cloud-worker", ["diag", "-o", "out/diag.tar.gz"]),
    ("edge-agent", ["man", "out"]),
    ("cloud-worker", ["man", "out"]),
    ("edge-agent", ["split", "../skip.tflite", "-o", "out/x.split.tflite"]),
    ("edge-agent", ["profile", "../skip.split.tflite", "--seconds", "0.01", "--state", "out"]),
    ("cloud-worker", ["profile", "../skip.split.tflite", "--seconds", "0.01", "--state", "out"]),
    ("cloud-worker", ["keys", "out/k.pem"]),
    ("cloud-worker", ["sign", "out/skip.split.tflite", "--key", "../k.pem"]),
    ("edge-agent", ["demo", "--files", "out"]),
], ids=lambda v: v if isinstance(v, str) else v[0])
def test_a_full_disk_is_the_machines_fault(place, tmp_path, program, arguments):
    work = place / tmp_path.name
    (work / "out").mkdir(parents=True)
    shutil.copy(place / "skip.split.tflite", work / "out")
    done = run(work, program, *arguments, most_bytes=20)
    assert done.returncode == 74, done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr and "Traceback" not in done.stderr
    assert [p.name for p in (work / "out").rglob("*") if p.is_file()] == ["skip.split.tflite"]


@pytest.mark.parametrize("arguments", [["completion", "bash"], ["config", "reference"],
                                       ["inspect", "../full/skip.tflite"]],
                         ids=lambda v: v[0])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_what_is_printed_finds_a_full_disk_too(place, arguments):
    arguments = [a.replace("../full", str(place)) for a in arguments]
    with open("/dev/full", "w") as full:
        done = run(place, "edge-agent", *arguments, stdout=full)
    assert done.returncode == 74
    assert done.stderr.splitlines() == [
        "edge-agent: the system refused: [Errno 28] No space left on device"]


def test_a_reader_that_goes_away_is_no_error(place):
    reader, writer = os.pipe()
    os.close(reader)
    done = run(place, "edge-agent", "completion", "bash", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["man", "shut"], ["demo", "--files", "shut"]],
                         ids=lambda v: v[0])
def test_a_place_where_this_user_may_not_write(tmp_path, capfd, monkeypatch, arguments):
    def refused(self, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr(Path, "mkdir", refused)
    monkeypatch.chdir(tmp_path)
    assert edge_agent(arguments) == 77
    error = capfd.readouterr().err
    assert "cannot write shut" in error and "Permission denied; run it as who may" in error


def test_a_place_that_can_be_no_file_is_the_callers_fault(place, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    for arguments in (["man", "file/x"], ["demo", "--files", "file/x"],
                      ["split", str(place / "skip.tflite"), "-o", "file/x"],
                      ["diag", "-o", "file/x"]):
        done = run(tmp_path, "edge-agent", *arguments)
        assert done.returncode == 64 and "cannot write file/x" in done.stderr, done.stderr
