"""What a running system says, message by message, against docs/asyncapi.json: topic, QoS, retain
flag and every field, with no field that the document lacks."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from split_core.model.bundle import open_bundle
from split_lab.split import split_model
from tests.support.brokers import Mosquitto
from tests.support.recorder import Recorded, Recorder
from tests.support.rig import ROOT, WorkerProcess, wait_until

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

DOCUMENT = json.loads((ROOT / "docs/asyncapi.json").read_text("utf-8"))
BASE = "si/v1/pi-door"
# A root may have several levels; what begins with _ is ours.
PLACES = {"root": "[^/_][^/]*(?:/[^/_][^/]*)*", "device": "[^/_][^/]*"}
STANDING = {f"{BASE}/up/{channel}" for channel in ("status", "info", "profile", "plan")} | {
    f"si/v1/_pool/w1/up/{channel}" for channel in ("status", "info", "profile", "load")} | {
    "homeassistant/device/pi-door/config"}
# What comes from others: commands, and pictures, are not the programs' to get right.
FROM_OTHERS = re.compile(r"si/v1/[^/]+/dn/(cmd/.*|frame)|homeassistant/status|late/fence")


def strict(schema):
    """The same schema, to which an unknown field is wrong."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        made["additionalProperties"] = False
    return made


class Judge:
    """The document, asked about messages."""

    def __init__(self, document: dict):
        components = {"components": {"schemas": strict(document["components"]["schemas"])}}
        self._messages = document["components"]["messages"]
        self._validators = {
            name: jsonschema.Draft202012Validator({**components, **message["payload"]})
            for name, message in self._messages.items()
            if message["contentType"] == "application/json"}
        self._channels = []
        for name, channel in document["channels"].items():
            pattern = re.sub(r"\\{(\w+)\\}", lambda m: PLACES.get(m[1], "[^/]+"),
                             re.escape(channel["address"]))
            self._channels.append((re.compile(pattern), name, list(channel["messages"]),
                                   document["operations"][name]["bindings"]["mqtt"]))

    def trouble(self, message: Recorded) -> tuple[str, list[str]]:
        """The channel that a message is on, and what is wrong with it."""
        found = [c for c in self._channels if c[0].fullmatch(message.topic)]
        if len(found) != 1:
            return "", [f"{message.topic}: {len(found)} channels"]
        _, name, kinds, mqtt = found[0]
        how = (message.qos, message.retained)
        wrong = [] if how == (mqtt["qos"], mqtt["retain"]) else [f"{name}: QoS, retain {how}"]
        validators = [self._validators[kind] for kind in kinds if kind in self._validators]
        # An empty retained one takes away what was there.
        if validators and not (mqtt["retain"] and not message.payload):
            record = json.loads(message.payload)
            complaints = [[f"{name}: {e.json_path}: {e.message}" for e in v.iter_errors(record)]
                          for v in validators]
            if all(complaints):
                wrong += min(complaints, key=len)
        return name, wrong


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(DOCUMENT)


def picture() -> bytes:
    shades = np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(shades).save(data := io.BytesIO(), "JPEG")
    return data.getvalue()


def write_settings(file: Path, bundle: Path, broker: Mosquitto, more: str = "") -> None:
    file.write_text(
        f'id = "pi-door"\nstate_dir = "{file.parent / "state"}"\n[model]\nbundle = "{bundle}"\n'
        f'[broker]\nurl = "{broker.url}"\n[source]\nkind = "mqtt"\n[health]\nevery_s = 1.0\n'
        '[updates]\nallow_unsigned = true\ntrial_frames = 2\n[homeassistant]\nenabled = true\n'
        + more)


def record_of(message: Recorded) -> dict:
    return json.loads(message.payload) if message.payload else {}


def live_through(tmp_path: Path, camera, broker: Mosquitto, seen: Recorder) -> None:
    """A life with most of what can happen in one."""
    file, new = tmp_path / "agent.toml", tmp_path / "new.split.tflite"
    new.write_bytes(split_model(camera.model, cuts=[1, 5]))
    write_settings(file, camera.bundle, broker)
    worker = WorkerProcess(tmp_path, broker.url, "w1").start()
    with (tmp_path / "agent.log").open("ab") as log:
        agent = subprocess.Popen([sys.executable, "-m", "edge_agent.cli", "run", "-c", str(file)],
                                 cwd=ROOT, stdout=log, stderr=log)
    try:
        def wait(topic: str, **fields) -> dict:
            return record_of(seen.wait(
                lambda m: m.topic == f"{BASE}/{topic}" and all(
                    record_of(m).get(k) == v for k, v in fields.items()),
                f"{topic} with {fields}\n{(tmp_path / 'agent.log').read_text()[-1500:]}", 60))

        def ask(name: str, answered_as: str | None = None, **fields) -> dict:
            asked = f"{name}-{len(seen.messages)}"
            seen.publish(f"{BASE}/dn/cmd/{name}", json.dumps({"id": asked, **fields}).encode(),
                         qos=1)
            return wait(f"up/reply/{answered_as or name}", id=asked)

        def feed(data: bytes) -> None:
            before = len([m for m in seen.messages if m.topic == f"{BASE}/up/result"])
            seen.publish(f"{BASE}/dn/frame", data)
            wait_until(lambda: len([m for m in seen.messages if m.topic == f"{BASE}/up/result"])
                       > before, 30, "an answer")

        wait("up/status", state="ready")
        wait("up/event", event="worker", worker="w1")
        for data in (picture(), picture(), b"no picture"):
            feed(data)
        seen.wait(lambda m: m.topic == "si/v1/_pool/w1/up/load", "load of the worker")
        # Who comes later has the whole standing picture.
        with Recorder(broker.port) as late:
            late.publish("late/fence")
            late.wait(lambda m: m.topic == "late/fence", "the fence")
            assert {m.topic for m in late.messages if m.retained} == STANDING
        # Commands, good and bad.
        assert ask("policy", aim="deadline")["status"] == "ok"
        assert ask("bounds", deadline_ms=5000, only_calibrated=False)["status"] == "ok"
        assert ask("bounds", deadline_ms=-1)["status"] == "error"
        assert ask("health")["status"] == "ok"
        assert ask("wealth", "unknown")["status"] == "error"
        seen.publish(f"{BASE}/dn/cmd/health", b'{"id": "mine"}', 1, CorrelationData=b"c",
                     ResponseTopic="si/v1/_reply/anna/pi-door")
        seen.wait(lambda m: m.topic == "si/v1/_reply/anna/pi-door", "the reply to anna")
        # Another model, and one that nobody holds the right to.
        sha256 = open_bundle(new).id_hex
        (worker.store / f"{sha256}.split.tflite").write_bytes(new.read_bytes())
        about = {"sha256": sha256, "bytes": new.stat().st_size, "from": "w1"}
        assert ask("model", **about | {"bytes": 2**39})["status"] == "error"
        ask("model", **about)
        wait("up/event", event="model", bundle=sha256)
        feed(picture())
        feed(picture())
        wait("up/event", event="model-confirmed")
        # The file, again and wrong; without Home Assistant.
        write_settings(file, camera.bundle, broker, "answer_lasts_s = 60\n")
        assert ask("reload")["status"] == "ok"
        wait("up/event", event="config")
        write_settings(file, camera.bundle, broker, "answr = 1\n")
        assert ask("reload")["status"] == "error"
        wait("up/event", event="config-refused")
        # Both ends go: one dies, one is stopped.
        worker.kill()
        seen.wait(lambda m: m.topic == "si/v1/_pool/w1/up/status"
                  and record_of(m)["state"] == "lost", "the worker's last will")
        agent.send_signal(signal.SIGTERM)
        wait("up/status", state="stopped")
    finally:
        with contextlib.suppress(ProcessLookupError):
            agent.kill()
        agent.wait(15)
        worker.stop()


def test_a_system_says_what_the_document_says(tmp_path, camera, judge):
    with Mosquitto(tmp_path) as broker, Recorder(broker.port) as seen:
        live_through(tmp_path, camera, broker, seen)
        messages = [m for m in seen.messages if not FROM_OTHERS.fullmatch(m.topic)]
    counts, wrong = Counter(), []
    for message in messages:
        channel, troubles = judge.trouble(message)
        counts[channel] += 1
        wrong += [f"{message.topic} {message.payload[:300]!r}: {t}" for t in troubles]
    assert not wrong, "\n".join(wrong[:20])
    # Every channel that a device or worker writes to was seen, so it has been compared.
    ours = {name for name, operation in DOCUMENT["operations"].items()
            if operation["action"] == "send" or name.endswith("Inbox")}
    assert set(counts) == ours


def test_a_message_that_is_not_as_said_would_be_found(judge):
    good = Recorded("si/v1/pi/up/status", b'{"state": "ready", "session": "1"}', 1, True)
    assert judge.trouble(good) == ("deviceStatus", [])
    for bad in (b'{"state": "redy", "session": "1"}', b'{"state": "ready"}',
                b'{"state": "ready", "session": "1", "more": 1}'):
        assert judge.trouble(Recorded(good.topic, bad, 1, True))[1], bad
    assert judge.trouble(Recorded(good.topic, good.payload, 1, False))[1]
    assert judge.trouble(Recorded(good.topic, good.payload, 0, True))[1]
    assert judge.trouble(Recorded("si/v1/pi/up/statue", good.payload, 1, True))[1]
    assert judge.trouble(Recorded("acme/a/si/v1/pi/up/status", good.payload, 1, True))[1] == []
    assert strict(copy.deepcopy(DOCUMENT)) != DOCUMENT
