"""What a real worker and a real agent tell of themselves, on a real broker."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from PIL import Image

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from cloud_side.config import WorkerConfig
from cloud_side.observers.fleet import OUTCOMES
from cloud_side.web.config import StatusConfig
from cloud_side.web.turn import PageTurn
from edge_agent.config import AgentConfig
from edge_agent.frames import Outcome
from edge_agent.observers.metrics import AgentMetrics, metrics_parts
from split_core.config import convert
from split_core.errors import ConfigError
from split_core.wire.records import DeviceStatus, dump
from tests.support.brokers import Mosquitto, free_port
from tests.support.fleets import health
from tests.support.observed import fetch, fleet_json, fleet_of, observed_device, observed_worker
from tests.support.rig import Rig, wait_until

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 25


@dataclass
class Told:
    """One metric: its type, the labels of its series, and the samples by name and labels."""

    kind: str
    labels: set[str] = field(default_factory=set)
    samples: dict[tuple[str, tuple], float] = field(default_factory=dict)


def read(text: str) -> dict[str, Told]:
    """Metrics by the name that people use: counters with _total."""
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        told = found.setdefault(name, Told(family.type))
        for sample in family.samples:
            told.labels |= set(sample.labels) - {"le"}
            told.samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


@dataclass
class Scene:
    worker: dict[str, Told]
    agent: dict[str, Told]

    @property
    def names(self) -> dict[str, set[str]]:
        """Every series name that a query can use, with its labels."""
        return {name: told.labels | ({"le"} if name.endswith("_bucket") else set())
                for metrics in (self.worker, self.agent) for told in metrics.values()
                for name, _ in told.samples}


@pytest.fixture(scope="module")
def scene(camera, tmp_path_factory) -> Scene:
    """Both have served frames, and a device has reported."""
    folder, made = tmp_path_factory.mktemp("observed"), []

    def metrics_of(agent) -> AgentMetrics:
        made.append(AgentMetrics(agent, ("127.0.0.1", 0)))
        return made[0]

    with Rig(folder) as rig, observed_worker(folder, rig.url) as (_, page), \
            observed_device(camera.bundle, rig.url, metrics_of) as device:
        for i in range(FRAMES):
            device.agent.infer(device.inputs[i % 8])
        rig.observer.publish(rig.topics.device_up("device-1", "health"), dump(health(
            battery_ratio=0.5)))
        wait_until(lambda: any(d["reports"] for d in fleet_of(page)["devices"]), 10.0, "a report")
        # An answer is on its way before it is counted.
        wait_until(lambda: fleet_of(page)["worker"]["answered"] == FRAMES, 10.0, "the last count")
        worker, agent = fetch(page.url + "metrics"), fetch(made[0].url)
        assert worker[0] == agent[0] == 200
        return Scene(read(worker[1]), read(agent[1]))


def value(metrics: dict[str, Told], name: str, sample: str | None = None, **labels) -> float:
    return metrics[name].samples[sample or name, tuple(sorted(labels.items()))]


def test_the_worker_counted_what_was_served(scene):
    w = scene.worker
    assert value(w, "split_worker_frames_total", outcome="answered") == FRAMES
    assert value(w, "split_worker_answered_frames_total", codec="raw") == FRAMES
    for stage in ("receive", "queue", "decode", "tail", "reply"):
        assert value(w, "split_worker_stage_seconds", "split_worker_stage_seconds_count",
                     stage=stage) == FRAMES
    tail_s = value(w, "split_worker_stage_seconds", "split_worker_stage_seconds_sum", stage="tail")
    assert 0 < tail_s <= value(w, "split_worker_busy_seconds_total")
    # 8 inputs, each with the boundary of cut 1, which is 98 kB before it is packed.
    sent = value(w, "split_worker_frame_bytes", "split_worker_frame_bytes_sum")
    assert FRAMES * 50_000 < sent <= value(w, "split_worker_received_bytes_total", kind="frame")
    assert value(w, "split_worker_fetches_total", state="stored") == 1
    assert value(w, "split_worker_received_bytes_total", kind="blob_part") > 300_000
    assert value(w, "split_worker_broker_up") == value(w, "split_worker_ready") == 1
    assert value(w, "split_worker_broker_callback_errors_total") == 0
    assert value(w, "split_device_battery_ratio", device="device-1") == 0.5
    assert value(w, "split_device_latency_seconds", device="device-1",
                 percentile="95") == pytest.approx(0.131)


def test_the_agent_counted_the_same(scene):
    a = scene.agent
    assert value(a, "split_agent_frames_total", outcome="remote") == FRAMES
    assert value(a, "split_agent_frames_total", outcome="failed") == 0
    for stage in ("wait", "head", "encode", "link", "queue", "decode", "tail", "reply"):
        assert value(a, "split_agent_stage_seconds", "split_agent_stage_seconds_count",
                     stage=stage) == FRAMES
    # The worker's times came back with its answers: both sum the same ones.
    for stage in ("decode", "tail"):
        mine, theirs = (value(m, f"split_{p}_stage_seconds", f"split_{p}_stage_seconds_sum",
                              stage=stage) for m, p in ((a, "agent"), (scene.worker, "worker")))
        assert mine == pytest.approx(theirs, rel=1e-6)
    assert value(a, "split_agent_sent_bytes_total") == value(
        scene.worker, "split_worker_frame_bytes", "split_worker_frame_bytes_sum")
    assert value(a, "split_agent_cut") == 1 and value(a, "split_agent_all_local_cut") == 8


def documented() -> dict[str, tuple[str, set[str]]]:
    """The metrics that docs/observability.md lists, with type and labels."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| [^|]+ \|$",
                      (ROOT / "docs/observability.md").read_text("utf-8"), re.M)
    assert len(rows) == len({name for name, _, _ in rows}), "listed twice"
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_document_lists_every_metric_there_is_and_no_other(scene):
    real = {name: (told.kind, told.labels) for name, told in (scene.worker | scene.agent).items()
            if not name.startswith("process_")}
    assert documented() == real


def expressions() -> list[str]:
    """All queries of the dashboard, its variables, and the alerts."""
    board = json.loads((ROOT / "integrations/grafana/dashboard.json").read_text("utf-8"))

    def walk(node):
        if isinstance(node, dict):
            for key, inner in node.items():
                if key in ("expr", "definition") and isinstance(inner, str):
                    yield inner
                yield from walk(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from walk(inner)

    alerts = (ROOT / "integrations/prometheus/alerts.yml").read_text("utf-8")
    return [*walk(board), *re.findall(r"^ +expr: (.+)$", alerts, re.M)]


def test_every_metric_of_the_dashboard_and_the_alerts_exists(scene):
    found = expressions()
    assert len(found) > 20
    for expression in found:
        names = re.findall(r"\b(?:split|process)_\w+", expression)
        assert names or expression.startswith("up"), expression
        for name in names:
            assert name in scene.names, f"{name} in {expression}"
        # Labels that are matched or grouped by exist on something that is asked for.
        there = {"job", "instance"}.union(*(scene.names[n] for n in names))
        used = re.findall(r"[{,]\s*(\w+)\s*[=!]~?", expression)
        for group in re.findall(r"\b(?:by|without|on|group_left)\s*\(([^)]*)\)", expression):
            used += re.findall(r"\w+", group)
        assert set(used) <= there, f"{set(used) - there} in {expression}"


# What Grafana's published schema (dashboard_kind.cue, common/mudball.cue, the panels' panelcfg.cue)
# has for the keys that the dashboard uses; an unknown word would be drawn as the default.
GRAFANA = {
    "type": {"row", "stat", "table", "timeseries", "query", "datasource", "prometheus"},
    "displayMode": {"list", "table", "hidden"}, "placement": {"bottom", "right"},
    "sort": {"asc", "desc", "none", 1}, "colorMode": {"value", "background", "none"},
    "graphMode": {"none", "line", "area"}, "orientation": {"auto", "vertical", "horizontal"},
    "lineInterpolation": {"linear", "smooth", "stepBefore", "stepAfter"},
    "showPoints": {"auto", "never", "always"},
    # Of a tooltip, of stacking, of a colour.
    "mode": {"single", "multi", "none", "normal", "percent", "fixed", "thresholds"},
    "hide": {0, 1, 2}, "graphTooltip": {0, 1, 2},
    "unit": {"Bps", "bytes", "celsius", "percentunit", "reqps", "s", "short"},
}
REQUIRED = {"legend": {"displayMode", "placement", "showLegend", "calcs"},
            "tooltip": {"mode", "sort"}, "reduceOptions": {"calcs"},
            "fieldConfig": {"defaults", "overrides"}, "gridPos": {"x", "y", "w", "h"}}


def test_the_dashboard_uses_words_that_grafana_knows():
    seen = set()

    def look(node) -> None:
        for key, inner in node.items() if isinstance(node, dict) else ():
            seen.add(key)
            if isinstance(inner, (str, int)):
                assert key not in GRAFANA or inner in GRAFANA[key], f"{key}: {inner}"
            elif isinstance(inner, dict):
                assert REQUIRED.get(key, set()) <= inner.keys(), f"{key}: {inner}"
        for inner in node.values() if isinstance(node, dict) else node:
            if isinstance(inner, (dict, list)):
                look(inner)

    look(json.loads((ROOT / "integrations/grafana/dashboard.json").read_text("utf-8")))
    assert GRAFANA.keys() | REQUIRED.keys() <= seen


def test_the_dashboard_can_be_imported():
    board = json.loads((ROOT / "integrations/grafana/dashboard.json").read_text("utf-8"))
    assert board["id"] is None and board["title"] and board["schemaVersion"] >= 36
    names = {v["name"]: v["type"] for v in board["templating"]["list"]}
    assert names["datasource"] == "datasource"
    ids, places = [], set()
    for panel in board["panels"]:
        ids.append(panel["id"])
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, f"{panel['title']} overlaps"
        places |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"]
            assert panel["description"]
    assert len(ids) == len(set(ids))


def test_a_hostile_crowd_makes_no_series(tmp_path):
    with Rig(tmp_path) as rig, observed_worker(tmp_path, rig.url, max_devices=5) as (_, page):
        before = sum(len(t.samples) for t in read(fetch(page.url + "metrics")[1]).values())
        up = rig.topics.device_up

        def here(name: str) -> bool:
            return any(d["device"] == name for d in fleet_of(page)["devices"])

        def is_listening() -> bool:
            rig.observer.publish(up("invented-0", "status"), dump(DeviceStatus("ready", "1")))
            return here("invented-0")

        # Its page is there before it is subscribed.
        wait_until(is_listening, 20.0, "the worker listening")
        for i in range(300):
            rig.observer.publish(up(f"invented-{i}", "status"), dump(DeviceStatus("ready", "1")))
            rig.observer.publish(up(f"invented-{i}", "health"), dump(health(
                model=f"model {i} " * 20, rung=f"r{i}", worker=f"w{i}",
                totals={f"outcome-{i}": i, "remote": 1})))
            rig.observer.publish(up(f"evil<{i}>", "status"), dump(DeviceStatus("ready", "1")))
            rig.observer.publish(up("pi", "health"), b"{nonsense")
            # The broker drops what more than a thousand wait before, on a machine that is busy.
            if i % 100 == 99:
                wait_until(lambda: here(f"invented-{i}"), 20.0, "a part of the crowd")
        # The last bad record came behind it.
        wait_until(lambda: value(read(fetch(page.url + "metrics")[1]),
                                 "split_fleet_refused_records_total") == 600, 20.0, "all refused")
        metrics = read(fetch(page.url + "metrics")[1])
        assert len(metrics["split_device_cut"].samples) == 5
        assert len(metrics["split_device_info"].samples) == 5
        assert len(metrics["split_device_frames_total"].samples) == 5 * len(OUTCOMES)
        # Twenty-odd numbers a device, however many names were made up.
        assert sum(len(t.samples) for t in metrics.values()) - before < 5 * 30
        assert max(len(v) for told in metrics.values() for _, labels in told.samples
                   for _, v in labels) <= 96
        assert value(metrics, "split_fleet_refused_records_total") == 600
        assert value(metrics, "split_fleet_evicted_devices_total") == 295


def test_a_device_that_dies_is_marked_and_kept(tmp_path, camera):
    with Rig(tmp_path) as rig, observed_worker(tmp_path, rig.url) as (_, page):
        with observed_device(camera.bundle, rig.url) as device:
            device.agent.infer(device.inputs[0])
            wait_until(lambda: [d["state"] for d in fleet_of(page)["devices"]] == ["ready"], 10.0,
                       "the device on the page")
            (shown,) = fleet_of(page)["devices"]
            assert (shown["model"], shown["cut"], shown["last_cut"]) == ("camera", 1, 8)
        wait_until(lambda: [d["state"] for d in fleet_of(page)["devices"]] == ["stopped"], 10.0,
                   "the device marked")
        rig.observer.publish(rig.topics.device_up("device-1", "status"), b"")
        wait_until(lambda: fleet_of(page)["devices"] == [], 10.0, "the device forgotten")


def test_ready_and_healthy_are_not_the_same(tmp_path):
    with Rig(tmp_path) as rig, observed_worker(tmp_path, rig.url) as (worker, page):
        wait_until(lambda: fetch(page.url + "readyz") == (200, "ready\n"), 10.0, "ready")
        assert fetch(page.url + "healthz") == (200, "ok\n")
        rig.kill_broker()
        wait_until(lambda: fetch(page.url + "readyz")[0] == 503, 10.0, "not ready")
        assert "no connection to the broker" in fetch(page.url + "readyz")[1]
        assert fetch(page.url + "healthz")[0] == 200          # a restart would not bring it back
        assert fleet_json(page)["worker"]["connected"] is False
        worker._tail.stop()
        assert fetch(page.url + "healthz") == (503, "thread not running: tail\n")


def test_a_worker_that_may_not_listen_to_the_fleet_serves_all_the_same(tmp_path, camera):
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite si/v1/_pool/#\ntopic readwrite si/v1/+/dn/#\n"
                     "topic write si/v1/#\n")
    with Mosquitto(tmp_path, (f"acl_file {rules}",)) as broker, \
            observed_worker(tmp_path, f"mqtt://127.0.0.1:{broker.port}") as (_, page), \
            observed_device(camera.bundle, f"mqtt://127.0.0.1:{broker.port}") as device:
        assert device.agent.infer(device.inputs[0]).outcome is Outcome.REMOTE
        assert fleet_of(page)["devices"] == []
        wait_until(lambda: fleet_of(page)["worker"]["answered"] == 1, 10.0, "its count")
        assert fetch(page.url + "readyz")[0] == 200


def test_another_program_on_the_port_keeps_no_worker_from_its_frames(tmp_path, camera, caplog):
    with Rig(tmp_path) as rig, socket.create_server(("127.0.0.1", 0)) as other, \
            caplog.at_level(logging.INFO, "cloud_side.web"):
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        threading.Thread(target=lambda: other.accept()[0].close(), daemon=True).start()
        with observed_worker(tmp_path, rig.url, listen=listen) as (worker, turn), \
                observed_device(camera.bundle, rig.url) as device:
            assert isinstance(turn, PageTurn)
            assert device.agent.infer(device.inputs[0]).outcome is Outcome.REMOTE
            wait_until(lambda: caplog.records, 10.0, "what it says of its page")
    (said,) = [r for r in caplog.records if r.name == "cloud_side.web.turn"]
    assert said.levelno == logging.WARNING and "status.listen" in said.getMessage()
    assert "event=status-page-off" in said.getMessage()
    assert f"cannot listen on 127.0.0.1 port {listen[10:]}: Address already in use" in (
        said.getMessage())


def test_workers_of_one_configuration_take_turns_with_the_page(tmp_path, camera):
    """As an operator meets them: processes, started one after another, that differ in their ids
    and folders alone."""
    listen = f"127.0.0.1:{free_port()}"

    def page() -> dict | None:
        with contextlib.suppress(OSError, ValueError):
            return json.loads(fetch(f"http://{listen}/fleet.json")[1])

    def workers() -> tuple[str, set[str]] | None:
        found = page()
        return found and (found["worker"]["id"],
                          {w["worker"] for w in found["workers"] if w["state"] == "ready"})

    with Rig(tmp_path) as rig, contextlib.ExitStack() as stack:
        started = []
        for name in "ab":
            (tmp_path / f"{name}.toml").write_text(
                f'id = "{name}"\nstate_dir = "{tmp_path / name}"\n[broker]\nurl = "{rig.url}"\n'
                f'[store]\npath = "{tmp_path / name / "bundles"}"\n[status]\nlisten = "{listen}"\n')
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "cloud_side.cli", "run", "-c", str(tmp_path / f"{name}.toml"),
                 "--log-format", "journal"], cwd=ROOT, stdout=log, stderr=log)
            started.append(process)
            stack.callback(process.wait, 30)
            stack.callback(process.kill)
            wait_until(lambda: "a" in (workers() or ("",))[0], 30, "the page of the first")
        # The page of the one shows both, and the other says where it is: no reason to warn.
        wait_until(lambda: workers() == ("a", {"a", "b"}), 30, "both on the page")
        wait_until(lambda: "event=status-page-elsewhere" in (tmp_path / "b.log").read_text(), 30,
                   "where the page is")
        lines = (tmp_path / "b.log").read_text().splitlines()
        assert [line for line in lines if not line.startswith("<6>")] == []
        with observed_device(camera.bundle, rig.url, device_id="pi") as device:
            assert device.agent.infer(device.inputs[0]).outcome is Outcome.REMOTE
            started[0].terminate()
            assert started[0].wait(30) == 0
            wait_until(lambda: (workers() or ("",))[0] == "b", 30, "the page of the other")
            # It came to know the retained records of the fleet that it had not listened to.
            wait_until(lambda: [d["state"] for d in page()["devices"] if d["device"] == "pi"]
                       == ["ready"], 30, "the device on it")
            wait_until(lambda: device.agent.infer(device.inputs[0]).worker == "b", 30, "an answer")
            wait_until(lambda: page()["worker"]["answered"] >= 1, 30, "its count")
            told = read(fetch(f"http://{listen}/metrics")[1])
            assert value(told, "split_worker_frames_total", outcome="answered") >= 1
        started[1].terminate()
        assert started[1].wait(30) == 0, "it ends with its page"


def test_an_agent_whose_port_is_taken_says_so_and_goes_on(tmp_path, camera, caplog):
    from edge_agent.agent import EdgeAgent
    from edge_agent.config import ModelConfig
    from split_core.listen import MetricsConfig

    def an_agent(port: int) -> EdgeAgent:
        return EdgeAgent(AgentConfig(model=ModelConfig(str(camera.bundle)), id="d",
                                     state_dir=str(tmp_path),
                                     metrics=MetricsConfig(f"127.0.0.1:{port}")))

    (metrics,) = metrics_parts(one := an_agent(0), one.config)
    with metrics:
        port = int(re.search(r":(\d+)/", metrics.url)[1])
        two = an_agent(port)
        assert metrics_parts(two, two.config) == []
    assert "event=metrics-off" in caplog.text and "cannot listen" in caplog.text
    with pytest.raises(ConfigError, match="metrics.listen"):
        metrics_parts(one, msgspec.structs.replace(one.config, metrics=MetricsConfig("here")))


# -- the document, and the daemons as they are installed

def blocks(kind: str) -> list[str]:
    text = (ROOT / "docs/observability.md").read_text("utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def test_settings_in_the_document_are_settings():
    found = [tomllib.loads(block) for block in blocks("toml")]
    assert {key for block in found for key in block} == {"status", "metrics", "service", "trace"}
    for block in found:
        if "metrics" in block:
            convert({"model": {"bundle": "m"}} | block, AgentConfig, "docs").check()
        else:
            convert(block, WorkerConfig, "docs").check()
        if "status" in block:                                  # said to be the defaults
            assert convert(block["status"], StatusConfig, "docs") == StatusConfig()


def test_the_daemons_tell_all_this_by_themselves(tmp_path, camera):
    """`cloud-worker run` and `edge-agent run` with a configuration, and the document's commands."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 64), "teal").save(pictures / "one.png")
    web, metrics = free_port(), free_port()
    with Rig(tmp_path) as rig:
        worker = tmp_path / "worker.toml"
        worker.write_text(f'id = "w1"\nstate_dir = "{tmp_path}/ws"\n[broker]\nurl = "{rig.url}"\n'
                          f'[store]\npath = "{tmp_path}/bundles"\n'
                          f'[status]\nlisten = "127.0.0.1:{web}"\n')
        agent = tmp_path / "agent.toml"
        agent.write_text(
            f'id = "pi"\nstate_dir = "{tmp_path}/as"\n[model]\nbundle = "{camera.bundle}"\n'
            f'[broker]\nurl = "{rig.url}"\n[plan]\ncut = 1\nrung = "q8"\n'
            f'[source]\nkind = "folder"\npath = "{pictures}"\nloop = true\n'
            f'[frame]\nmax_fps = 10.0\n[health]\nevery_s = 1.0\n'
            f'[metrics]\nlisten = "127.0.0.1:{metrics}"\n')
        with contextlib.ExitStack() as stack:
            for package, config in (("cloud_side", worker), ("edge_agent", agent)):
                log = stack.enter_context((tmp_path / f"{package}.log").open("wb"))
                process = subprocess.Popen(
                    [sys.executable, "-m", f"{package}.cli", "run", "-c", str(config)],
                    cwd=ROOT, stdout=log, stderr=log)
                stack.callback(process.wait, 30)
                stack.callback(process.terminate)

            def fleet() -> list[dict]:
                try:
                    status, text = fetch(f"http://127.0.0.1:{web}/fleet.json")
                except OSError:
                    return []
                return json.loads(text)["devices"]

            def seen() -> bool:
                return any(d["reports"] and d["outcomes"]["remote"] >= 10 and d["made"] > 2
                           for d in fleet())

            wait_until(seen, 60.0, "the device's reports of frames answered here")
            (device,) = fleet()
            assert (device["device"], device["state"], device["cut"], device["worker"]) == (
                "pi", "ready", 1, "w1")
            assert device["p50_ms"] > 0 and device["memory_bytes"] > 10_000_000
            for command in "\n".join(blocks("bash")).splitlines():
                done = subprocess.run(command.replace("8099", str(web)), shell=True, text=True,
                                      capture_output=True, timeout=20, check=True)
                assert done.stdout, command
            told = read(fetch(f"http://127.0.0.1:{metrics}/metrics")[1])
            assert value(told, "split_agent_frames_total", outcome="remote") >= 10
    assert "event=status-page" in (tmp_path / "cloud_side.log").read_text()
