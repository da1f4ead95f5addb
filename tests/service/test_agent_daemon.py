"""`edge-agent run` as systemd meets it: readiness, status, reload, watchdog, the end."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_agent import daemon
from edge_agent.config import load_config
from split_core.errors import BundleError
from split_core.service import host
from split_core.service.host import STATUS_S
from split_lab.split import split_model
from tests.service.fake_systemd import service
from tests.support import tiny_models
from tests.support.rig import Rig, wait_until

# Nobody listens there; a local port that is closed refuses at once.
NO_BROKER = "mqtt://127.0.0.1:9"
STATUS_WAIT_S = STATUS_S + 10


class Files:
    """A configuration and what it names."""

    def __init__(self, folder: Path):
        self.folder, self.config = folder, folder / "agent.toml"
        self.bundle, self.pictures = folder / "m.split.tflite", folder / "pictures"
        model = folder / "m.tflite"
        model.write_bytes(tiny_models.skip_model())
        self.bundle.write_bytes(split_model(model))
        self.pictures.mkdir()
        for shade in (10, 200):
            picture = io.BytesIO()
            Image.fromarray(np.full((40, 60, 3), shade, np.uint8)).save(picture, "PNG")
            (self.pictures / f"{shade}.png").write_bytes(picture.getvalue())

    def write(self, broker: str = NO_BROKER, *, plan: str = "cut = 0\nrung = 'q8'",
              more: str = "") -> None:
        self.config.write_text(
            f'id = "pi"\nstate_dir = "{self.folder / "state"}"\n'
            f'[model]\nbundle = "{self.bundle}"\n[plan]\n{plan}\n[broker]\nurl = "{broker}"\n'
            f'[source]\nkind = "folder"\npath = "{self.pictures}"\nloop = true\n'
            f'[frame]\nmax_fps = 10\n[result]\njournal = "{self.folder / "journal.jsonl"}"\n'
            f'{more}\n')

    def frames(self) -> int:
        journal = self.folder / "journal.jsonl"
        return len(journal.read_text().splitlines()) if journal.exists() else 0

    def wait_for_frames(self, more: int) -> None:
        wanted = self.frames() + more
        wait_until(lambda: self.frames() >= wanted, 20, f"{more} more frames")


@pytest.fixture
def program() -> str:
    return "edge_agent.cli"


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path)


def test_it_is_ready_with_its_model_and_no_broker_and_says_so(systemd, files, run):
    files.write()
    running = run()
    systemd.wait("READY")
    # The source runs from here on; a little later the rate is known.
    files.wait_for_frames(5)
    status = systemd.words[systemd.wait(
        "STATUS", lambda text: "p95" in text, timeout_s=STATUS_WAIT_S) - 1].value
    assert re.fullmatch(r"no broker \(.*\); (\d+ results kept for the broker; )?"
                        r"cut 0 q8 at no worker, \d+\.\d/s, p95 \d+ ms(, \d+ late)?", status)
    assert running.stop() == 0
    systemd.wait("STOPPING")
    keys = [w.key for w in systemd.words]
    assert keys[0] == "STATUS" and systemd.words[0].value == "loading"
    assert keys.index("READY") < keys.index("STOPPING") and keys.count("READY") == 1
    log = running.log()
    assert log.index("event=started") < log.index("event=stopped") and "Traceback" not in log


def test_its_status_names_cut_worker_rate_and_p95(tmp_path, systemd, files, run):
    with Rig(tmp_path) as rig:
        worker = rig.worker()
        rig.wait_for_worker(worker)
        files.write(rig.device_url)
        run()
        systemd.wait("READY")
        systemd.wait("STATUS", lambda text: re.fullmatch(
            r"cut 0 q8 at worker-1, \d+\.\d/s, p95 \d+ ms(, \d+ late)?", text) is not None,
            timeout_s=2 * STATUS_WAIT_S)


def test_a_good_reload_takes_force_between_two_frames(systemd, files, run):
    files.write()
    running = run()
    heard = systemd.wait("READY")
    pid, before = running.process.pid, files.frames()
    files.wait_for_frames(2)
    files.write(plan="cut = 0\nrung = 'q4'", more='[service]\nlog_level = "warning"')
    running.reload()
    # READY, not sooner than RELOADING: `systemctl reload` waits for it.
    heard = systemd.wait("READY", after=systemd.wait("RELOADING", after=heard))
    systemd.wait("STATUS", lambda text: "cut 0 q4" in text, timeout_s=STATUS_WAIT_S)
    files.wait_for_frames(3)
    assert running.process.poll() is None and running.process.pid == pid
    assert running.stop() == 0
    ids = [json.loads(line)["frame_id"]
           for line in (files.folder / "journal.jsonl").read_text().splitlines()]
    assert len(ids) > before + 5 and sorted(ids) == list(range(1, len(ids) + 1)), (
        "every frame ended once")
    # The other log level is in force: nothing but warnings after the reload.
    assert "event=stopped" not in running.log()


def test_a_reload_names_what_takes_a_restart(systemd, files, run):
    files.write()
    running = run()
    heard = systemd.wait("READY")
    files.write("mqtt://127.0.0.1:10")
    running.reload()
    systemd.wait("READY", after=systemd.wait("RELOADING", after=heard))
    assert "restart_needed_for=broker.url" in running.wait_for_log("event=reloaded")
    systemd.wait("STATUS", lambda text: "restart for new broker.url" in text,
                 timeout_s=STATUS_WAIT_S)
    assert running.stop() == 0


@pytest.mark.parametrize("spoil, words", [
    (lambda f: f.config.write_text(f.config.read_text() + "[brokr]\n"),
     ["agent.toml", "unknown key brokr"]),
    (lambda f: f.config.write_text(f.config.read_text().replace("max_fps = 10", "max_fps = -1")),
     ["agent.toml", "frame.max_fps"]),
    (lambda f: f.config.write_text("id = [\n"), ["agent.toml"]),
    (lambda f: f.config.unlink(), ["agent.toml"]),
    (lambda f: f.bundle.write_bytes(b"no model"), ["m.split.tflite"]),
], ids=["unknown-key", "bad-value", "no-toml", "no-file", "bad-model"])
def test_a_bad_reload_keeps_what_was_in_force(systemd, files, run, spoil, words):
    files.write()
    running = run()
    heard = systemd.wait("READY")
    files.wait_for_frames(2)
    good, bundle = files.config.read_text(), files.bundle.read_bytes()
    # By another file in its place, as packages and editors do: the old one is mapped.
    files.bundle.rename(files.folder / "old")
    files.bundle.write_bytes(bundle)
    spoil(files)
    running.reload()
    systemd.wait("READY", after=systemd.wait("RELOADING", after=heard))
    refusal = running.wait_for_log("event=reload-refused")
    for word in words:
        assert word in refusal
    assert "the settings from before stay in force" in refusal
    systemd.wait("STATUS", lambda text: "reload refused, settings from before in force" in text
                 and words[0] in text, timeout_s=STATUS_WAIT_S)
    files.wait_for_frames(3)
    # Mended, it is taken, and the complaint is gone.
    files.config.write_text(good)
    files.bundle.unlink()
    files.bundle.write_bytes(bundle)
    heard = len(systemd.words)
    running.reload()
    running.wait_for_log("event=reloaded")
    systemd.wait("STATUS", lambda text: "reload refused" not in text, after=heard,
                 timeout_s=STATUS_WAIT_S)
    assert running.stop() == 0, "the exit code is that of a stop"
    assert "Traceback" not in running.log()


def test_the_watchdog_is_fed_while_all_is_well(systemd, files, run):
    files.write()
    began_s = time.monotonic()
    run(watchdog_s=1.5)
    systemd.wait("READY")
    for _ in range(6):
        systemd.wait("WATCHDOG", after=len(systemd.words), timeout_s=1.5)
    ready_s = next(w.at_s for w in systemd.words if w.key == "READY")
    assert began_s < ready_s
    fed = [w.at_s for w in systemd.words if w.key == "WATCHDOG"]
    assert all(b - a < 1.5 for a, b in zip([ready_s, *fed], fed)), "systemd would have killed it"


def test_it_is_fed_without_frames_too(systemd, files, run):
    """An idle agent is a healthy one."""
    files.write()
    files.config.write_text(files.config.read_text().replace('"folder"', '"none"'))
    run(watchdog_s=1.5)
    systemd.wait("READY")
    for _ in range(4):
        systemd.wait("WATCHDOG", after=len(systemd.words), timeout_s=1.5)


@pytest.mark.parametrize("thread, name", [("inference", "inference"), ("mqtt-", "network")])
def test_a_thread_that_hangs_starves_the_watchdog_and_is_named(systemd, files, run, thread, name):
    files.write()
    running = run(watchdog_s=3.0, hang=thread)
    systemd.wait("READY")
    systemd.wait("WATCHDOG", timeout_s=30)
    running.hang_now()
    line = running.wait_for_log("event=standing-still", 40)
    assert f"thread='{name}'" in line
    # One feeding may have been under way; after that, none for longer than systemd waits.
    fed, since_s = len(systemd.said("WATCHDOG")), time.monotonic()
    other = {"inference": "network", "network": "inference"}[name]
    while time.monotonic() - since_s < 4.0:
        assert running.process.poll() is None
        time.sleep(0.1)
    assert len(systemd.said("WATCHDOG")) == fed
    assert f"standing-still thread='{other}'" not in running.log()
    # What systemd does then; where every thread was goes to the log.
    running.process.send_signal(signal.SIGABRT)
    assert running.process.wait(10) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in running.log()
    assert "sitecustomize.py" in running.log(), "the stack of the thread that hung"


@pytest.mark.parametrize("prepare, code, words", [
    (lambda f: f.config.write_text("[modle]\n"), 78, "unknown key modle"),
    (lambda f: f.bundle.write_bytes(b"no model"), 65, "m.split.tflite"),
    (lambda f: f.config.unlink(), 78, "agent.toml"),
])
def test_what_no_restart_cures_has_its_exit_code(systemd, files, run, prepare, code, words):
    files.write()
    prepare(files)
    running = run()
    assert running.process.wait(20) == code
    assert words in running.log() and "Traceback" not in running.log()
    assert systemd.said("READY") == []


def test_above_its_ceiling_it_ends_with_75(systemd, files, run):
    files.write(more="[service]\nmemory_max_mb = 64")
    # A process of ours that is filled for real, by what a test has put into it.
    running = run(hang="nothing", fill_mb=100)
    systemd.wait("READY")
    assert running.process.wait(30) == 75
    assert "event=memory-exceeded" in running.log() and "ceiling is 64 MB" in running.log()
    systemd.wait("STATUS", lambda text: "its ceiling is 64 MB" in text)


def test_a_reload_that_comes_while_the_model_loads_kills_nothing(systemd, files, run):
    files.write()
    running = run()
    systemd.wait("STATUS", "loading")
    running.reload()
    systemd.wait("READY")
    running.wait_for_log("event=reloaded")
    assert running.stop() == 0


def test_what_takes_long_before_there_is_an_agent_asks_for_more_time(systemd, files, monkeypatch):
    """A model on trial is tried, and one that nobody measured is measured: on a slow board that
    takes longer than systemd waits, and killed it would begin anew for ever."""
    def slow(_config):
        systemd.wait("EXTEND_TIMEOUT_USEC", "30000000")
        raise BundleError("enough")

    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    monkeypatch.setattr(host, "_EXTEND_EVERY_S", 0.05)
    monkeypatch.setattr(daemon, "EdgeAgent", slow)
    files.write()
    with pytest.raises(BundleError, match="enough"):
        daemon.run_agent(load_config(str(files.config)))


def test_json_is_all_that_is_logged_where_it_is_asked_for(systemd, files, run):
    files.write()
    running = run("--log-format", "json")
    systemd.wait("READY")
    running.stop()
    # But for what the interpreter, which is not ours, writes past the log.
    entries = [json.loads(line) for line in running.log().splitlines()
               if "TensorFlow Lite" not in line]
    events = {entry["event"] for entry in entries}
    assert {"started", "stopped"} <= events
    [started] = [e for e in entries if e["event"] == "started"]
    assert started["cut"] == 0 and started["rung"] == "q8" and started["level"] == "info"


def test_verbose_says_every_frame_and_else_only_inputs_that_are_none(systemd, files, run):
    files.write()
    (files.pictures / "broken.png").write_bytes(b"no picture")
    running = run("--verbose")
    systemd.wait("READY")
    files.wait_for_frames(6)
    assert running.stop() == 0
    said = [line for line in running.log().splitlines() if "event=frame " in line]
    # Said as they end, and so is each that is in the journal.
    assert len(said) >= files.frames() >= 6 and "reason='link down'" in running.log()
    assert "broken.png' reason=" in running.log()


def test_a_frame_is_no_news(systemd, files, run):
    files.write()
    (files.pictures / "broken.png").write_bytes(b"no picture")
    running = run()
    systemd.wait("READY")
    files.wait_for_frames(6)
    assert running.stop() == 0
    assert "event=frame " not in running.log()
    assert "event=input-refused" in running.log() and "no picture" in running.log()


def test_no_systemd_is_no_trouble(files, tmp_path):
    files.write()
    with service(None, tmp_path / "log", "edge_agent.cli", "run", "-c",
                 str(files.config)) as running:
        running.wait_for_log("event=started")
        files.wait_for_frames(3)
        os.kill(running.process.pid, signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert "notify" not in running.log()
