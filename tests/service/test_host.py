"""What a daemon owes its host, part by part put together: start, status, troubles."""

from __future__ import annotations

import threading
import time

import pytest

from split_core.service import host as host_module
from split_core.service.config import ServiceConfig
from split_core.service.host import Host, starting
from split_core.service.notify import Notifier
from split_core.service.watchdog import Watchdog, watch_calls
from tests.support.rig import wait_until


@pytest.fixture
def host(systemd, monkeypatch) -> Host:
    """Not entered: pytest's own signal handlers stay."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    failed: list[BaseException] = []
    host = Host(ServiceConfig(memory_max_mb=0), status=lambda: "fine", fail=failed.append,
                stop=lambda: None, apply=lambda: (), notifier=Notifier(systemd.address))
    host.failed = failed
    return host


def test_a_start_that_takes_long_asks_for_more_time_until_it_is_over(host, systemd, monkeypatch):
    monkeypatch.setattr(host_module, "_EXTEND_EVERY_S", 0.05)
    with starting(host.notifier):
        systemd.wait("EXTEND_TIMEOUT_USEC", "30000000",
                     after=systemd.wait("EXTEND_TIMEOUT_USEC", "30000000"))
    asked = len(systemd.said("EXTEND_TIMEOUT_USEC"))
    time.sleep(0.2)
    assert len(systemd.said("EXTEND_TIMEOUT_USEC")) == asked
    assert systemd.said("STATUS")[0] == "loading" and "READY" not in {w.key for w in systemd.words}


def test_a_start_that_fails_stops_asking(host, systemd, monkeypatch):
    monkeypatch.setattr(host_module, "_EXTEND_EVERY_S", 0.05)
    with pytest.raises(RuntimeError), starting(host.notifier):
        raise RuntimeError
    assert not [t for t in threading.enumerate() if t.name == "starting"]


def test_the_status_follows_readiness_and_repeats_when_it_changes(host, systemd, monkeypatch):
    monkeypatch.setattr(host_module, "_LOOK_S", 0.01)
    monkeypatch.setattr(host_module, "STATUS_S", 0.02)
    texts = iter(["one", "one", "two"])
    host._status = lambda: next(texts, "three")
    host.ready([])
    systemd.wait("STATUS", "three", after=systemd.wait("READY"))
    assert systemd.said("STATUS") == ["one", "two", "three"]
    host.__exit__(None, None, None)


def test_a_status_that_raises_costs_a_line_and_not_the_daemon(host, systemd, monkeypatch, caplog):
    monkeypatch.setattr(host_module, "_LOOK_S", 0.01)

    def status() -> str:
        raise KeyError("x")

    host._status = status
    host.ready([])
    systemd.wait("STATUS", lambda text: "no status line: KeyError" in text)
    wait_until(lambda: "event=bug" in caplog.text, 5, "the bug in the log")
    assert host.failed == []
    host.__exit__(None, None, None)


def test_what_ended_it_is_its_last_status(host, systemd):
    host.__exit__(ValueError, ValueError("no such thing"), None)
    systemd.wait("STATUS", "ended: no such thing")


def test_troubles_are_said_in_words(host, monkeypatch):
    assert host.troubles() == []
    host.reloader.restart_needed = ("id", "broker.url")
    assert host.troubles() == ["restart for new id, broker.url"]
    host.reloader.trouble = "agent.toml: unknown key x"
    host.watchdog = Watchdog([watch_calls("network", lambda turn: None)], host.notifier, 30.0,
                             now_s=0.0)
    host.watchdog.tick(10.0)
    host.use(ServiceConfig(memory_max_mb=100))
    host.memory.used_bytes, host.memory.is_near = 90 << 20, True
    assert host.troubles() == [
        "network stands still",
        "reload refused, settings from before in force: agent.toml: unknown key x",
        "memory 90 of 100 MB"]
