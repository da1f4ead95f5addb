"""A broker that is away for an hour: `python -m bench.outage [--minutes 60]`.

Real processes: mosquitto, `cloud-worker run`, `edge-agent run` with five pictures a second. The
broker is killed, stays away, comes back. What is measured: that every frame has an answer all the
while, what memory the two take by the minute, when remote answers come again, and that nothing
old is passed off as new.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from bench import rig
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.history import ends_of_journal
from tests.support.observer import Observer

DEADLINE_MS = 500.0
_FPS = 5
_SETTLED_S = 30.0
_DEVICE = "pi"


def run(minutes: float, folder: Path) -> dict:
    """One outage; the figures."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(rig.mosquitto())
        observer = Observer(broker.url, f"si/v1/{_DEVICE}/up/result").start()
        stack.callback(observer.stop)
        worker = stack.enter_context(rig.worker(broker))
        agent = stack.enter_context(_agent(broker.url, folder))
        processes = {"agent": agent, "worker": worker}
        _wait(lambda: _outcomes(observer)[-5:] == ["remote"] * 5, 60, "remote answers")
        time.sleep(_SETTLED_S)
        memory = [_memory(processes)]
        os.kill(broker._process.pid, signal.SIGKILL)
        broker.stop()
        down_s = time.monotonic()
        while (away_s := time.monotonic() - down_s) < 60 * minutes:
            rig.progress(f"away for {away_s / 60:.1f} of {minutes:g} minutes, {memory[-1]}")
            time.sleep(min(60.0, 60 * minutes - away_s))
            memory.append(_memory(processes))
        up_s = time.monotonic()
        broker.start()
        # A new one: the old would try to connect again as late as the agent does.
        observer = Observer(broker.url, f"si/v1/{_DEVICE}/up/result").start()
        stack.callback(observer.stop)
        _wait(lambda: "remote" in _outcomes(observer), 120, "a remote answer")
        first_s = time.monotonic() - up_s
        time.sleep(_SETTLED_S)
        memory.append(_memory(processes))
        for process in processes.values():
            if process.poll() is not None:
                raise RuntimeError(f"a process ended with {process.returncode}")
        agent.terminate()
        agent.wait(20)
        late = [json.loads(s.payload) for s in observer.seen]
    rig.progress("")
    ends = ends_of_journal(folder / "journal.jsonl")
    old = [r for r in late if "age_ms" in r]
    return {
        "minutes": minutes, "frames": len(ends),
        "answered_ratio": round(sum(e.outcome in ("remote", "local", "fallback")
                                    for e in ends) / len(ends), 4),
        "late": sum(e.late for e in ends),
        "remote_again_s": round(first_s, 1),
        "kept_results": len(old), "oldest_kept_s": round(max((r["age_ms"] for r in old),
                                                             default=0.0) / 1e3, 1),
        # Old, and not said to be: there must be none.
        "passed_off_as_new": sum("age_ms" not in r and r["total_ms"] > 2 * DEADLINE_MS
                                 for r in late),
        "memory_mb": memory}


@contextlib.contextmanager
def _agent(url: str, folder: Path):
    model = folder / "camera.tflite"
    model.write_bytes(tiny_models.camera_model())
    bundle = folder / "camera.split.tflite"
    bundle.write_bytes(split_model(model, cuts="all"))
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(1)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(pictures / f"{i}.png")
    config = folder / "agent.toml"
    config.write_text(f"""id = "{_DEVICE}"
state_dir = "{folder / 'state'}"
[model]
bundle = "{bundle}"
[broker]
url = "{url}"
[plan]
cut = 5
rung = "q8"
[frame]
deadline_ms = {DEADLINE_MS}
max_fps = {_FPS}
[source]
kind = "folder"
path = "{pictures}"
loop = true
[result]
journal = "{folder / 'journal.jsonl'}"
""")
    with (folder / "agent.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "edge_agent.cli", "run", "-c",
                                    str(config)], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _outcomes(observer: Observer) -> list[str]:
    return [json.loads(s.payload)["outcome"] for s in list(observer.seen)]


def _memory(processes: dict[str, subprocess.Popen]) -> dict[str, float]:
    """Resident MB, by process."""
    page = os.sysconf("SC_PAGE_SIZE")
    return {name: round(int(Path(f"/proc/{p.pid}/statm").read_text().split()[1]) * page / 1e6, 1)
            for name, p in processes.items()}


def _wait(condition, timeout_s: float, what: str) -> None:
    limit_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > limit_s:
            raise RuntimeError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = run(args.minutes, Path(folder))
    for key, value in row.items():
        print(f"{key:<20} {value if key != 'memory_mb' else [value[0], value[-1]]}")
    print(rig.save("outage", [row]))
    return 0 if row["passed_off_as_new"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
