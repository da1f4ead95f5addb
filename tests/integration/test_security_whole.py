"""The installed programs, with all they offer, under the shipped ACL: each feature has the rights
that it needs."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from split_core.crypto.signature import generate
from split_core.session import Publication, Session
from split_lab.split import split_model
from tests.crypto.making import key, keys_file
from tests.support import tiny_models
from tests.support.brokers import free_port
from tests.support.rig import ROOT, WorkerProcess, wait_until
from tests.support.secured import SecuredBroker

NAMES = "device door\nworker w1\noperator anna\nhome-assistant ha\nprogram bell door"


class Installed:
    """A worker and an agent as processes, sealed, with everything switched on."""

    def __init__(self, broker: SecuredBroker, bundle: Path):
        self.broker, self.folder = broker, broker.directory
        self.signing = self.folder / "signing.pem"
        public = generate(self.signing)
        seal = f'[seal]\nkeys_file = "{keys_file(self.folder, f"fleet {key(1)}")}"\n'
        self.page_port = free_port()
        self.worker_file, self.device_file = self.folder / "w1.toml", self.folder / "door.toml"
        self.worker_file.write_text(
            f'id = "w1"\nstate_dir = "{self.folder}/state-w1"\n' + broker.toml("w1") + seal
            + f'[store]\npath = "{self.folder}/store-w1"\n'
            f'[status]\nlisten = "127.0.0.1:{self.page_port}"\n')
        self.device_file.write_text(
            f'id = "door"\nstate_dir = "{self.folder}/state-door"\n[model]\nbundle = "{bundle}"\n'
            + broker.toml("door") + seal
            + '[plan]\ncut = 1\nrung = "raw"\n[frame]\ndeadline_ms = 3000\n[source]\nkind = "mqtt"\n'
            '[health]\nevery_s = 1.0\n[homeassistant]\nenabled = true\n'
            f'[updates]\npublic_key_file = "{public}"\n')
        self.worker = WorkerProcess(self.folder, broker.url, "w1", "-c", str(self.worker_file)).start()
        self.log = self.folder / "door.log"
        with self.log.open("ab") as log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "edge_agent.cli", "run", "-c", str(self.device_file)],
                cwd=ROOT, stdout=log, stderr=log)

    def close(self) -> None:
        self._agent.terminate()
        try:
            self._agent.wait(20)
        except subprocess.TimeoutExpired:
            self._agent.kill()
            self._agent.wait(20)
        self.worker.stop()

    def command(self, program: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", program, *map(str, args)], cwd=ROOT,
                              text=True, capture_output=True, timeout=180)


@pytest.fixture(scope="module")
def installed(tmp_path_factory, camera) -> Iterator[Installed]:
    with SecuredBroker(tmp_path_factory.mktemp("installed"), NAMES) as broker:
        made = Installed(broker, camera.bundle)
        try:
            with broker.user("anna", "si/v1/+/up/#") as operator:
                wait_until(lambda: b'"worker":"w1"' in b"".join(
                    s.payload for s in operator.seen if s.topic == "si/v1/door/up/event"), 60,
                    "the device's choice of the worker")
            yield made
        finally:
            made.close()


def picture() -> bytes:
    import io

    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


def test_a_camera_program_feeds_pictures_and_gets_the_answers(installed):
    with installed.broker.user("bell", "si/v1/door/up/result") as bell:
        def answered_remotely() -> bool:
            before = len(bell.seen)
            assert bell.may_write("si/v1/door/dn/frame", picture())
            wait_until(lambda: len(bell.seen) > before, 10, "an answer")
            return json.loads(bell.seen[-1].payload)["outcome"] == "remote"

        # A frame at a time, until the worker has the bundle.
        wait_until(answered_remotely, 30, "a remote answer")


def test_an_operators_command_is_answered_where_he_asks_and_nowhere_else(installed):
    replies: queue.Queue = queue.Queue()
    session = Session(installed.broker.config("anna").options(), client_id="anna-asks",
                      on_up=lambda limits: replies.put(None), on_down=lambda reason: None,
                      on_message=lambda topic, payload, received: replies.put(
                          (topic, json.loads(payload), received.correlation)))
    session.subscribe("si/v1/_reply/anna/#", 1)
    session.start()
    with installed.broker.user("ha", "#") as other:
        try:
            assert replies.get(timeout=15) is None
            session.publish(Publication(
                "si/v1/door/dn/cmd/health", b'{"id": "1"}', qos=1,
                response_topic="si/v1/_reply/anna/door", correlation=b"c1"))
            topic, reply, correlation = replies.get(timeout=15)
        finally:
            session.stop()
        assert (topic, reply["status"], correlation) == ("si/v1/_reply/anna/door", "ok", b"c1")
        assert not any("_reply" in t for t in other.topics)


def test_home_assistant_discovers_the_device_and_sets_its_policy(installed):
    with installed.broker.user("ha", "#") as ha:
        wait_until(lambda: "homeassistant/device/door/config" in ha.topics, 15, "discovery")
        assert ha.may_write("homeassistant/status", b"online")
        assert ha.may_write("si/v1/door/dn/cmd/policy", b'{"id": "7", "aim": "deadline"}')
        wait_until(lambda: "si/v1/door/up/reply/policy" in ha.topics, 15, "the reply")
        assert not ha.may_write("si/v1/door/dn/cmd/model", b"{}")
        wait_until(lambda: "si/v1/door/up/health" in ha.topics, 15, "health")


def test_the_worker_shows_the_device_on_its_page(installed):
    def fleet() -> bytes:
        url = f"http://127.0.0.1:{installed.page_port}/fleet.json"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.read()

    wait_until(lambda: b'"door"' in fleet(), 20, "the device on the page")


@pytest.mark.parametrize("program, file", [("edge_agent.cli", "device_file"),
                                           ("cloud_side.cli", "worker_file")])
def test_the_doctor_finds_the_broker_and_the_rights_well(installed, program, file):
    run = installed.command(program, "doctor", "-c", getattr(installed, file), "--json")
    found = json.loads(run.stdout)
    broker = [f for f in found if "broker" in f["check"] or "inbox" in f["found"]]
    assert broker and all(f["state"] == "ok" for f in broker), broker


def test_an_operator_deploys_a_signed_model_and_a_worker_may_not(installed, tmp_path):
    model, bundle = tmp_path / "new.tflite", tmp_path / "new.split.tflite"
    model.write_bytes(tiny_models.camera_model(seed=5))
    bundle.write_bytes(split_model(model, cuts="all"))
    anna = installed.broker.certificate("anna")
    deploy = ("deploy", bundle, "--device", "door", "-c", installed.worker_file, "--sign",
              installed.signing)
    # In the worker's name the broker lets no command through.
    refused = installed.command("cloud_side.cli", *deploy, "--patience", "4")
    assert refused.returncode == 77, refused
    assert "does not let this user command door" in refused.stderr
    run = installed.command("cloud_side.cli", *deploy, "--cert-file", anna.cert, "--key-file", anna.key)
    assert run.returncode == 0, run.stdout + run.stderr + installed.log.read_text()[-2000:]
    assert "door: swapped" in run.stderr
