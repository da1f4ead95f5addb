"""A worker with its page and an agent with its metrics, both in this process, on a real broker."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from cloud_side.config import StoreConfig, WorkerConfig
from cloud_side.observers.base import WorkerObserver
from cloud_side.web.config import StatusConfig
from cloud_side.web.status import StatusPage, status_parts
from cloud_side.worker import CloudWorker
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig
from edge_agent.observers.base import Observer
from split_core.config import BrokerConfig
from tests.support.history import History
from tests.support.rig import Device


@contextlib.contextmanager
def observed_worker(directory: Path, url: str, *more: WorkerObserver, worker_id: str = "worker-1",
                    **status) -> Iterator[tuple[CloudWorker, StatusPage]]:
    """A worker that serves, and its page on a free port."""
    worker = CloudWorker(WorkerConfig(
        id=worker_id, broker=BrokerConfig(url=url), store=StoreConfig(str(directory / "store")),
        state_dir=str(directory / "state"),
        status=StatusConfig(**({"listen": "127.0.0.1:0"} | status))))
    parts = status_parts(worker)
    for part in (*parts, *more):
        worker.attach(part)
    with parts[-1] as page:
        worker.start()
        try:
            yield worker, page
        finally:
            worker.stop()


@contextlib.contextmanager
def observed_device(bundle: Path, url: str, *parts, device_id: str = "device-1", cut: int = 1,
                    deadline_ms: float = 5000.0) -> Iterator[Device]:
    """A device; ``parts`` are functions that make an observer of an agent."""
    history = History()
    agent = EdgeAgent(AgentConfig(
        model=ModelConfig(str(bundle)), id=device_id, broker=BrokerConfig(url=url),
        plan=PlanConfig(cut=cut, rung="raw"), frame=FrameConfig(deadline_ms=deadline_ms)),
        on_answer=history.on_answer)
    made: list[Observer] = [part(agent) for part in parts]
    with contextlib.ExitStack() as stack:
        for observer in made:
            agent.attach(observer)
            if isinstance(observer, contextlib.AbstractContextManager):
                stack.enter_context(observer)
        stack.enter_context(agent)
        device = Device(agent, history, 20)
        device.wait_until_ready()
        yield device


def fetch(url: str) -> tuple[int, str]:
    """Status and text of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read().decode()


def fleet_of(page: StatusPage) -> dict:
    """What the page shows now; the server shares an answer for a second."""
    return page._watch.snapshot()


def fleet_json(page: StatusPage) -> dict:
    return json.loads(fetch(page.url + "fleet.json")[1])
