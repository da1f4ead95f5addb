"""docs/security.md, typed along: its certificates, ACL and keys then run a system."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig
from edge_agent.frames import Outcome
from split_core.config import BrokerConfig
from split_core.crypto.config import SealConfig
from split_core.crypto.signature import load_public, verify_file
from tests.support.brokers import Mosquitto
from tests.support.documents import run_page
from tests.support.rig import ROOT, WorkerProcess, wait_until
from tests.support.secured import SHIPPED, User


@pytest.fixture
def typed(tmp_path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copytree(SHIPPED, folder / "mosquitto")
    assert run_page(ROOT / "docs/security.md", folder, 0) >= 12
    return folder


def test_what_the_page_makes_runs_a_system(typed, camera):
    config = (typed / "mosquitto/edge-agent.conf").read_text()
    broker = Mosquitto(typed)
    broker._config.write_text("user root\npersistence false\n" + config.replace(
        "/etc/mosquitto/edge-agent", str(typed)).replace(
        "listener 8883", f"listener {broker.port} 127.0.0.1"))
    keys = typed / "seal-keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600

    def login(name: str) -> BrokerConfig:
        assert stat.S_IMODE((typed / f"{name}.key").stat().st_mode) == 0o600
        return BrokerConfig(url=f"mqtts://localhost:{broker.port}", ca_file=str(typed / "ca.pem"),
                            cert_file=str(typed / f"{name}.pem"), key_file=str(typed / f"{name}.key"))

    of_worker = typed / "w1.toml"
    mine = login("w1")
    of_worker.write_text("[broker]\n" + "".join(
        f'{k} = "{getattr(mine, k)}"\n' for k in ("ca_file", "cert_file", "key_file"))
        + f'[seal]\nkeys_file = "{keys}"\n')
    with broker:
        worker = WorkerProcess(typed, mine.url, "w1", "-c", str(of_worker)).start()
        operator = User(login("anna").options(), "anna", "#").start()
        agent = EdgeAgent(AgentConfig(
            model=ModelConfig(str(camera.bundle)), id="pi-door", broker=login("pi-door"),
            plan=PlanConfig(cut=1, rung="raw"), frame=FrameConfig(deadline_ms=5000),
            seal=SealConfig(str(keys))))
        try:
            agent.start()
            wait_until(lambda: agent.missing() is None, 30, "a worker with the bundle")
            answer = agent.infer({"image": np.random.default_rng(1).random((1, 64, 64, 3), np.float32)})
            assert answer.outcome is Outcome.REMOTE
            wait_until(lambda: "si/v1/pi-door/up/result" in operator.topics, 10, "the result")
            assert not any("/in/" in topic for topic in operator.topics)
        finally:
            agent.stop()
            operator.stop()
            worker.stop()


def test_the_pages_signature_is_one(typed):
    verify_file(typed / "model.split.tflite", load_public(typed / "model-signing.pem.pub"))
