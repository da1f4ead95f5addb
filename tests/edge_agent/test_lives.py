"""What is left of an agent's parts when they end, and what ends with none of them begun. No broker.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_agent.agent import EdgeAgent, StoppedEarly
from edge_agent.config import AgentConfig, ModelConfig, PlanConfig, ResultConfig, SourceConfig
from edge_agent.control.adaptation import Adaptation
from edge_agent.daemon import run_agent
from edge_agent.frames import Outcome
from edge_agent.machine import Machine
from edge_agent.observers.base import Observer
from split_core.config import BrokerConfig
from split_core.errors import BundleError, StorageFailed
from split_core.model.bundle import open_bundle
from split_core.wire.records import WorkerStatus, dump
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.tiny_models import input_like


class Watched(Machine):
    """The board, and whether the interpreters that it has made are still there."""

    def __init__(self):
        self.runners = []

    def runner(self, bundle, config):
        made = super().runner(bundle, config)
        self.runners.append(weakref.ref(made))
        return made


@pytest.fixture
def bundles(tmp_path) -> list[str]:
    made = []
    for seed in (1, 2):
        (tmp_path / "m.tflite").write_bytes(tiny_models.skip_model(seed))
        path = tmp_path / f"{seed}.split.tflite"
        path.write_bytes(split_model(tmp_path / "m.tflite"))
        made.append(str(path))
    return made


def config_of(bundle: str, tmp_path, **more) -> AgentConfig:
    last_cut = open_bundle(bundle).last_cut
    return AgentConfig(model=ModelConfig(bundle), id="device", plan=PlanConfig(cut=last_cut),
                       state_dir=str(tmp_path / "state"), **more)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_one_that_never_started_can_be_stopped(bundles, tmp_path):
    EdgeAgent(config_of(bundles[0], tmp_path)).stop()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_one_that_cannot_be_made_leaves_no_descriptor(bundles, tmp_path):
    config = config_of(bundles[0], tmp_path)
    Path(bundles[0]).write_bytes(b"no bundle")
    with without_collector():
        before = descriptors()
        for _ in range(3):
            with pytest.raises(BundleError):
                EdgeAgent(config)
        assert descriptors() == before


def test_nor_does_one_that_never_connected(bundles, tmp_path):
    with without_collector():
        before = descriptors()
        for _ in range(3):
            agent = EdgeAgent(config_of(bundles[0], tmp_path), ephemeral=True)
            agent.set_local()
            with agent:
                pass
        assert descriptors() == before


class Slow(Machine):
    """Takes as long over a model as the test wants."""

    def __init__(self):
        self.go = threading.Event()

    def runner(self, bundle, config):
        assert self.go.wait(30)
        return super().runner(bundle, config)


def test_told_to_stop_while_its_model_loads_it_waits_no_longer(bundles, tmp_path):
    machine = Slow()
    agent = EdgeAgent(config_of(bundles[0], tmp_path), ephemeral=True, machine=machine)
    agent.set_local()
    threading.Timer(0.2, agent.request_stop).start()
    try:
        with pytest.raises(StoppedEarly):
            agent.start()
    finally:
        machine.go.set()
        agent.stop()


def test_as_a_service_that_is_a_good_end(bundles, tmp_path, monkeypatch):
    def told(self):
        self.request_stop()
        self._raise_failure_or_stop()

    monkeypatch.setattr(EdgeAgent, "start", told)
    before = set(threading.enumerate())
    run_agent(config_of(bundles[0], tmp_path))
    left = {t.name for t in set(threading.enumerate()) - before}
    assert left <= {"signals"}


def test_one_that_cannot_start_leaves_no_thread(bundles, tmp_path, monkeypatch):
    """Its model runs by then."""
    def fail(_self):
        raise StorageFailed("no room for the journal")

    monkeypatch.setattr(Adaptation, "start", fail)
    config = msgspec.structs.replace(config_of(bundles[0], tmp_path), plan=PlanConfig())
    before = set(threading.enumerate())
    with pytest.raises(StorageFailed), EdgeAgent(config):
        raise AssertionError("started")
    assert set(threading.enumerate()) <= before


def test_what_the_callback_raises_is_said_once_and_harms_nothing(bundles, tmp_path, caplog):
    told = []

    def on_answer(answer):
        told.append(answer.frame_id)
        raise KeyError("of the caller")

    agent = EdgeAgent(config_of(bundles[0], tmp_path), on_answer, ephemeral=True)
    agent.set_local()
    image = input_like(agent.bundle.specs["image"], np.random.default_rng(1))
    with agent:
        assert [agent.infer(image).outcome for _ in range(3)] == [Outcome.LOCAL] * 3
    assert told == [1, 2, 3]
    failed = [r for r in caplog.records if "observer-failed" in r.message]
    assert len(failed) == 1 and "of the caller" in failed[0].exc_text


def test_who_looks_on_is_told_of_a_worker_without_the_lock(bundles, tmp_path):
    """Whatever it does, frames go on."""
    told = queue.Queue()

    class Looker(Observer):
        def on_worker(self, worker):
            told.put((worker, agent.wake._is_owned()))

    agent = EdgeAgent(config_of(bundles[0], tmp_path, broker=BrokerConfig("mqtt://127.0.0.1:9")),
                      ephemeral=True)
    agent.attach(Looker())
    with agent:
        status = WorkerStatus("ready", "01", (agent.bundle.id_hex,))
        agent.deployment.sender.on_worker_status("w", dump(status))
        assert told.get(timeout=20) == ("w", False)


def test_a_model_that_was_replaced_is_out_of_memory_at_once(bundles, tmp_path):
    """And not when the collector of cycles comes by, which in a quiet process is hours later."""
    machine = Watched()
    agent = EdgeAgent(config_of(bundles[0], tmp_path), ephemeral=True, machine=machine)
    agent.set_local()
    with agent, without_collector():
        for bundle in bundles[::-1] * 3:
            agent.reconfigure(config_of(bundle, tmp_path))
            image = input_like(agent.bundle.specs["image"], np.random.default_rng(1))
            assert agent.infer(image).outcome is Outcome.LOCAL
            assert [r() is not None for r in machine.runners] == (
                [False] * (len(machine.runners) - 1) + [True])
    assert len(machine.runners) == 7


def test_pictures_whose_names_are_no_text_are_answered_as_any_other(bundles, tmp_path):
    """Names of files are bytes. One that is no picture fails alone, whatever it is called."""
    folder = os.fsencode(tmp_path / "pictures")
    os.mkdir(folder)
    for name in (b"a\xff.png", b"b\xff.png"):
        with open(os.path.join(folder, name), "wb") as file:
            if name.startswith(b"b"):
                Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(file, "PNG")
            else:
                file.write(b"no picture")
    journal = tmp_path / "journal"
    run_agent(config_of(bundles[0], tmp_path, result=ResultConfig(journal=str(journal)),
                        source=SourceConfig(kind="folder", path=os.fsdecode(folder))))
    records = [msgspec.json.decode(line) for line in journal.read_bytes().splitlines()]
    found = {r["source"].rpartition("/")[2]: r["outcome"] for r in records}
    assert found["a?.png"] == "failed" and "b?.png" in found
