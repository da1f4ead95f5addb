"""The packages for arm64 installed in a root of their own and run by an emulator: the wheels load,
a model runs in both runtimes, and the golden vectors are the same bit for bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from split_core.version import VERSION
from split_lab.demo.frames import compose
from tests.packaging import roots, story

pytestmark = pytest.mark.check
# Enough of pytest to run one file; all of it without compiled parts.
PYTEST = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py.py")
Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Run]:
    """Run a command in a clean arm64 root that has both packages, the tests and a bundle."""
    roots.need("debootstrap", "qemu-aarch64-static", "unshare", "chroot")
    root = tmp_path_factory.mktemp("arm64") / "root"
    with roots.arm64_programs():
        clean = roots.make_root("arm64", roots.CHROOT)
        subprocess.run(["cp", "-a", str(clean), str(root)], check=True)
        work = root / "opt/work"
        work.mkdir()
        for package in story.built("arm64"):
            shutil.copy(package, work)
        shutil.copytree(roots.REPOSITORY / "tests", work / "tests",
                        ignore=shutil.ignore_patterns("__pycache__"))
        site = Path(sysconfig.get_path("purelib"))
        for name in PYTEST:
            subprocess.run(["cp", "-r", str(site / name), str(work)], check=True)
        shutil.copy(roots.REPOSITORY / "split_lab/demo/meter.tflite", work)
        frame = compose(0, "test")
        Image.fromarray(frame.pixels).save(work / "picture.png")

        def run(*command: str, timeout_s: float = 300.0) -> subprocess.CompletedProcess:
            # /proc is mounted in a mount namespace of its own, and gone with it.
            return subprocess.run(
                ["unshare", "--mount", "sh", "-c",
                 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', str(root), *command],
                capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"})

        done = run("sh", "-c", "dpkg -i /opt/work/*.deb")
        assert done.returncode == 0, done.stdout + done.stderr
        done = run("edge-agent", "split", "/opt/work/meter.tflite", "--answer", "sequence",
                   "-o", "/opt/work/model.split.tflite")
        assert done.returncode == 0, done.stderr
        yield run
        shutil.rmtree(root)


def test_both_commands_run_on_debians_python_for_arm64(run):
    for name in ("edge-agent", "cloud-worker"):
        assert VERSION in run(name, "--version").stdout
        done = run(f"/usr/lib/{name}/bin/python", "-I", "-c",
                   "import platform, sys, cext; print(platform.machine(), sys.prefix, cext.__file__)")
        machine, prefix, kernels = done.stdout.split()
        assert (machine, prefix) == ("aarch64", f"/usr/lib/{name}")
        assert kernels.startswith(f"/usr/lib/{name}/lib/python3.11/site-packages/")


def test_the_golden_vectors_match_bit_for_bit(run):
    done = run("sh", "-c", "cd /opt/work && PYTHONPATH=/opt/work PYTHONSAFEPATH=1"
               " PYTHONDONTWRITEBYTECODE=1 /usr/lib/edge-agent/bin/python -m pytest -q"
               " -p no:cacheprovider --import-mode=append tests/wire/test_golden.py"
               " tests/cext/test_selftest.py", timeout_s=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "failed" not in done.stdout
    print(done.stdout.strip().split("\n")[-1])


def test_the_agent_runs_a_model(run):
    done = run("edge-agent", "infer", "/opt/work/model.split.tflite", "/opt/work/picture.png",
               "--json", "--runtime", "tflite-runtime")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == compose(0, "test").text


def test_the_worker_runs_a_model_in_its_faster_runtime(run):
    done = run("cloud-worker", "profile", "/opt/work/model.split.tflite", "--runtime", "litert",
               "--seconds", "1", "--state", "/tmp/state", "--json", timeout_s=600)
    assert done.returncode == 0, done.stderr
    assert "litert" in done.stdout


def test_doctor_finds_only_what_a_chroot_lacks(run):
    done = run("sh", "-c", "cp /opt/work/model.split.tflite /var/lib/ && sed -i"
               " -e 's|^bundle = .*|bundle = \"/var/lib/model.split.tflite\"|'"
               " -e 's|^url = .*|url = \"mqtt://127.0.0.1:1\"|' /etc/edge-agent/edge-agent.toml"
               " && edge-agent doctor --json", timeout_s=600)
    checks = {c["check"]: c for c in json.loads(done.stdout)}
    failed = {name for name, c in checks.items() if c["state"] == "fail"}
    assert failed <= {"broker reached", "source"}, {n: checks[n] for n in failed}
    assert checks["broker reached"]["state"] == "fail" and done.returncode == 1
    assert len(checks) > 5
