"""`edge-agent infer` with a broker, without one, and with one that has no worker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np
import pytest

from edge_agent.cli import main as edge_agent
from tests.support.brokers import free_port
from tests.support.rig import Rig


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


@pytest.fixture
def ask(camera, tmp_path, capfd):
    """Run the command on two inputs: its code, records and what it said."""
    arrays = [tmp_path / f"{i}.npy" for i in range(2)]
    for array in arrays:
        np.save(array, np.zeros((1, 64, 64, 3), np.float32))

    def run(*options: str) -> tuple[int, list[dict], list[str]]:
        capfd.readouterr()
        code = edge_agent(["infer", str(camera.bundle), *map(str, arrays), "--cut", "1", "--json",
                           *options])
        out, error = capfd.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], error.splitlines()

    return run


def test_the_worker_answers(rig, ask):
    rig.worker()
    code, records, said = ask("--broker", rig.url, "--remote-only")
    assert (code, [r["outcome"] for r in records]) == (0, ["remote", "remote"])
    assert "answering here" not in " ".join(said)


def test_without_a_broker_it_says_so_and_answers_here_soon(ask, monkeypatch):
    monkeypatch.setattr("edge_agent.infer._WORKER_S", 1e9)      # not that long, for a broker
    code, records, said = ask("--broker", f"mqtt://127.0.0.1:{free_port()}")
    assert (code, [r["outcome"] for r in records]) == (0, ["fallback", "fallback"])
    (line,) = [line for line in said if line.startswith("edge-agent:")]
    assert re.fullmatch(r"edge-agent: no broker \(cannot reach .*: Connection refused\); answering"
                        r" here \(--wait waits longer, --remote-only fails\)", line)


def test_a_script_can_ask_for_the_worker_or_nothing(rig, ask):
    code, records, said = ask("--broker", f"mqtt://127.0.0.1:{free_port()}", "--remote-only")
    assert (code, records) == (69, []) and "Connection refused" in said[-1]
    code, records, said = ask("--broker", rig.url, "--remote-only", "--wait", "0.5")
    assert (code, records) == (69, []) and said[-1] == "edge-agent: no worker on this broker"
    # One that is there, and too late.
    rig.worker()
    code, records, _ = ask("--broker", rig.url, "--remote-only", "--deadline-ms", "0.001")
    assert code == 69 and len(records) == 2 and "remote" not in {r["outcome"] for r in records}
    assert ask("--remote-only")[0] == 64
    assert ask("--broker", rig.url, "--remote-only", "--cut", "8")[0] == 64


def test_a_wait_that_is_given_is_waited(ask):
    _, _, said = ask("--broker", f"mqtt://127.0.0.1:{free_port()}", "--wait", "2.5")
    assert sum(line.startswith("edge-agent: waiting: no broker") for line in said) == 1
