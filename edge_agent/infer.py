"""`edge-agent infer`: single inputs through a worker, one answer a line."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig
from edge_agent.frames import Outcome
from edge_agent.results.answers import to_record
from edge_agent.wall_clock import rfc3339
from split_core.config import BrokerConfig
from split_core.crypto.config import SealConfig
from split_core.errors import InputError, LinkDown, UsageError
from split_core.pictures import read_picture

_FIELDS = ("input", "outcome", "cut", "rung", "payload_bytes", "predicted_kl", "refined", "top",
           "text", "score", "objects", "stages_ms", "total_ms", "reason", "late", "tensors")
# Somebody waits at a prompt. For a worker that loads the bundle, or gets it from here; for a broker
# that has not answered, over a slow link; and for one that could not be reached or refused us, with
# the time of a second try.
_WORKER_S, _SILENT_S, _REFUSED_S = 20.0, 5.0, 2.0


def infer_inputs(bundle: str, inputs: list[str], *, broker: BrokerConfig | None, cut: int | None,
                 rung: str | None, root: str, deadline_ms: float, wait_s: float | None, as_json: bool,
                 device_id: str | None = None, seal_keys: str | None = None,
                 runtime: str | None = None, raw_tensors: bool = False,
                 remote_only: bool = False) -> int:
    """Print the answer for each input; the exit code. Without a broker everything runs here.

    An input that cannot be read fails alone; the exit code then is that of the last such. With
    ``remote_only`` so does one that the worker did not answer, and raises what keeps the worker
    away before the first. ``wait_s``: how long is waited for it; by default as long as it is
    likely to come.
    """
    status = 0
    name = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:32]
    config = AgentConfig(
        model=ModelConfig(bundle, runtime=runtime), id=device_id or f"{name}-infer-{os.getpid()}",
        root=root,
        broker=broker or BrokerConfig(), seal=SealConfig(seal_keys), plan=PlanConfig(cut=cut, rung=rung),
        frame=FrameConfig(deadline_ms=deadline_ms))
    agent = EdgeAgent(config, ephemeral=True)
    if broker is None:
        if agent.plan.cut != agent.bundle.last_cut and (cut is not None or rung is not None):
            print("edge-agent: without --broker nothing is sent: all of the model runs here",
                  file=sys.stderr)
        agent.set_local()
    if remote_only and (broker is None or agent.plan.cut == agent.bundle.last_cut):
        raise UsageError("--remote-only needs --broker" if broker is None else
                         f"--remote-only: --cut {agent.plan.cut} leaves nothing for a worker")
    with agent:
        if broker is not None and agent.plan.cut != agent.bundle.last_cut:
            missing = _wait_for_worker(agent, wait_s)
            if missing and remote_only:
                raise agent.node.session.trouble or LinkDown(missing)
            if missing:
                print(f"edge-agent: {missing}; answering here (--wait waits longer, --remote-only"
                      " fails)", file=sys.stderr)
        for path in inputs:
            try:
                answer = agent.infer(read_input(path), source=path)
            except InputError as e:
                print(f"edge-agent: {e}", file=sys.stderr)
                status = e.exit_code
                if as_json:
                    print(json.dumps({"input": path, "outcome": "failed", "reason": str(e),
                                      "cut": agent.plan.cut, "rung": agent.plan.rung.name,
                                      "payload_bytes": 0, "predicted_kl": None, "refined": None,
                                      "top": [], "stages_ms": {}, "total_ms": 0.0}), flush=True)
                continue
            record = to_record(answer, agent.bundle, at=rfc3339(), top_k=5,
                               raw_tensors=raw_tensors)
            record["input"] = path
            record = {k: record[k] for k in _FIELDS if k in record}
            print(json.dumps(record) if as_json else _line(record), flush=True)
            if remote_only and answer.outcome is not Outcome.REMOTE:
                status = LinkDown.exit_code
    return status


def read_input(path: str) -> np.ndarray:
    """A picture, or an array saved by NumPy (.npy). Raises InputError."""
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder; give the pictures in it, such as {path}/*.jpg")
    if Path(path).suffix == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError) as e:
            raise InputError(f"{path}: {e}") from None
    return read_picture(path)


def _wait_for_worker(agent: EdgeAgent, wait_s: float | None) -> str | None:
    """Give the broker, the worker and the bundle's way to it a moment; what is missing then."""
    begin_s, said = time.monotonic(), ""
    while not agent.stopping.is_set():
        missing = agent.missing()
        if missing is None:
            return None
        waited_s = time.monotonic() - begin_s
        limit_s = _patience_s(agent) if wait_s is None else wait_s
        if waited_s > limit_s:
            return missing
        # What ends in a moment will be said with its end.
        if waited_s > 1 and limit_s > _REFUSED_S and missing != said:
            print(f"edge-agent: waiting: {missing}", file=sys.stderr)
            said = missing
        time.sleep(0.01)
    return None


def _patience_s(agent: EdgeAgent) -> float:
    if agent.node.is_up:
        return _WORKER_S
    return _SILENT_S if agent.node.session.trouble is None else _REFUSED_S


def _line(record: dict) -> str:
    best = record.get("top") or record.get("objects") or []
    what = ", ".join(f"{b['label'] or b['index']} {b['score']:.2f}" for b in best[:3])
    what = record.get("text", what) or ("no object" if "objects" in record else "no label")
    stages = " ".join(f"{k} {v:.1f}" for k, v in record["stages_ms"].items())
    note = f" ({record['reason']})" if record["reason"] and record["outcome"] != "remote" else ""
    sent = f"{record['payload_bytes']} bytes"
    if record["predicted_kl"] is not None:
        sent += f" (predicted KL {record['predicted_kl']:.3g})"
    if record["refined"] is not None:
        sent += ", refined" if record["refined"] else ", not refined"
    return (f"{record['input']}: {what} | {record['outcome']}{note}, cut {record['cut']}, {sent},"
            f" {record['total_ms']:.1f} ms ({stages})")
