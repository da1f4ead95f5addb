"""The demo's runs: frames through an agent at a steady rate, and what came of them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent import AgentConfig, Answer, EdgeAgent
from edge_agent.config import FrameConfig, ModelConfig, PlanConfig
from edge_agent.results.answers import read_answer
from split_core.config import BrokerConfig
from split_core.errors import LinkDown
from split_lab.demo.frames import compose

DEADLINE_MS = 250.0
STAGES = ("wait", "head", "encode", "link", "queue", "decode", "tail", "reply", "fallback")


@dataclass(frozen=True)
class Read:
    """One frame's end beside the truth."""

    answer: Answer
    text: str | None                 # None: the frame was dropped
    truth: str


@dataclass
class Arm:
    """One way to run the model, and its frames."""

    name: str
    reads: list[Read] = field(default_factory=list)

    def summary(self) -> dict:
        """Accuracy, bytes and latency, as the summary and `--json` show them."""
        done = [r for r in self.reads if r.text is not None]
        total = [r.answer.total_ms for r in done]
        digits = sum(a == b for r in done for a, b in zip(r.text, r.truth))
        stages = {
            s: round(statistics.median(times), 2) for s in STAGES
            if (times := [r.answer.stages_ms[s] for r in done if s in r.answer.stages_ms])
        }
        outcomes: dict[str, int] = {}
        for r in self.reads:
            outcomes[r.answer.outcome.value] = outcomes.get(r.answer.outcome.value, 0) + 1
        return {
            "arm": self.name, "frames": len(self.reads), "answered": len(done),
            "digit_accuracy": round(digits / max(1, 4 * len(done)), 4),
            "plate_accuracy": round(
                sum(r.text == r.truth for r in done) / max(1, len(done)), 4),
            "bytes_per_frame": round(statistics.fmean(r.answer.payload_bytes for r in done), 1),
            "p50_ms": round(statistics.median(total), 2),
            "p95_ms": round(statistics.quantiles(total, n=20)[18], 2),
            "late": sum(r.answer.late for r in done),
            "outcomes": outcomes, "stages_ms": stages,
        }


def agent_for(bundle: Path, url: str, name: str, *, cut: int | None, rung: str,
              on_answer: Callable[[Answer], None]) -> EdgeAgent:
    """An agent on the demo's broker, which speaks MQTT 3.1.1."""
    return EdgeAgent(AgentConfig(
        model=ModelConfig(str(bundle)), id=name,
        broker=BrokerConfig(url=url, protocol="3.1.1"), plan=PlanConfig(cut=cut, rung=rung),
        frame=FrameConfig(deadline_ms=DEADLINE_MS)), on_answer)


def run_arm(arm: Arm, bundle: Path, url: str, *, frames: range, fps: float,
            cut: int | None = None, rung: str = "q4",
            on_read: Callable[[Read], None] = lambda read: None,
            on_frame: Callable[[int], None] = lambda index: None) -> Arm:
    """Offer ``frames`` of the test set at ``fps``; ``on_read`` follows each end, ``on_frame``
    comes before each frame."""
    truths: dict[str, str] = {}
    ended = threading.Semaphore(0)

    def on_answer(answer: Answer) -> None:
        text = None
        if answer.outputs is not None:
            text = read_answer(agent.bundle, answer.outputs)["text"]
        read = Read(answer, text, truths[answer.source])
        arm.reads.append(read)
        on_read(read)
        ended.release()

    agent = agent_for(bundle, url, arm.name, cut=cut, rung=rung, on_answer=on_answer)
    with agent:
        _wait_until_remote(agent)
        next_s = time.monotonic()
        for index in frames:
            on_frame(index)
            frame = compose(index, "test")
            truths[str(index)] = frame.text
            time.sleep(max(0.0, next_s - time.monotonic()))
            next_s = max(next_s, time.monotonic() - 1 / fps) + 1 / fps
            agent.offer(frame.pixels, str(index))
        for _ in frames:
            ended.acquire(timeout=5.0)
    return arm


def _wait_until_remote(agent: EdgeAgent) -> None:
    limit_s = time.monotonic() + 20
    while agent.plan.cut != agent.bundle.last_cut and (missing := agent.missing()) is not None:
        if time.monotonic() > limit_s:
            raise LinkDown(missing)
        time.sleep(0.02)
