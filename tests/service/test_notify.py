"""The protocol of sd_notify(3), on real sockets."""

from __future__ import annotations

import logging
import os
import socket
import time

import pytest

from split_core.service.notify import Notifier
from tests.service.fake_systemd import FakeSystemd


def say_everything(notifier: Notifier) -> None:
    notifier.status("loading")
    notifier.more_time(30)
    notifier.ready()
    notifier.feed_watchdog()
    notifier.reloading()
    notifier.stopping()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_every_word_is_heard(tmp_path, kind):
    address = str(tmp_path / "s") if kind == "path" else f"@edge-agent-test-{os.getpid()}"
    before_us = time.monotonic_ns() // 1000
    with FakeSystemd(address) as systemd:
        say_everything(Notifier(address))
        systemd.wait("STOPPING")
    words = [(w.key, w.value) for w in systemd.words if w.key != "MONOTONIC_USEC"]
    assert words == [("STATUS", "loading"), ("EXTEND_TIMEOUT_USEC", "30000000"), ("READY", "1"),
                     ("WATCHDOG", "1"), ("RELOADING", "1"), ("STOPPING", "1")]
    # In the same datagram as RELOADING, which systemd 253 and later demands.
    keys = [w.key for w in systemd.words]
    assert keys[keys.index("RELOADING") + 1] == "MONOTONIC_USEC"
    assert before_us <= int(systemd.said("MONOTONIC_USEC")[0]) <= time.monotonic_ns() // 1000


def test_reloading_and_its_moment_are_one_datagram(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.settimeout(5)
        Notifier(str(tmp_path / "s")).reloading()
        assert listener.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative"])
def test_nobody_is_told_where_nobody_listens(address, caplog):
    say_everything(Notifier(address))
    assert not caplog.records


def test_a_socket_that_is_gone_is_said_once_and_harms_nothing(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        say_everything(Notifier(str(tmp_path / "gone")))
    assert [r.getMessage().split()[0] for r in caplog.records] == ["event=notify-failed"]


def test_a_status_is_one_line_and_said_when_it_changes(systemd):
    notifier = Notifier(systemd.address)
    notifier.status("2 errors:\n  one\n  two")
    notifier.status("2 errors:\n  one\n  two")
    notifier.status("fine")
    systemd.wait("STATUS", "fine")
    assert systemd.said("STATUS") == ["2 errors: one two", "fine"]


def test_the_address_is_the_environments(monkeypatch, systemd):
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    Notifier.of_environment().ready()
    systemd.wait("READY")
    monkeypatch.delenv("NOTIFY_SOCKET")
    Notifier.of_environment().stopping()
    assert systemd.said("READY") and not systemd.said("STOPPING"), "without it nobody is told"
