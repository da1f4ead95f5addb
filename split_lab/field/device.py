"""One arm in virtual time: frames in, rows out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.belief.beliefs import Beliefs, Outlook
from edge_agent.belief.energy import EnergyModel
from edge_agent.control.controller import Controller, ControlThread
from edge_agent.frames import FrameInput, Ledger, Outcome, Plan
from edge_agent.inference.gate import Gate
from edge_agent.inference.head import HeadThread
from edge_agent.planner.candidates import Option
from edge_agent.planner.decide import Rules
from edge_agent.planner.planner import Planner, Ruling
from edge_agent.control.plans import Plans
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.inference.sender import Sender
from edge_agent.inference.state import ExplicitState
from edge_agent.inference.workers import Workers
from split_core.model.bundle import Bundle
from split_lab.field.link_spec import LinkSpec
from split_lab.field.records import FrameRow, busy_s
from split_lab.field.virtual import (
    WORKER, Board, PayloadSizes, VirtualCondition, VirtualEncoder, VirtualNode, VirtualRunner,
    VirtualTime, VirtualWorker, worker_ready,
)

# A result record as published, with its topic.
RESULT_BYTES = 900


@dataclass(frozen=True, slots=True)
class Setting:
    """What all arms of a virtual run have in common."""

    bundle: Bundle
    options: tuple[Option, ...]
    board: Board
    link: LinkSpec
    sizes: PayloadSizes
    deadline_s: float
    period_s: float
    frames: int
    energy: EnergyModel = EnergyModel()


class VirtualDevice:
    """An agent with a fixed plan, or one that plans for itself."""

    def __init__(self, arm: str, setting: Setting, plan: Plan, rules: Rules | None = None, *,
                 wait_s: float | None = None,
                 on_row: Callable[[FrameRow], None] = lambda row: None,
                 on_ruling: Callable[[Ruling], None] = lambda ruling: None,
                 outlook: Callable[[float], Outlook] = lambda now_s: Outlook(),
                 write=None):
        """``wait_s``: how long a frame is waited for, where not until its deadline."""
        self.arm, self.setting, self._wait_s = arm, setting, wait_s
        self._on_row, self._on_ruling = on_row, on_ruling
        self.rows: list[FrameRow] = []
        bundle, board = setting.bundle, setting.board
        self.time = VirtualTime()
        wake = VirtualCondition(self.time)
        self.node = VirtualNode(self.time, setting.link, VirtualWorker(bundle, board),
                                board.overhead_s)
        self.times = SegmentTimes(len(board.segment_s), board.segment_s)
        self.plans = Plans(bundle, plan)
        self.sender = Sender(bundle, Workers("device-1"),
                             Gate(first_expected_s=setting.deadline_s / 2), Ledger(),
                             ExplicitState(bundle), wake, self._on_result, clock=self.time)
        self.sender.node = self.node
        self.node.on_message = self.sender.on_message
        self._encoder = VirtualEncoder(self.time, board, bundle, setting.sizes)
        self._mailbox: FrameInput | None = None
        self.head = HeadThread(
            lambda: VirtualRunner(self.time, board), self._encoder, self.sender, wake,
            self.times, self.plans, take=self._take, peek=lambda: self._mailbox,
            on_local=self._on_local, on_failed=self._on_failed, on_stale=self._on_stale,
            on_fatal=self._on_fatal, clock=self.time)
        self._wake, self._open = wake, setting.frames
        self.controller = None
        if rules is not None:
            self.beliefs = self.sender.beliefs = Beliefs(
                bundle, setting.options, self.times, deadline_s=setting.deadline_s,
                encode_s=dict(board.encode_s), energy=setting.energy)
            self.beliefs.workers.on_profile(WORKER, board.worker_s)
            self.controller = Controller(
                self.beliefs, Planner(setting.options, rules), self.plans, self.sender, wake,
                outlook=lambda: outlook(self.time.now_s), next_frame=self._next_frame,
                write=write, clock=self.time)
            self._ticked_s, self._ticking = -1.0, False

    def run(self) -> list[FrameRow]:
        """All frames, from the first to the end of the last."""
        self.head.prepare()
        # Warming up took virtual time, before the link's time zero.
        self.time.now_s = 0.0
        self.sender.on_worker_status(WORKER, worker_ready(self.setting.bundle))
        if self.controller is not None:
            self._tick()
            self._tick_later()
        for i in range(self.setting.frames):
            self.time.at((i + 0.5) * self.setting.period_s, lambda i=i: self._offer(i))
        while self._open and self.head.step():
            pass
        return self.rows

    # -- frames

    def _offer(self, index: int) -> None:
        now_s, old = self.time.now_s, self._mailbox
        wait_s = self._wait_s or self.setting.deadline_s
        self._mailbox = FrameInput(index, {}, "", now_s, now_s + wait_s)
        if self.controller is not None:
            self.beliefs.on_frame(now_s)
        if old is not None:
            self._end(old, self.plans.current, Outcome.DROPPED, "newer frame came", {}, 0)
        self._wake.notify_all()

    def _next_frame(self) -> tuple[float, float | None]:
        frame = self._mailbox
        return self.head.free_s, None if frame is None else frame.captured_s

    def _take(self) -> FrameInput | None:
        frame, self._mailbox = self._mailbox, None
        if frame is not None:
            self._encoder.frame_id = frame.frame_id
        return frame

    def _on_result(self, flight, tensors, result, round_trip_s: float) -> None:
        self.head.on_result()
        t = result.stages
        worker_ms = 1e-3 * (t.queue_us + t.tail_us)
        stages = flight.stages_ms | {"link": 1e3 * round_trip_s - worker_ms,
                                     "queue": 1e-3 * t.queue_us, "tail": 1e-3 * t.tail_us}
        self._end(flight.frame, flight.plan, Outcome.REMOTE, "", stages, flight.payload_bytes,
                  flight.predicted_kl)

    def _on_local(self, frame, plan, outcome, reason, tensors, stages, nbytes) -> None:
        self._end(frame, plan, outcome, reason, stages, nbytes)

    def _on_failed(self, frame, plan, reason: str) -> None:
        self._end(frame, plan, Outcome.FAILED, reason, {}, 0)

    def _on_stale(self, frame) -> None:
        self._end(frame, self.plans.current, Outcome.DROPPED, "past its deadline", {}, 0)

    def _on_fatal(self, error: BaseException) -> None:
        raise error

    def _end(self, frame: FrameInput, plan: Plan, outcome: Outcome, reason: str,
             stages: dict[str, float], nbytes: int, kl: float | None = None) -> None:
        total_s = self.time.now_s - frame.captured_s
        answered = outcome not in (Outcome.DROPPED, Outcome.FAILED)
        cpu_s = busy_s(stages, 1e3 * total_s, raced=plan.race and outcome is Outcome.REMOTE)
        self.rows.append(FrameRow(
            self.arm, frame.frame_id, frame.captured_s, outcome.value, reason,
            not answered or total_s > self.setting.deadline_s, 1e3 * total_s, plan.cut,
            plan.rung.name, WORKER if outcome is Outcome.REMOTE else None, nbytes,
            self.setting.energy.frame_j(cpu_s, nbytes), kl, plan.plan_id, stages))
        self._on_row(self.rows[-1])
        self._open -= 1
        if self._open == 0:
            self.head.request_stop()
        if answered:
            self.node.publish(RESULT_BYTES, self._acknowledged)
        self._poke()

    def _acknowledged(self, round_trip_s: float) -> None:
        if self.controller is not None:
            self.beliefs.round_trip.add(round_trip_s, self.time.now_s)

    # -- decisions, when the daemon's control thread would make them

    def _poke(self) -> None:
        if self.controller is None or self._ticking:
            return
        self._ticking = True
        self.time.at(max(self.time.now_s, self._ticked_s + ControlThread.LEAST_S), self._tick)

    def _tick(self) -> None:
        self._ticking, self._ticked_s = False, self.time.now_s
        self._on_ruling(self.controller.tick())

    def _tick_later(self) -> None:
        def again() -> None:
            if not self._open:
                return
            if self.time.now_s - self._ticked_s >= ControlThread.EVERY_S:
                self._poke()
            self._tick_later()

        self.time.at(self.time.now_s + ControlThread.EVERY_S, again)
