"""One arm of a real field test, in a process of its own: an agent, and its link to the broker."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edge_agent.agent import EdgeAgent
from edge_agent.config import (
    AgentConfig, FrameConfig, PlanConfig, ResultConfig, SourceConfig,
)
from edge_agent.frames import Answer
from edge_agent.planner.candidates import Option
from split_core.cost.inputs import load_inputs
from split_core.cost.measure import plausible_inputs
from split_core.errors import LinkDown
from split_core.files import write_whole
from split_lab.field.emulator import Emulator
from split_lab.field.peer import TIMEOUT_S, PeerPolicy
from split_lab.field.records import FrameRow, busy_s
from split_lab.field.stretch import SlowMachine
from split_lab.field.trial import Trial, energy_of, peer_policy
from split_lab.field.virtual_run import teach_peer

_READY_S = 60.0
# A frame that has not ended this long after the last deadline will not.
_GRACE_S = 10.0
_BATTERY_EVERY_S = 1.0


@dataclass(frozen=True)
class ArmTask:
    """What a child process needs to know."""

    arm: str
    trial: Trial
    option: Option | None            # None: the agent plans for itself
    broker_port: int | None          # behind the emulated link; None: as configured
    phase_s: float                   # of its frames within a period
    folder: Path
    inputs: str | None


def run_arm(task: ArmTask, pipe) -> None:
    """Body of the child. Says "ready", is told time zero, sends its rows."""
    try:
        with contextlib.ExitStack() as stack:
            arm = RealArm(task, stack)
            pipe.send(("ready", None))
            t0_s = pipe.recv()
            pipe.send(("rows", arm.run(t0_s)))
    except BaseException as e:           # the parent says it, in one place
        pipe.send(("failed", f"{type(e).__name__}: {e}"))


class RealArm:
    """An agent that is offered frames on a schedule, and what became of them."""

    def __init__(self, task: ArmTask, stack: contextlib.ExitStack):
        self._task, self._trial = task, task.trial
        trial = task.trial
        self.emulator = None
        config = _config(task)
        if task.broker_port is not None:
            self.emulator = stack.enter_context(Emulator(trial.link, task.broker_port))
            url = f"mqtt://127.0.0.1:{self.emulator.port}"
            config = msgspec.structs.replace(
                config, broker=msgspec.structs.replace(config.broker, url=url))
        self._peer: PeerPolicy | None = peer_policy(trial) if task.arm == "peer" else None
        self._peer_lock = threading.Lock()
        self._energy = energy_of(trial)
        self.rows: list[FrameRow] = []
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._t0_s = time.monotonic()
        self._drawn_j = 0.0
        board = trial.board
        machine = None if trial.device_s is None else SlowMachine(board, trial.board_profile)
        self.agent = EdgeAgent(config, self._on_answer, machine=machine)
        samples = load_inputs(trial.bundle, task.inputs) if task.inputs else list(
            plausible_inputs(trial.bundle))
        self._inputs = samples
        stack.callback(self.agent.stop)
        self._write_battery(0.0)
        self.agent.start()
        self._wait_ready()

    def _wait_ready(self) -> None:
        """Broker, worker and bundle are there: the test is not of getting there."""
        limit_s = time.monotonic() + _READY_S
        while (missing := self.agent.missing()) is not None:
            if time.monotonic() > limit_s:
                raise LinkDown(f"{missing} after {_READY_S:.0f} s")
            time.sleep(0.05)

    def run(self, t0_s: float) -> list[FrameRow]:
        """Offer every frame at its time, then wait for the last."""
        trial, self._t0_s = self._trial, t0_s
        if self.emulator is not None:
            self.emulator.start(t0_s)
        if self._peer is not None:
            with self._peer_lock:
                self._next_peer_plan()
        battery_s = 0.0
        for index in range(trial.frames):
            offer_s = t0_s + self._task.phase_s + index * trial.period_s
            while (left_s := offer_s - time.monotonic()) > 0:
                time.sleep(min(left_s, 0.25))
                if time.monotonic() - t0_s - battery_s >= _BATTERY_EVERY_S:
                    battery_s = time.monotonic() - t0_s
                    self._write_battery(battery_s)
            self.agent.offer(self._inputs[index % len(self._inputs)], str(index))
            if self.agent.stopping.is_set():
                self.agent.wait()            # raises what it died of
        self._ended.wait(max(trial.deadline_s, TIMEOUT_S) + _GRACE_S)
        with self._lock:
            return list(self.rows)

    def _on_answer(self, answer: Answer) -> None:
        row = self._row(answer)
        with self._lock:
            self.rows.append(row)
            self._drawn_j += row.energy_j
            done = len(self.rows) >= self._trial.frames
        if self._peer is not None:
            with self._peer_lock:            # several threads end frames
                teach_peer(self._peer, row, self._trial, self._rtt_s)
                self._next_peer_plan()
        if done:
            self._ended.set()

    @property
    def _rtt_s(self) -> float:
        return self._trial.link.rtt_s if self._trial.link is not None else 0.0

    def _next_peer_plan(self) -> None:
        cut = self._trial.bundle.manifest.cuts[self._peer.choose()].cut
        if cut != self.agent.plan.cut:
            self.agent.set_plan(cut, "raw")

    def _row(self, a: Answer) -> FrameRow:
        answered = a.outputs is not None
        stages = dict(a.stages_ms)
        cpu_s = busy_s(stages, a.total_ms, raced=a.raced and a.outcome == "remote")
        return FrameRow(
            self._task.arm, int(a.source), a.captured_s - self._t0_s, a.outcome.value, a.reason,
            not answered or a.total_ms > 1e3 * self._trial.deadline_s, a.total_ms, a.cut, a.rung,
            a.worker, a.payload_bytes, self._energy.frame_j(cpu_s, a.payload_bytes),
            a.predicted_kl, a.plan_id, stages)

    def _write_battery(self, at_s: float) -> None:
        """The modelled charge, where a script for a UPS board would put it."""
        battery = self._trial.battery
        if battery is None or self._task.option is not None:
            return
        with self._lock:
            drawn_wh = (battery.base_w * at_s + self._drawn_j) / 3600
        left_wh = max(0.0, battery.capacity_wh * battery.left_ratio - drawn_wh)
        write_whole(battery_path(self._task.folder),
                    json.dumps({"battery_wh": left_wh, "mains": False}))


def battery_path(folder: Path) -> Path:
    return folder / "battery.json"


def journal_path(folder: Path) -> Path:
    """Of the adaptive arm's decisions."""
    return folder / "decisions.jsonl"


def _config(task: ArmTask) -> AgentConfig:
    """The device's own file, with what an arm fixes."""
    trial, option, base = task.trial, task.option, task.trial.config
    edit = msgspec.structs.replace
    adaptive = option is None
    deadline_s = TIMEOUT_S if task.arm == "peer" else trial.deadline_s
    plan = PlanConfig(worker=base.plan.worker) if adaptive else PlanConfig(
        option.cut, option.rung, base.plan.worker)
    policy, energy, sensors = base.policy, base.energy, base.sensors
    if adaptive:
        # The report is made from all of it.
        policy = edit(policy, journal=str(journal_path(task.folder)), journal_mb=1e6)
    if adaptive and trial.battery is not None:
        b = trial.battery
        energy = edit(energy, until=None, hours=b.hours, j_per_cpu_s=b.j_per_cpu_s,
                      j_per_byte=b.j_per_byte, base_w=b.base_w)
        sensors = edit(sensors, battery="file", path=str(battery_path(task.folder)),
                       command=(), topic=None)
    return edit(base, id=f"{base.id[:40]}-{task.arm}", plan=plan, policy=policy, energy=energy,
                sensors=sensors, frame=FrameConfig(deadline_ms=1e3 * deadline_s),
                source=SourceConfig(), result=ResultConfig(top_k=1),
                state_dir=str(task.folder / f"state-{task.arm}"))


def tasks(trial: Trial, options: dict[str, Option | None], broker_port: int | None,
          folder: Path, inputs: str | None) -> list[ArmTask]:
    """One for each arm, their frames spread over the period."""
    return [ArmTask(arm, replace(trial), option, broker_port,
                    (i + 0.5) / len(options) * trial.period_s, folder, inputs)
            for i, (arm, option) in enumerate(options.items())]
