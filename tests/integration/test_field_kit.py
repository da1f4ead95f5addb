"""A field test in real time: a broker and a worker of its own, an agent a process, real links.

What is checked is not how fast anything was, but that every frame is there once, that the report
is, and that nothing is left running.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
from pathlib import Path

import psutil
import pytest

from edge_agent.cli import main
from edge_agent.control.decisions import read_moments
from edge_agent.whatif.replay import check as replay
from split_core.errors import LinkDown
from split_core.model.bundle import Bundle, open_bundle
from split_lab.field import real_run, warm
from split_lab.field.real_run import Fault
from split_lab.field.stack import Child, LocalStack
from tests.split_lab.test_field_command import keep_profile
from tests.support.brokers import mosquitto_path

PERIOD_S = 0.25
STOP_S = 15.0


@pytest.fixture
def bundle(layered, tmp_path, monkeypatch) -> Bundle:
    mosquitto_path()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    made = open_bundle(layered.bundle)
    keep_profile(made, tmp_path / "state", 0.001)
    return made


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No process that a test started is there when it is over."""
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    yield
    left = [p for p in psutil.Process().children(recursive=True)
            if p.pid not in before and not _is_pythons(p)]
    gone, alive = psutil.wait_procs(left, timeout=STOP_S)
    assert not alive, [p.cmdline() for p in alive]
    assert not multiprocessing.active_children()


def _is_pythons(process: psutil.Process) -> bool:
    """The tracker that multiprocessing keeps until its parent ends."""
    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return True


def field_test(bundle: Bundle, output: Path, *arguments: str) -> dict:
    assert main(["field-test", "--bundle", str(bundle.path), "-o", str(output), "--stack",
                 "--period", str(PERIOD_S), *arguments]) == 0
    return json.loads((output / "summary.json").read_text())


def check_frames(output: Path, summary: dict, arms: set[str], frames: int) -> dict[str, list]:
    """Each arm has every frame once, in the table and in the summary."""
    with (output / "frames.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert set(summary["arms"]) == {r["arm"] for r in table} == arms
    found = {}
    for arm in arms:
        found[arm] = sorted((r for r in table if r["arm"] == arm), key=lambda r: int(r["index"]))
        assert [int(r["index"]) for r in found[arm]] == list(range(frames)), arm
        assert summary["arms"][arm]["frames"] == frames
        offered_s = [float(r["offered_s"]) for r in found[arm]]
        assert all(abs(s - offered_s[0] - i * PERIOD_S) < PERIOD_S
                   for i, s in enumerate(offered_s)), arm
    return found


@pytest.mark.check
def test_a_real_run_over_an_emulated_link(bundle, tmp_path, capfd):
    output = tmp_path / "report"
    summary = field_test(bundle, output, "--link", "10Mbit", "--rtt", "20ms", "--duration", "3s",
                         "--arms", "adaptive,raw,oracle", "--device-time", "150ms")
    assert {p.name for p in output.iterdir()} >= {
        "report.html", "frames.csv", "summary.json", "decisions.csv", "link.csv",
        "decisions.jsonl"}
    found = check_frames(output, summary, {"adaptive", "raw", "oracle"}, 12)
    assert {r["outcome"] for r in found["raw"][2:]} == {"remote"}
    for row in found["raw"]:
        # At 10 Mbit/s, and there and back; a packet's worth less for the grain of the link.
        link_ms = (int(row["payload_bytes"]) - 1500) / 1250 + 20
        assert row["outcome"] != "remote" or float(row["total_ms"]) > link_ms
    assert summary["settings"]["virtual"] is False and summary["settings"]["stretched"] is True
    check = replay(str(output / "decisions.jsonl"))
    assert check.difference is None and check.decisions > 5
    page, out = (output / "report.html").read_text(), capfd.readouterr().out
    for note in ("The oracle was computed for the same trace, not run.",
                 "Energy is modelled, not measured."):
        assert f"note: {note}" in out and note in page
    assert out.splitlines()[-1] == str(output / "report.html")


@pytest.mark.check
def test_the_arms_of_a_longer_run(bundle, tmp_path):
    output = tmp_path / "report"
    battery = tmp_path / "battery.toml"
    battery.write_text("capacity_wh = 5.0\nbase_w = 0.5\nhours = 1.0\n")
    summary = field_test(
        bundle, output, "--link", "step:10Mbit@4,0.3Mbit@4", "--duration", "8s", "--arms",
        "adaptive,local,jpeg,raw,static,peer,oracle", "--battery", str(battery), "--device-time",
        "150ms", "--aim", "deadline")
    found = check_frames(output, summary, {"adaptive", "local", "jpeg", "raw", "static", "peer",
                                           "oracle"}, 32)
    assert {r["cut"] for r in found["local"]} == {"8"}
    assert {r["outcome"] for r in found["local"]} <= {"local", "dropped"}
    assert {r["rung"] for r in found["jpeg"]} == {"jpeg90"}
    assert {(r["cut"], r["rung"]) for r in found["raw"]} == {("0", "raw")}
    assert len({(r["cut"], r["rung"]) for r in found["static"]}) == 1
    assert "0" not in {r["cut"] for r in found["peer"]}
    moments = list(read_moments(str(output / "decisions.jsonl")))
    assert moments[0].settings.policy.aim == "deadline"
    assert all(4.9 < mo.state.battery.left_wh <= 5.0 for mo in moments)
    assert all(mo.state.battery.mains is False for mo in moments)
    assert replay(str(output / "decisions.jsonl")).difference is None


@pytest.mark.check
def test_with_faults_every_arm_still_ends_every_frame(bundle, tmp_path, monkeypatch):
    faults = tuple(Fault(at, what, do, whom, 0.8) for at, what, do, whom in (
        (0.1, "the worker stops", "pause", "worker"),
        (0.35, "the worker is killed", "kill", "worker"),
        (0.65, "the broker is killed", "kill", "broker")))
    monkeypatch.setattr(real_run, "FAULTS", faults)
    output = tmp_path / "report"
    summary = field_test(bundle, output, "--link", "10Mbit", "--duration", "10s", "--fault",
                         "--arms", "adaptive,local,jpeg", "--device-time", "150ms")
    found = check_frames(output, summary, {"adaptive", "local", "jpeg"}, 40)
    for arm in ("adaptive", "jpeg"):
        assert {r["outcome"] for r in found[arm]} <= {"remote", "local", "fallback"}, arm
        assert not [r for r in found[arm] if r["late"] == "true"], arm
        assert found[arm][-1]["outcome"] == "remote", "it came back"
    reasons = {r["reason"] for r in found["jpeg"] if r["outcome"] == "fallback"}
    assert reasons & {"worker gone", "no worker"} and reasons & {"link down"}, reasons
    page = (output / "report.html").read_text()
    assert all(fault.what in page for fault in faults)
    assert replay(str(output / "decisions.jsonl")).difference is None


@pytest.mark.check
def test_without_an_emulated_link_there_is_no_oracle(bundle, tmp_path, capfd):
    output = tmp_path / "report"
    summary = field_test(bundle, output, "--duration", "2s", "--arms", "local,static,oracle")
    check_frames(output, summary, {"local", "static"}, 8)
    out = capfd.readouterr().out
    assert "note: There is no arm oracle in this test." in out
    assert "note: The static choice is the one without planning" in out
    assert summary["settings"]["link"] == "as it is"


def test_an_arm_that_fails_is_named_and_takes_the_others_with_it(bundle, tmp_path, capfd):
    folder = tmp_path / "empty"
    folder.mkdir()
    assert main(["field-test", "--bundle", str(bundle.path), "-o", str(tmp_path / "report"),
                 "--stack", "--duration", "2s", "--arms", "local", "--link", "10Mbit",
                 "--inputs", str(folder)]) in (1, 66)
    error = capfd.readouterr().err
    assert "no inputs in" in error and "Traceback" not in error
    assert not (tmp_path / "report/report.html").exists()


def test_nobody_to_talk_to_is_said_before_anything_runs(bundle, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(warm, "_LIMIT_S", 0.2)
    config = tmp_path / "device.toml"
    config.write_text(f'[broker]\nurl = "mqtt://127.0.0.1:1"\n[model]\nbundle = "{bundle.path}"\n')
    assert main(["field-test", "-c", str(config), "-o", str(tmp_path / "report")]) == 69
    assert "no broker" in capfd.readouterr().err


# -- the broker and the worker of its own


def test_a_stack_is_there_and_then_it_is_not(tmp_path):
    mosquitto_path()
    before = set(psutil.Process().children())
    with LocalStack(tmp_path) as stack:
        assert stack.name == "mosquitto"
        ours = [p.pid for p in set(psutil.Process().children()) - before]
        assert len(ours) == 2
        stack.broker.kill()
        stack.start_broker()
        assert stack.url == f"mqtt://127.0.0.1:{stack.port}"
        stack.worker.pause()          # stopped all the same
    assert not [pid for pid in ours if psutil.pid_exists(pid)]


def test_a_broker_that_cannot_start_is_no_riddle(tmp_path, monkeypatch):
    mosquitto_path()
    monkeypatch.setattr("split_lab.field.stack._START_S", 0.3)
    stack = LocalStack(tmp_path)
    stack.broker = Child("broker", ["/bin/false"], tmp_path / "broker.log")
    with pytest.raises(LinkDown, match=f"did not open port {stack.port}"):
        with stack:
            pass
