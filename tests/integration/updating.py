"""A device whose models come over the broker, put together as the daemon does it, and `deploy`."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig
from edge_agent.daemon import Daemon, compose
from edge_agent.frames import Answer
from edge_agent.models.config import UpdatesConfig
from edge_agent.observers.base import Observer
from split_core.blobs import answer_request
from split_core.config import BrokerConfig
from split_core.crypto.config import SealConfig
from split_core.model.bundle import open_bundle
from split_core.node import Node
from split_core.session import BrokerOptions
from split_core.wire.messages import Kind, pull_blob_request, push_blob_part
from split_core.wire.records import WorkerStatus
from tests.support.history import History
from tests.support.rig import ROOT, Device, Rig, WorkerProcess, wait_until

DEPLOY_TIMEOUT_S = 90.0
_ids = itertools.count(1)


class _Watch(Observer):
    """Hands every answer to a history."""

    def __init__(self, history: History):
        self._history = history

    def on_answer(self, answer: Answer) -> None:
        self._history.on_answer(answer)


class Updated(Device):
    """A running device with its events and replies as others see them."""

    def __init__(self, rig: Rig, daemon: Daemon, history: History):
        super().__init__(daemon.agent, history, seed=31)
        self.rig, self.daemon = rig, daemon
        self.models = Path(daemon.agent.config.state_dir) / "models"

    @property
    def in_force(self) -> str:
        return self.agent.bundle.id_hex

    def events(self, kind: str) -> list[dict]:
        return [s.record for s in self.rig.observer.on(
            self.rig.topics.device_up(self.agent.config.id, "event"))
            if s.record.get("event") == kind]

    def wait_for_event(self, kind: str, timeout_s: float = 30.0) -> dict:
        topic = self.rig.topics.device_up(self.agent.config.id, "event")
        return self.rig.observer.wait(
            lambda s: s.topic == topic and s.record.get("event") == kind, timeout_s,
            f"event {kind}").record

    def replies(self) -> list[dict]:
        topic = self.rig.topics.device_reply(self.agent.config.id, "model")
        return [s.record for s in self.rig.observer.on(topic)]

    def record(self) -> dict:
        """What is kept of which model is in force."""
        return json.loads((self.models / "current.json").read_text())


@contextlib.contextmanager
def updated_device(rig: Rig, bundle: Path, *, device_id: str = "pi", cut: int | None = 1,
                   deadline_ms: float = 2000.0, keep_outputs: bool = False,
                   broker: BrokerConfig | None = None, seal: SealConfig = SealConfig(),
                   **updates) -> Iterator[Updated]:
    """Unsigned models are taken unless ``updates`` names a key."""
    if "public_key_file" not in updates:
        updates.setdefault("allow_unsigned", True)
    config = AgentConfig(
        model=ModelConfig(str(bundle)), id=device_id,
        broker=broker or BrokerConfig(url=rig.device_url), seal=seal,
        plan=PlanConfig(cut=cut, rung="raw"), frame=FrameConfig(deadline_ms=deadline_ms),
        state_dir=str(rig.directory / f"state-{device_id}"), updates=UpdatesConfig(**updates))
    history = History(keep_outputs=keep_outputs)
    daemon = Daemon(config, None, lambda config: None)
    with contextlib.ExitStack() as stack:
        for part in [*compose(daemon), _Watch(history)]:
            daemon.agent.attach(part)
            if isinstance(part, contextlib.AbstractContextManager):
                stack.enter_context(part)
        try:
            daemon.agent.start()
            _wait_until_heard(rig, device_id)
            yield Updated(rig, daemon, history)
        finally:
            daemon.agent.stop()


def _wait_until_heard(rig: Rig, device_id: str) -> None:
    """Until the device is subscribed to its commands, which is before it says that it is ready."""
    if rig.observer is not None:
        topic = rig.topics.device_up(device_id, "status")
        rig.observer.wait(lambda s: s.topic == topic and s.record.get("state") == "ready", 30.0,
                          "the device's status")


def deploy(rig: Rig, bundle: Path, worker: WorkerProcess, *options: str, device_id: str = "pi",
           store: Path | None = None) -> subprocess.Popen:
    """Begin a `cloud-worker deploy`."""
    command = [sys.executable, "-m", "cloud_side.cli", "deploy", str(bundle), "--device", device_id,
               "--broker", rig.url, "--store", str(store or worker.store), "--worker", worker.id,
               "--patience", "30", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Its exit code and what it said."""
    try:
        out, err = process.communicate(timeout=DEPLOY_TIMEOUT_S)
    finally:
        process.kill()
    return process.returncode, out + err


def command(device: Updated, *, until: tuple[str, ...] = (), timeout_s: float = 30.0,
            **body) -> dict:
    """Send `cmd/model` as it stands; its first reply, or the first whose state is in ``until``."""
    command_id = f"test-{next(_ids)}"
    topics, device_id = device.rig.topics, device.agent.config.id
    device.rig.observer.publish(topics.device_command(device_id, "model"),
                                json.dumps({"id": command_id} | body).encode())

    def wanted(seen) -> bool:
        if seen.topic != topics.device_reply(device_id, "model") or (
                seen.record.get("id") != command_id):
            return False
        state = seen.record["data"]["state"] if seen.record["status"] == "ok" else "refused"
        return not until or state in until

    return device.rig.observer.wait(wanted, timeout_s, f"a reply to {body}").record


class Holder:
    """Stands in for a worker that sends whatever file it likes for a digest."""

    def __init__(self, rig: Rig, node_id: str, files: dict[str, Path]):
        self._files = {bytes.fromhex(sha256): path for sha256, path in files.items()}
        self._topics, self.id = rig.topics, node_id
        self._node = Node(
            BrokerOptions.from_url(rig.url), rig.topics, node_id=node_id,
            status_topic=rig.topics.worker_up(node_id, "status"),
            inbox_filter=rig.topics.worker_inbox_filter(node_id),
            status_of=WorkerStatus, on_message=self._on_message)

    def __enter__(self) -> Holder:
        self._node.start()
        wait_until(lambda: self._node.is_up, 10, "the holder's connection")
        return self

    def __exit__(self, *_exc) -> None:
        self._node.stop()

    def _on_message(self, device: str, message) -> None:
        if message.kind is not Kind.BLOB_REQUEST:
            return
        for part in answer_request(pull_blob_request(message.body), self._files.get):
            self._node.send_now(self._topics.device_inbox(device, self.id), Kind.BLOB_PART,
                                push_blob_part(part), bulk=True)


def sha_of(bundle: Path) -> str:
    return open_bundle(bundle).id_hex
