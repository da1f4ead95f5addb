"""A reload happens whole or not at all, on its own thread, and says what came of it."""

from __future__ import annotations

import logging
import threading

import pytest

from split_core.errors import BundleError, ConfigError
from split_core.settings.changed import changed_keys
from split_core.service.notify import Notifier
from split_core.service.reload import Reloader
from cloud_side.config import RunConfig, StoreConfig, WorkerConfig, WorkerServiceConfig
from cloud_side.settings import changes
from split_core.config import BrokerConfig
from tests.support.rig import wait_until

SILENT = Notifier(None)


def test_keys_that_differ_are_named_with_their_section():
    old = WorkerConfig(id="w")
    new = WorkerConfig(id="w2", broker=BrokerConfig(keepalive_s=9), run=RunConfig(threads=2))
    assert changed_keys(old, old) == ()
    assert set(changed_keys(old, new)) == {"id", "broker.keepalive_s", "run.threads"}


def test_a_worker_takes_bounds_as_it_runs_and_names_the_rest():
    old = WorkerConfig(id="w")
    new = WorkerConfig(
        id="w", run=RunConfig(max_queue=5, max_loaded=2, threads=4),
        store=StoreConfig(path="/elsewhere", max_mb=7, accept_from_devices=False),
        service=WorkerServiceConfig(memory_max_mb=100, log_level="warning"))
    config, left = changes(old, new)
    assert set(left) == {"run.threads", "store.path"}
    assert config.run == RunConfig(max_queue=5, max_loaded=2)
    assert config.store == StoreConfig(max_mb=7, accept_from_devices=False)
    assert config.service == new.service


def test_a_good_one_says_what_needs_a_restart(systemd, caplog):
    reloader = Reloader(lambda: ("broker.url", "id"), Notifier(systemd.address))
    with caplog.at_level(logging.INFO):
        assert reloader.now() == ("broker.url", "id")
    systemd.wait("READY", after=systemd.wait("RELOADING"))
    assert "event=reloaded restart_needed_for=broker.url,id" in caplog.text
    assert reloader.trouble == "" and reloader.restart_needed == ("broker.url", "id")


@pytest.mark.parametrize("error, words", [
    (ConfigError("agent.toml: unknown key brokr"), "agent.toml: unknown key brokr"),
    (BundleError("m.split.tflite is damaged"), "m.split.tflite is damaged"),
    (KeyError("x"), "internal error: KeyError: 'x'"),
])
def test_a_bad_one_is_refused_in_words_and_forgotten_after_a_good_one(systemd, caplog, error,
                                                                     words):
    wrong = [error]

    def apply() -> tuple[str, ...]:
        if wrong:
            raise wrong[0]
        return ()

    reloader = Reloader(apply, Notifier(systemd.address))
    with pytest.raises(type(error)):
        reloader.now()
    # systemd must not wait for ever for the end of a reload that was refused.
    systemd.wait("READY", after=systemd.wait("RELOADING"))
    assert reloader.trouble == words
    assert "event=reload-refused" in caplog.text and "stay in force" in caplog.text
    wrong.clear()
    reloader.now()
    assert reloader.trouble == ""


def test_without_a_file_there_is_nothing_to_read():
    with pytest.raises(ConfigError, match="no file to read"):
        Reloader(None, SILENT).now()


def test_requests_are_served_on_a_thread_of_their_own_after_the_start():
    where: list[str] = []

    def apply() -> tuple[str, ...]:
        where.append(threading.current_thread().name)
        return ()

    reloader = Reloader(apply, SILENT)
    reloader.request()                    # while the model is still being loaded
    assert where == []
    reloader.start()
    wait_until(lambda: where == ["reload"], 5, "the reload that was asked for before")
    reloader.request()
    wait_until(lambda: len(where) == 2, 5, "another one")
    reloader.stop()


def test_one_that_fails_does_not_keep_the_next_from_being_served():
    outcomes = iter([ConfigError("no"), RuntimeError("bug"), ()])
    done = threading.Event()

    def apply() -> tuple[str, ...]:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        done.set()
        return outcome

    reloader = Reloader(apply, SILENT)
    reloader.start()
    reloader.request()
    wait_until(lambda: reloader.trouble == "no", 5, "the first refusal")
    reloader.request()
    wait_until(lambda: "bug" in reloader.trouble, 5, "the second refusal")
    reloader.request()
    assert done.wait(5)
    reloader.stop()


def test_many_requests_while_one_is_served_are_one():
    begun, go, count = threading.Semaphore(0), threading.Event(), [0]

    def apply() -> tuple[str, ...]:
        count[0] += 1
        begun.release()
        go.wait(5)
        return ()

    reloader = Reloader(apply, SILENT)
    reloader.start()
    reloader.request()
    assert begun.acquire(timeout=5)
    for _ in range(5):
        reloader.request()
    go.set()
    assert begun.acquire(timeout=5)
    assert not begun.acquire(timeout=0.2) and count[0] == 2
    reloader.stop()
