"""This release and the one before it, in one system: each side in both."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from edge_agent.frames import Outcome
from split_core.wire.chunks import pull_chunk
from tests.crypto.making import key, keys_file
from tests.support.observer import Observer
from tests.support.rig import ROOT, Rig, WorkerProcess, wait_until

pytestmark = pytest.mark.check
# The last commit that knew version 1 of the wire format alone.
BEFORE = "f0020c0"


def git(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Path:
    """The tree of that commit, with its kernels."""
    if shutil.which("git") is None or git("cat-file", "-e", f"{BEFORE}^{{commit}}").returncode:
        pytest.skip(f"commit {BEFORE} is not here: a shallow clone, or no clone")
    folder = tmp_path_factory.mktemp("before")
    archive = folder / "before.tar"
    assert git("archive", "-o", str(archive), BEFORE).returncode == 0
    with tarfile.open(archive) as tar:
        tar.extractall(folder)               # our own archive, of our own commit
    built = sorted((ROOT / "cext").glob("*.so"))
    if built and not git("diff", "--quiet", BEFORE, "--", "cext").returncode:
        for path in built:                          # the same sources gave these
            shutil.copy(path, folder / "cext")
    else:
        subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=folder,
                       check=True, capture_output=True, timeout=600)
    said = python(folder, "-c", "import split_core.wire.chunks as c, cext;"
                                " print(c.__file__, c.VERSIONS_ACCEPTED)")
    assert said.stdout == f"{folder / 'split_core/wire/chunks.py'} (1,)\n", said.stderr
    return folder


def python(tree: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """With the packages of a tree: its folder is the first place that is looked at."""
    return subprocess.run([sys.executable, *args], cwd=tree, text=True, capture_output=True,
                          timeout=120)


class WorkerBefore(WorkerProcess):
    """A worker of the release before."""

    tree: Path

    def start(self) -> WorkerProcess:
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self.tree, stdout=log, stderr=log)
        return self


def start_before(rig: Rig, tree: Path) -> WorkerBefore:
    worker = WorkerBefore(rig.directory, rig.url, "worker-1")
    worker.tree = tree
    rig._stack.callback(worker.stop)
    worker.start()
    return worker


@pytest.fixture
def listened(tmp_path):
    """A system, and all that crosses its inboxes."""
    with Rig(tmp_path) as rig:
        inboxes = Observer(rig.url, "si/v1/+/dn/in/+", "si/v1/_pool/+/in/+").start()
        try:
            yield rig, inboxes
        finally:
            inboxes.stop()


@pytest.mark.parametrize("cut, rung", [(0, "webp90"), (1, "raw"), (5, "q4")])
def test_our_agent_and_their_worker(listened, before, camera, cut, rung):
    rig, inboxes = listened
    start_before(rig, before)
    device = rig.device(camera.bundle, cut=cut, rung=rung, deadline_ms=5000)
    for inputs in device.inputs[:4]:
        answer = device.agent.infer(inputs)
        assert (answer.outcome, answer.reason) == (Outcome.REMOTE, "")
    assert {s.payload[4] for s in inboxes.seen} == {1}, "chunks of version 1"


def test_our_agent_and_their_worker_in_two_layers(listened, before, doubtful):
    rig, _ = listened
    start_before(rig, before)
    device = rig.device(doubtful.bundle, cut=1, rung="kl0.02+refine", deadline_ms=5000)
    answers = [device.agent.infer(inputs) for inputs in device.inputs[:4]]
    assert all(a.outcome is Outcome.REMOTE and a.refined for a in answers)


@pytest.mark.parametrize("cut, rung", [(1, "--raw"), (5, "--bits=4")])
def test_their_agent_and_our_worker(listened, before, camera, tmp_path, cut, rung):
    rig, inboxes = listened
    rig.wait_for_worker(rig.worker())
    images = []
    for number in range(3):
        images.append(str(tmp_path / f"{number}.npy"))
        np.save(images[-1], np.random.default_rng(number).random((1, 64, 64, 3), np.float32))
    run = python(before, "-m", "edge_agent.cli", "infer", str(camera.bundle), *images, "--broker",
                 rig.url, "--cut", str(cut), rung, "--json")
    assert run.returncode == 0, run.stderr
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert [a["outcome"] for a in answers] == ["remote"] * 3, answers
    assert {s.payload[4] for s in inboxes.seen} == {1}


def test_a_device_that_seals_is_refused_by_their_worker_in_words(listened, before, camera,
                                                                 tmp_path):
    from edge_agent.agent import EdgeAgent
    from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig
    from split_core.config import BrokerConfig
    from split_core.crypto.config import SealConfig

    rig, inboxes = listened
    worker = start_before(rig, before)
    config = AgentConfig(
        model=ModelConfig(str(camera.bundle)), id="device-1", broker=BrokerConfig(url=rig.url),
        plan=PlanConfig(cut=1, rung="raw"), frame=FrameConfig(deadline_ms=400),
        seal=SealConfig(str(keys_file(tmp_path, f"fleet {key(1)}"))))
    with EdgeAgent(config) as agent:
        wait_until(lambda: "chunk version 2, accepted are (1,)" in worker.log(), 30, "the refusal")
        answer = agent.infer({"image": np.zeros((1, 64, 64, 3), np.float32)})
        assert answer.outcome is Outcome.FALLBACK and not answer.late
    assert all(pull_chunk(s.payload).sealed for s in inboxes.seen)
