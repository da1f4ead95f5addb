"""The provider `exec`: commands that hang, fail, flood, print nonsense, or are not there."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time

import pytest

from edge_agent.sensors.command import Command
from edge_agent.sensors.health import Health
from edge_agent.sensors.report import MAX_REPORT_BYTES

PLENTY_S = 30.0


def sh(script: str, timeout_s: float = PLENTY_S, every_s: float = 10.0) -> Command:
    return Command(("/bin/sh", "-c", script), timeout_s=timeout_s, every_s=every_s)


@pytest.fixture(autouse=True)
def no_child_is_left(monkeypatch):
    """Every process that was started has been waited for."""
    started = []

    class Watched(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    yield
    assert all(process.returncode is not None for process in started)


def test_what_it_prints_counts():
    health = sh("""echo '{"battery_percent": 87, "mains": 0}'""").read(0.0)
    assert health == Health.of("exec", battery_ratio=0.87, mains=False)


def test_arguments_see_no_shell():
    report = '{"power_w": 4}; echo $HOME'
    command = Command(("/bin/echo", report), timeout_s=PLENTY_S, every_s=10.0)
    assert command.read(0.0) == Health()         # printed as it is, it is no JSON


def test_it_runs_again_only_when_it_is_due(tmp_path):
    count = tmp_path / "count"
    command = sh(f"echo >> {count}; wc -l < {count} | sed 's/.*/{{\"power_w\": &}}/'")
    found = [command.read(now_s).power_w for now_s in (0.0, 9.9, 10.0, 19.9, 20.0)]
    assert found == [1.0, 1.0, 2.0, 2.0, 3.0]


@pytest.mark.parametrize(("script", "reason"), [
    ("echo '{\"power_w\": 4}'; exit 3", "exit code 3, wanted 0"),
    ("echo '{\"power_w\": 4}'; kill -9 $$", "exit code -9, wanted 0"),
    ("echo nothing", "not JSON"),
    ("exit 0", "not JSON"),
    ("echo '[]'", "a JSON list, wanted an object"),
    (f"head -c {MAX_REPORT_BYTES + 1} /dev/zero", f"more than {MAX_REPORT_BYTES} bytes"),
    ("cat /dev/zero", f"more than {MAX_REPORT_BYTES} bytes"),
])
def test_a_bad_run_is_unknown_and_says_why_once(script, reason, caplog):
    command = sh(script)
    with caplog.at_level(logging.WARNING):
        assert command.read(0.0) == Health()
        assert command.read(100.0) == Health()
    (record,) = caplog.records
    assert reason in record.getMessage()


def test_a_good_run_after_a_bad_one_is_known(tmp_path):
    command = sh(f"cat {tmp_path / 'report'}")
    assert command.read(0.0) == Health()
    (tmp_path / "report").write_text('{"power_w": 4}')
    assert command.read(10.0).power_w == 4.0
    (tmp_path / "report").unlink()
    assert command.read(20.0) == Health()        # the last run decides


@pytest.mark.parametrize("program", ["/nowhere/at/all", "/etc/passwd", "/"])
def test_what_cannot_be_run_is_unknown(program, caplog):
    assert Command((program,), timeout_s=1.0, every_s=10.0).read(0.0) == Health()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("script", [
    "exec sleep 600",
    "trap '' TERM HUP INT; sleep 600; sleep 600",
    "exec >&-; sleep 600",                       # closed its output, and stays
    "sleep 600 & exit 0",                        # gone, but what it started holds the output
    "echo '{\"power_w\": 4}'; sleep 600",
    "while true; do printf ' '; sleep 0.01; done",
])
def test_one_that_hangs_is_ended(script):
    command = sh(script, timeout_s=0.3)
    began_s = time.monotonic()
    assert command.read(0.0) == Health()
    assert time.monotonic() - began_s < PLENTY_S


def test_what_it_started_ends_with_it(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY)
    # The grandchild alone keeps the FIFO open, once we have closed our own end.
    command = Command(("/bin/sh", "-c", f"sleep 600 > {fifo} & wait"), timeout_s=0.5,
                      every_s=10.0)
    assert command.read(0.0) == Health()
    os.close(writer)
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""             # would wait for ever while it lives
    os.close(reader)


def test_close_ends_a_run_that_is_under_way_and_starts_no_more(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = sh(f": > {fifo}; sleep 600", timeout_s=600.0, every_s=1.0)
    found = []
    thread = threading.Thread(target=lambda: found.append(command.read(0.0)))
    thread.start()
    fifo.open().close()                          # waits until the command runs
    command.close()
    thread.join(PLENTY_S)
    assert found == [Health()]
    assert command.read(10.0) == Health()
