"""`cloud-worker run` as systemd meets it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cloud_side.store import BundleStore
from split_core.model.bundle import open_bundle
from split_core.service.host import STATUS_S
from split_lab.split import split_model
from tests.service.fake_systemd import service
from tests.support import tiny_models
from tests.support.brokers import Mosquitto

NO_BROKER = "mqtt://127.0.0.1:9"
STATUS_WAIT_S = STATUS_S + 10


class Files:
    """A configuration, and a store with one bundle."""

    def __init__(self, folder: Path):
        self.folder, self.config = folder, folder / "w1.toml"
        model, bundle = folder / "m.tflite", folder / "m.split.tflite"
        model.write_bytes(tiny_models.skip_model())
        bundle.write_bytes(split_model(model))
        store = BundleStore(folder / "store", 1 << 30)
        store.path(open_bundle(bundle).sha256).write_bytes(bundle.read_bytes())

    def write(self, broker: str = NO_BROKER, *, run: str = "", more: str = "") -> None:
        self.config.write_text(
            f'id = "w1"\nstate_dir = "{self.folder / "state"}"\n[broker]\nurl = "{broker}"\n'
            f'[store]\npath = "{self.folder / "store"}"\n[run]\n{run}\n{more}\n')


@pytest.fixture
def program() -> str:
    return "cloud_side.cli"


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path)


def test_it_is_ready_when_what_it_holds_is_loaded_whatever_the_broker_does(systemd, files, run):
    files.write()
    running = run()
    systemd.wait("READY")
    assert "event=bundle-loaded" in running.log(), "not before"
    systemd.wait("STATUS", lambda text: text.startswith("no broker (")
                 and "1 bundles in memory, 0.0/s, 0 of 16 wait" in text, timeout_s=STATUS_WAIT_S)
    assert running.stop() == 0
    systemd.wait("STOPPING")
    assert "Traceback" not in running.log()


def test_connected_its_status_has_no_complaint(tmp_path, systemd, files, run):
    with Mosquitto(tmp_path) as broker:
        files.write(f"mqtt://127.0.0.1:{broker.port}")
        running = run()
        systemd.wait("STATUS", "1 bundles in memory, 0.0/s, 0 of 16 wait",
                     timeout_s=2 * STATUS_WAIT_S)
        assert running.stop() == 0


def test_a_good_reload_takes_bounds_and_names_what_takes_a_restart(systemd, files, run):
    files.write()
    running = run()
    heard = systemd.wait("READY")
    files.write(run="max_queue = 5\nthreads = 2")
    running.reload()
    systemd.wait("READY", after=systemd.wait("RELOADING", after=heard))
    assert "restart_needed_for=run.threads" in running.wait_for_log("event=reloaded")
    systemd.wait("STATUS", lambda text: "0 of 5 wait" in text
                 and "restart for new run.threads" in text, timeout_s=STATUS_WAIT_S)
    assert running.stop() == 0


def test_a_bad_reload_keeps_what_was_in_force(systemd, files, run):
    files.write(run="max_queue = 7")
    running = run()
    heard = systemd.wait("READY")
    files.write(run="max_queue = 0")
    running.reload()
    systemd.wait("READY", after=systemd.wait("RELOADING", after=heard))
    assert "run.max_queue is 0" in running.wait_for_log("event=reload-refused")
    systemd.wait("STATUS", lambda text: "0 of 7 wait" in text and "run.max_queue is 0" in text,
                 timeout_s=STATUS_WAIT_S)
    assert running.stop() == 0


def test_started_by_flags_it_has_no_file_to_read(systemd, files, tmp_path):
    with service(systemd, tmp_path / "log", "cloud_side.cli", "run", "--broker", NO_BROKER,
                 "--store", str(tmp_path / "store"), "--state", str(tmp_path)) as running:
        systemd.wait("READY")
        running.reload()
        assert "no file to read" in running.wait_for_log("event=reload-refused")
        assert running.stop() == 0


def test_the_watchdog_is_fed_idle_and_starved_by_a_tail_that_hangs(systemd, files, run):
    files.write()
    running = run(watchdog_s=3.0, hang="tail")
    systemd.wait("READY")
    for _ in range(4):
        systemd.wait("WATCHDOG", after=len(systemd.words), timeout_s=3.0)
    running.hang_now()
    assert "thread='tail'" in running.wait_for_log("event=standing-still", 10)
    fed, since_s = len(systemd.said("WATCHDOG")), time.monotonic()
    while time.monotonic() - since_s < 4.0:
        assert running.process.poll() is None
        time.sleep(0.1)
    assert len(systemd.said("WATCHDOG")) == fed
    assert "standing-still thread='network'" not in running.log()


def test_a_store_that_cannot_be_is_no_case_for_a_restart(systemd, files, run, tmp_path):
    files.write()
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    (tmp_path / "store").write_text("a file")
    running = run()
    assert running.process.wait(20) == 78
    assert "cannot make the store" in running.log() and systemd.said("READY") == []
