"""What benchmarks stand on: a real mosquitto, a worker process, results as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig
from split_core.config import BrokerConfig
from tests.support.brokers import Mosquitto

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@contextlib.contextmanager
def mosquitto(**options) -> Iterator[Mosquitto]:
    """A broker for the time of a benchmark."""
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder), **options) as broker:
        yield broker


@contextlib.contextmanager
def worker(broker: Mosquitto, runtime: str | None = None) -> Iterator[subprocess.Popen]:
    """A worker process on a broker, with an empty store."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "cloud_side.cli", "run", "--broker", broker.url,
                   "--store", store, "--state", store, "--id", "bench-worker"]
        command += ["--runtime", runtime] if runtime else []
        with (Path(store) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


@contextlib.contextmanager
def agent(broker: Mosquitto, bundle: Path, *, cut: int | None = None, rung: str = "raw",
          runtime: str | None = None, deadline_ms: float = 10_000.0,
          device_id: str = "bench-device", on_answer=None) -> Iterator[EdgeAgent]:
    """An agent whose worker is ready for its bundle."""
    config = AgentConfig(
        model=ModelConfig(str(bundle), runtime=runtime), id=device_id,
        broker=BrokerConfig(url=broker.url), plan=PlanConfig(cut=cut, rung=rung),
        frame=FrameConfig(deadline_ms=deadline_ms))
    with EdgeAgent(config, on_answer, ephemeral=True) as a:
        limit_s = time.monotonic() + 30
        while a.plan.cut != a.bundle.last_cut and a.missing() is not None:
            if time.monotonic() > limit_s:
                raise RuntimeError(a.missing())
            time.sleep(0.005)
        yield a


def spread(values) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.percentile(np.asarray(values, float), (25, 50, 75))
    return {"median": round(float(middle), 4), "q1": round(float(low), 4),
            "q3": round(float(high), 4), "n": len(values)}


def save(name: str, rows) -> Path:
    """Write a benchmark's rows with what they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count(),
                    "system": platform.system(), "python": platform.python_version()},
        "results": rows}, indent=1) + "\n")
    return path


def progress(text: str) -> None:
    """One line on standard error, over the last one."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

