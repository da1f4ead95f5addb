"""The daemon, its file and the examples in integrations/: processes, as their users run them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
import pytest
from PIL import Image

from split_core.wire.topics import Topics
from tests.support.brokers import Mosquitto, free_port
from tests.support.observer import Observer
from tests.support.rig import wait_until
from tests.support.topics_page import topic_filters

ROOT = Path(__file__).resolve().parents[2]
INTEGRATIONS = ROOT / "integrations"
UP = "si/v1/pi-door/up/"


class Daemon:
    """An `edge-agent run` with a file that can be written again."""

    def __init__(self, directory: Path, bundle: Path, broker: Mosquitto):
        self.file, self._broker, self._bundle = directory / "agent.toml", broker, bundle
        self._state, self._log = directory / "state", directory / "agent.log"
        self.observer = Observer(broker.url, "si/v1/+/up/#", "si/v1/+/dn/#").start()
        self.process: subprocess.Popen | None = None

    def write(self, more: str = "") -> None:
        """Its settings; pictures come by topic."""
        self.file.write_text(
            f'id = "pi-door"\nstate_dir = "{self._state}"\n[model]\nbundle = "{self._bundle}"\n'
            f'[broker]\nurl = "{self._broker.url}"\n[source]\nkind = "mqtt"\n{more}')

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent.cli", "run", "-c", str(self.file)], cwd=ROOT,
                stdout=log, stderr=log)
        self.wait("status", 40, state="ready")

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, channel: str, timeout_s: float = 20, after_s: float = 0.0, **fields) -> dict:
        seen = self.observer.wait(
            lambda s: s.topic == UP + channel and all(s.record.get(k) == v
                                                      for k, v in fields.items()),
            timeout_s, f"{channel} with {fields}\n{self.log()[-2000:]}", after_s=after_s)
        return seen.record

    def ask(self, name: str, **fields) -> dict:
        since_s = time.monotonic()
        self.observer.publish(f"si/v1/pi-door/dn/cmd/{name}", json.dumps(fields).encode(), qos=1)
        return self.wait(f"reply/{name}", after_s=since_s)

    def stop(self) -> None:
        self.observer.stop()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
            self.process.kill()


@pytest.fixture
def daemon(tmp_path, camera) -> Iterator[Daemon]:
    with Mosquitto(tmp_path) as broker:
        daemon = Daemon(tmp_path, camera.bundle, broker)
        try:
            yield daemon
        finally:
            daemon.stop()


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.jpg"
    shades = np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(shades).save(path, "JPEG")
    return path


# -- the file


def test_a_reload_by_command_or_signal_is_the_files_and_the_floor_with_it(daemon):
    daemon.write("[policy]\nmin_cut = 1\n")
    daemon.start()
    assert daemon.ask("bounds", min_cut=4, deadline_ms=640)["status"] == "ok"
    # The file is another now: what a command had set is gone, and the floor is the file's.
    daemon.write('[policy]\nmin_cut = 3\naim = "deadline"\n[frame]\nmax_fps = 9.0\n'
                 '[health]\nevery_s = 1.0\n[service]\nmemory_max_mb = 700\n')
    reply = daemon.ask("reload", id=1)
    assert reply["status"] == "ok" and isinstance(reply["data"]["restart_needed"], list)
    health = daemon.wait("health", aim="deadline")
    wait_until(lambda: daemon.observer.on(UP + "health")[-1].record["memory_max_bytes"]
               == 700 << 20, 10, "the new ceiling in the record")
    assert 0 < health["memory_bytes"] < 700 << 20
    assert daemon.ask("bounds", min_cut=2)["status"] == "error"
    now = daemon.ask("bounds", min_cut=3)
    assert now["status"] == "ok" and now["data"]["deadline_ms"] == 1000.0
    # A file that is wrong is refused, said, and changes nothing: by command ...
    daemon.write("[policy]\nmin_cut = -1\n")
    reply = daemon.ask("reload", id=2)
    assert reply["status"] == "error" and "min_cut" in reply["error"]
    daemon.wait("event", event="config-refused")
    # ... and by signal.
    since_s = time.monotonic()
    daemon.write("[polic]\n")
    daemon.process.send_signal(signal.SIGHUP)
    refused = daemon.wait("event", event="config-refused", after_s=since_s)
    assert "polic" in refused["reason"]
    # A laxer file is obeyed, and so is a command that goes as low.
    since_s = time.monotonic()
    daemon.write("[policy]\nmin_cut = 0\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait("event", event="config", after_s=since_s)
    wait_until(lambda: daemon.ask("bounds", min_cut=0)["status"] == "ok", 10, "the laxer floor")
    assert daemon.process.poll() is None


# -- the client in Python


def test_the_client_sends_a_picture_and_prints_the_answer(daemon, picture):
    daemon.write()
    daemon.start()
    client = INTEGRATIONS / "python" / "client.py"
    done = subprocess.run(
        [sys.executable, str(client), f"127.0.0.1:{daemon._broker.port}", "pi-door", str(picture)],
        capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    result = daemon.wait("result")
    best = result["top"][0]
    assert done.stdout == (f"{result['outcome']} in {result['total_ms']:.0f} ms:"
                           f" {best['label'] or best['index']}\n")


def test_a_gateway_with_nothing_but_qos_0_and_mqtt_3_1_1_can_do_it_all(daemon, picture):
    daemon.write()
    daemon.start()
    seen, subscribed = [], threading.Event()
    gateway = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    gateway.on_message = lambda client, userdata, m: seen.append((m.topic, m.qos, m.payload))
    gateway.on_subscribe = lambda *_: subscribed.set()
    gateway.connect("127.0.0.1", daemon._broker.port)
    gateway.subscribe("si/v1/pi-door/up/#", 0)
    gateway.loop_start()
    try:
        assert subscribed.wait(10)
        gateway.publish("si/v1/pi-door/dn/frame", picture.read_bytes(), 0)
        wait_until(lambda: any(t == UP + "result" for t, _, _ in seen), 20, "an answer")
        command = b'{"id": "plc-1", "deadline_ms": 640}'
        for _ in range(2):                       # its reply may be lost: again, with the same id
            count = len(seen)
            gateway.publish("si/v1/pi-door/dn/cmd/bounds", command, 0)
            wait_until(lambda: any(t == UP + "reply/bounds" for t, _, _ in seen[count:]), 20,
                       "a reply")
    finally:
        gateway.disconnect()
        gateway.loop_stop()
    replies = [payload for topic, _, payload in seen if topic == UP + "reply/bounds"]
    assert len(replies) == 2 and replies[0] == replies[1]
    assert json.loads(replies[0])["data"]["deadline_ms"] == 640
    assert {qos for _, qos, _ in seen} == {0}
    assert {UP + "status", UP + "info", UP + "plan"} <= {topic for topic, _, _ in seen}


def test_a_retained_picture_is_no_new_one(daemon, picture):
    """It would be answered at every connect, as if somebody had just taken it."""
    frames = "si/v1/pi-door/dn/frame"
    daemon.observer.publish(frames, picture.read_bytes(), retain=True)
    daemon.observer.wait(lambda s: s.topic == frames, 10, "the broker's copy")
    daemon.write()
    daemon.start()
    wait_until(lambda: "a retained picture" in daemon.log(), 10, "a word about it")
    daemon.observer.publish(frames, b"no picture, but a new one")
    assert daemon.wait("result")["outcome"] == "failed"
    assert [s.record["frame_id"] for s in daemon.observer.on(UP + "result")] == [1]


def test_the_client_is_as_short_as_is_said_and_needs_paho_alone():
    text = (INTEGRATIONS / "python" / "client.py").read_text()
    code = [line for line in text.split('"""')[2].splitlines() if line.strip()]
    assert len(code) <= 23
    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.M)) == {"json", "sys", "paho"}


# -- the flow of Node-RED


def flow() -> list[dict]:
    return json.loads((INTEGRATIONS / "node-red" / "flow.json").read_text("utf-8"))


def test_the_flow_is_sound():
    nodes = flow()
    ids = [node["id"] for node in nodes]
    assert len(set(ids)) == len(ids)
    brokers = [n["id"] for n in nodes if n["type"] == "mqtt-broker"]
    assert len(brokers) == 1
    tab = next(n["id"] for n in nodes if n["type"] == "tab")
    wired = set()
    for node in nodes:
        for wire in (w for port in node.get("wires", []) for w in port):
            assert wire in ids, f"{node['id']} is wired to nothing"
            wired.add(wire)
        if node["type"].startswith("mqtt "):
            assert node["broker"] == brokers[0]
        assert node.get("z", tab) == tab
    for node in nodes:
        if node["type"] in ("debug", "mqtt out", "http response", "function", "file in"):
            assert node["id"] in wired, f"nothing comes to {node['type']} {node['name']}"


def test_every_topic_of_the_flow_is_documented():
    topics = [n["topic"] for n in flow() if n["type"] in ("mqtt in", "mqtt out")]
    assert len(topics) == 7
    for topic in topics:
        assert any(re.fullmatch(known, topic)
                   for known in topic_filters("si/v1", device="pi-door")), topic
    assert Topics().device_frames("pi-door") in topics


NODE_RED = "node-red@4"


@pytest.fixture(scope="session")
def node_red(tmp_path_factory) -> Path:
    """Node-RED from the registry; skips where there is no Node or no registry."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Node.js and npm are not installed")
    kept = os.environ.get("NODE_RED_HOME")
    if kept:
        return Path(kept) / "node_modules/node-red/red.js"
    folder = tmp_path_factory.mktemp("node-red")
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder),
                           NODE_RED], capture_output=True, text=True, timeout=400)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {NODE_RED} here: {done.stderr.strip()[-200:]}")
    return folder / "node_modules/node-red/red.js"


@contextlib.contextmanager
def running(node_red: Path, folder: Path, broker: Mosquitto) -> Iterator[str]:
    """The flow in a Node-RED without a browser, on a broker; its address."""
    folder.mkdir()
    nodes = flow()
    next(n for n in nodes if n["type"] == "mqtt-broker")["port"] = str(broker.port)
    next(n for n in nodes if n["type"] == "file in")["filename"] = str(folder / "picture.jpg")
    for node in (n for n in nodes if n["type"] == "debug"):
        node["console"] = True                   # to the log, beside the browser
    (folder / "flow.json").write_text(json.dumps(nodes))
    port = free_port()
    (folder / "settings.js").write_text(
        f'module.exports = {{uiHost: "127.0.0.1", uiPort: {port}, flowFile: "flow.json",'
        ' telemetry: {enabled: false, updateNotification: false},'
        ' logging: {console: {level: "info", metrics: false, audit: false}}};\n')
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["node", str(node_red), "--userDir", str(folder), "--settings",
             str(folder / "settings.js")], stdout=log, stderr=log)
    try:
        wait_until(lambda: b"Connected to broker" in (folder / "log").read_bytes()
                   or process.poll() is not None, 60, "Node-RED")
        assert process.poll() is None, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


def http(url: str, data: bytes | None = None, kind: str = "image/jpeg") -> tuple[int, bytes]:
    request = urllib.request.Request(url, data, {"Content-Type": kind} if data is not None else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


@pytest.mark.check
def test_the_flow_runs_in_node_red(daemon, picture, node_red, tmp_path):
    daemon.write("[health]\nevery_s = 1.0\n")
    daemon.start()
    with running(node_red, tmp_path / "red", daemon._broker) as url:
        assert http(url + "/answer")[0] == 404               # nothing seen yet
        # A picture comes by HTTP, and its answer is there.
        assert http(url + "/picture", picture.read_bytes())[0] == 202
        result = daemon.wait("result")
        assert result["outcome"] != "failed", result
        wait_until(lambda: http(url + "/answer")[0] == 200, 10, "the answer in the flow")
        assert json.loads(http(url + "/answer")[1])["top"] == result["top"]
        # The button that sends a file.
        shutil.copy(picture, tmp_path / "red" / "picture.jpg")
        nodes = {n["name"]: n["id"] for n in flow() if n["type"] == "inject"}
        since_s = time.monotonic()
        assert http(f"{url}/inject/{nodes['send a file']}", b"", "text/plain")[0] == 200
        assert daemon.wait("result", after_s=since_s)["top"] == result["top"]
        # The button that changes the policy.
        since_s = time.monotonic()
        assert http(f"{url}/inject/{nodes['on time at the least cost']}", b"",
                    "text/plain")[0] == 200
        reply = daemon.wait("reply/policy", after_s=since_s)
        assert reply["status"] == "ok" and reply["data"]["aim"] == "deadline"
        assert isinstance(reply["id"], str) and reply["id"]
        daemon.wait("health", aim="deadline")
        said = ("answers a second", f"{result['outcome']} in ", "other settings are in force",
                "status: 'ok'", "ready")
        log = tmp_path / "red" / "log"
        wait_until(lambda: all(words in log.read_text() for words in said), 10,
                   f"{said} of the debug nodes")
    assert "[error]" not in log.read_text(), log.read_text()
