"""All of it, put together for a test: a real broker, real workers in processes of their own
that can be killed and stopped, and agents in this process, on a good link or a bad one.

    with Rig(tmp_path, proxied=True) as rig:
        worker = rig.worker()
        device = rig.device(bundle, deadline_ms=500)
        with device.feeding(rate_hz=10):
            worker.kill()
            ...

Everything that the rig starts it stops, by its handle and within a bounded time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig, ResultConfig
from split_core.config import BrokerConfig
from split_core.model.bundle import Bundle
from split_core.wire.topics import Topics
from tests.support.brokers import Mosquitto, amqtt_broker
from tests.support.history import History
from tests.support.netns import Link
from tests.support.observer import Observer, Seen
from split_lab.link import Proxy
from tests.support.tiny_models import input_like

ROOT = Path(__file__).resolve().parents[2]
# A worker imports a runtime and loads a bundle; on a busy machine with two cores that has
# taken up to 6 s.
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """For what announces itself to nobody: look every few milliseconds."""
    limit_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > limit_s:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        time.sleep(0.002)


class WorkerProcess:
    """A `cloud-worker run` with its store and its log below ``directory``."""

    def __init__(self, directory: Path, url: str, worker_id: str, *options: str,
                 inside: tuple[str, ...] = ()):
        self.id, self.store = worker_id, directory / f"store-{worker_id}"
        self._log_path = directory / f"worker-{worker_id}.log"
        self._command = [*inside, sys.executable, "-m", "cloud_side.cli", "run", "--broker", url,
                         "--store", str(self.store), "--state",
                         str(directory / f"state-{worker_id}"), "--id", worker_id, *options]
        self._process: subprocess.Popen | None = None

    def start(self) -> WorkerProcess:
        """Begin; it is ready some time later (`Rig.wait_for_worker`)."""
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)
        return self

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)

    def pause(self) -> None:
        """SIGSTOP: it holds its connection and does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int | None:
        """SIGTERM, and SIGKILL for one that does not listen; its exit code."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return process and process.returncode
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)
        return process.returncode

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")


class Device:
    """An agent in this process, and the history of its frames."""

    def __init__(self, agent: EdgeAgent, history: History, seed: int):
        self.agent, self.history = agent, history
        rng = np.random.default_rng(seed)
        print(f"seed {seed}")
        states = {s.input for s in agent.bundle.manifest.states}
        names = [n for n in agent.bundle.manifest.inputs if n not in states]
        self.inputs = [{n: input_like(agent.bundle.specs[n], rng) for n in names}
                       for _ in range(8)]
        self._handed_in = 0
        self._lock = threading.Lock()

    def offer(self) -> int:
        """Hand in the next input of the pool; the id it got."""
        with self._lock:
            arrays = self.inputs[self._handed_in % len(self.inputs)]
            self._handed_in += 1
            frame_id = self.agent.offer(arrays)
            self.history.on_offer(frame_id)
        return frame_id

    @contextlib.contextmanager
    def feeding(self, rate_hz: float) -> Iterator[None]:
        """Frames at a steady rate from a thread of their own, as a camera gives them."""
        stop = threading.Event()

        def feed() -> None:
            next_s = time.monotonic()
            while not stop.wait(max(0.0, next_s - time.monotonic())):
                self.offer()
                # A camera does not catch up what it missed.
                next_s = max(next_s + 1 / rate_hz, time.monotonic())

        thread = threading.Thread(target=feed, name="feeder")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(STOP_TIMEOUT_S)

    def wait_until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until nothing is in the way of a remote answer."""
        wait_until(lambda: self.agent.missing() is None, timeout_s, "a worker with the bundle")

    def wait_for_frames(self, count: int, timeout_s: float) -> None:
        """Until ``count`` more frames have ended than had when this was called."""
        wanted = len(self.history.ends) + count
        self.history.wait(lambda: len(self.history.ends) >= wanted, timeout_s,
                          f"{count} more answers")


class Rig:
    """One broker with all that is connected to it.

    With ``proxied`` devices reach it through `proxy`, with ``link`` through that; workers and
    the observer have good connections always.
    """

    def __init__(self, directory: Path, *, broker: str = "mosquitto", proxied: bool = False,
                 link: Link | None = None):
        self.directory, self.topics = directory, Topics()
        self._kind, self._proxied, self._link = broker, proxied, link
        self._stack = contextlib.ExitStack()
        self.broker: Mosquitto | None = None
        self.proxy: Proxy | None = None
        self.url = self.device_url = ""

    def __enter__(self) -> Rig:
        with contextlib.ExitStack() as stack:
            if self._link is not None:
                port = self._link.start_broker(self.directory)
            elif self._kind == "mosquitto":
                self.broker = stack.enter_context(Mosquitto(self.directory))
                port = self.broker.port
            else:
                port = stack.enter_context(amqtt_broker(self.directory))
            self.url = self.device_url = f"mqtt://127.0.0.1:{port}"
            if self._proxied:
                self.proxy = stack.enter_context(Proxy(port))
                self.device_url = f"mqtt://127.0.0.1:{self.proxy.port}"
            if self._link is not None:
                self.device_url = f"mqtt://{self._link.far_address}:{port}"
            root = self.topics.root
            if self._link is None:      # the other end of a link is another network
                self.observer = Observer(self.url, f"{root}/+/up/#",
                                         f"{root}/_pool/+/up/#").start()
                stack.callback(self.observer.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc) -> None:
        self._stack.close()

    # -- workers

    def worker(self, worker_id: str = "worker-1", *options: str) -> WorkerProcess:
        """A worker that has been started, on the broker itself."""
        worker = WorkerProcess(self.directory, self.url, worker_id, *options,
                               inside=self._link.inside if self._link else ())
        self._stack.callback(worker.stop)
        return worker.start()

    def wait_for_worker(self, worker: WorkerProcess, bundle: Bundle | None = None, *,
                        state: str = "ready", after_s: float = 0.0) -> Seen:
        """When its status said so (and named the bundle)."""
        topic = self.topics.worker_up(worker.id, "status")

        def says(seen: Seen) -> bool:
            record = seen.record if seen.topic == topic else {}
            return record.get("state") == state and (
                bundle is None or bundle.id_hex in record["bundles"])

        return self.observer.wait(says, READY_TIMEOUT_S, f"worker {state}", after_s=after_s)

    # -- the broker

    def kill_broker(self) -> None:
        """SIGKILL: no goodbye, nothing kept."""
        os.kill(self.broker._process.pid, signal.SIGKILL)
        self.broker.stop()

    # -- devices

    def device(self, bundle: Path, *, device_id: str = "device-1", deadline_ms: float = 1000.0,
               cut: int | None = None, rung: str = "raw", keep_outputs: bool = False,
               ready: bool = True, seed: int = 20, **result) -> Device:
        """A started agent; with ``ready``, once a worker holds its bundle."""
        history = History(keep_outputs=keep_outputs)
        config = AgentConfig(
            model=ModelConfig(str(bundle)), id=device_id,
            broker=BrokerConfig(url=self.device_url, allow_plain=self._link is not None),
            plan=PlanConfig(cut=cut, rung=rung),
            frame=FrameConfig(deadline_ms=deadline_ms), result=ResultConfig(**result))
        agent = EdgeAgent(config, on_answer=history.on_answer)
        self._stack.callback(agent.stop)
        agent.start()
        device = Device(agent, history, seed)
        if ready:
            device.wait_until_ready()
        return device

    def results_of(self, device: Device) -> list[Seen]:
        """What the device has published as results."""
        return self.observer.on(self.topics.device_up(device.agent.config.id, "result"))
