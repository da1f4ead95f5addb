"""The agent's own code in virtual time: its head loop, gate, flights, beliefs and planner.

What waits in the daemon (a lock, a segment that runs, a coder) moves a virtual clock here and lets
the events until then happen; link and worker are arithmetic (`uplink`, a profile). So a matrix of
hours takes minutes, and what is tested is what runs. One device, one link, one worker.

Not modelled: noise of run times, threads that are not scheduled, packet loss.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edge_agent.belief.beliefs import MESSAGE_BYTES
from edge_agent.frames import Plan
from edge_agent.planner.candidates import Option
from edge_agent.planner.profiled import encode_times
from split_core.cost.profile import Profile
from split_core.model.bundle import Bundle
from split_core.model.runner import zeros
from split_core.outbox import Outgoing
from split_core.wire import messages as m
from split_core.wire.chunks import Message
from split_core.wire.payload import Coder
from split_core.wire.quality import Encoded, step_index
from split_core.wire.records import WorkerStatus, dump
from split_core.wire.rungs import RAW, Rung
from split_core.wire.topics import Topics
from split_lab.field.link_spec import LinkSpec
from split_lab.field.uplink import QUEUE_BYTES, Uplink

WORKER = "worker-1"
SESSION = 1
OVERHEAD_S = 0.0008


class VirtualTime:
    """A clock that moves when somebody waits, and what happens meanwhile."""

    def __init__(self):
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now_s

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        """Do something then."""
        heapq.heappush(self._events, (max(when_s, self.now_s), next(self._order), what))

    def run_until(self, when_s: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let everything until then happen, or until ``done``."""
        while self._events and self._events[0][0] <= when_s and not done():
            at_s, _, what = heapq.heappop(self._events)
            self.now_s = max(self.now_s, at_s)
            what()
        if not done():
            self.now_s = max(self.now_s, min(when_s, 1e18))


class VirtualCondition:
    """Stands in for the agent's lock: there is one thread, so only waiting means anything."""

    def __init__(self, time: VirtualTime):
        self._time, self._notified = time, False

    def __enter__(self) -> VirtualCondition:
        return self

    def __exit__(self, *_exc) -> None:
        pass

    def notify_all(self) -> None:
        self._notified = True

    def wait(self, timeout_s: float | None = None) -> None:
        self._notified = False
        until_s = float("inf") if timeout_s is None else self._time.now_s + timeout_s
        self._time.run_until(until_s, lambda: self._notified)


@dataclass(frozen=True, slots=True)
class Board:
    """What things take on the device, and at the worker; seconds."""

    segment_s: tuple[float, ...]
    encode_s: Mapping[tuple[int, str], float]
    worker_s: tuple[float, ...]      # decoding, tail and encoding, by first segment
    # Broker, hand-overs and everything else that no profile has; from a real run.
    overhead_s: float = OVERHEAD_S

    @classmethod
    def of(cls, device: Profile, options: tuple[Option, ...], worker_s: tuple[float, ...],
           overhead_s: float = OVERHEAD_S) -> Board:
        """As a device's profile says, of each option and of all that was measured."""
        encode_s = dict(encode_times(device, options))
        for coding in device.codings:
            encode_s.setdefault((coding.cut, coding.rung), coding.encode_s)
        return cls(tuple(t.median_s for t in device.segments), encode_s, worker_s, overhead_s)


class VirtualRunner:
    """Takes the time of segments, and makes nothing."""

    runtime = "virtual"

    def __init__(self, time: VirtualTime, board: Board):
        self._time, self._board = time, board

    def run_segment(self, index: int, live, keep=None) -> dict:
        self._time.run_until(self._time.now_s + self._board.segment_s[index])
        return {}

    def forget_used(self, live, index: int) -> None:
        """Nothing was made."""

    def warm_up(self, segments) -> None:
        for index in segments:
            self.run_segment(index, {})


class PayloadSizes:
    """What a frame's boundary weighs: the bundle's curve times a factor of the frame's own."""

    def __init__(self, bundle: Bundle, mean_bytes: Mapping[tuple[int, str], float], seed: int,
                 spread: float = 0.12):
        """``mean_bytes`` of uncalibrated options; ``spread``: of the log size from frame to
        frame, 0.08 to 0.15 for MobileNetV2 on photos (bench.beliefs)."""
        self._bundle, self._mean = bundle, mean_bytes
        self._factors = np.exp(np.random.default_rng(seed).normal(0.0, spread, 4096))

    def of(self, frame_id: int, cut: int, rung: str, index: int | None) -> int:
        """Bytes of a frame's payload at a step; of a rung without one, as it says."""
        factor = float(self._factors[frame_id % len(self._factors)])
        kind = Rung.parse(rung).kind
        curve = self._bundle.picture_rate(kind) if cut == 0 else self._bundle.rate(cut)
        if curve is not None and index is not None:
            return max(16, round(factor * curve.bytes(index)))
        fixed = rung == RAW.name         # the same for every frame
        return max(16, round((1.0 if fixed else factor) * self._mean[cut, rung]))


class VirtualEncoder:
    """Takes the time of coding, and makes bytes of the right number."""

    def __init__(self, time: VirtualTime, board: Board, bundle: Bundle, sizes: PayloadSizes):
        self._time, self._board, self._bundle, self._sizes = time, board, bundle, sizes
        self.frame_id = 0                # of the frame that is under way

    def prepare(self) -> None:
        """Nothing to unpack."""

    def encode(self, live, plan: Plan, index: int | None) -> Encoded:
        rate = self._bundle.rate(plan.cut)
        if plan.rung.calibrated and index is None:
            index = step_index(plan.rung, rate)
        nbytes = self._sizes.of(self.frame_id, plan.cut, plan.rung.name, index)
        self._time.run_until(self._time.now_s
                             + self._board.encode_s.get((plan.cut, plan.rung.name), 0.0))
        curve = rate or self._bundle.picture_rate(plan.rung.kind)
        return Encoded(bytes(nbytes), None if index is None or curve is None
                       else curve.kl(index))


class VirtualWorker:
    """Serves frames one after another."""

    def __init__(self, bundle: Bundle, board: Board):
        self._bundle, self._board, self._free_s = bundle, board, 0.0
        coder = Coder()
        self._answers = {}
        for entry in bundle.manifest.cuts[:-1]:
            specs = [bundle.specs[n] for n in bundle.tail_outputs(entry.cut)]
            self._answers[entry.cut] = len(specs), coder.encode(
                [zeros(s) for s in specs], specs, RAW)

    def serve(self, frame: m.Frame, arrived_s: float) -> tuple[float, m.Result]:
        """When a frame's answer leaves, and the answer."""
        begin_s = max(arrived_s, self._free_s)
        service_s = self._board.worker_s[self._bundle.segment_index(frame.cut)]
        self._free_s = begin_s + service_s
        tensors, payload = self._answers[frame.cut]
        stages = m.StageTimes(queue_us=m.clamp_us(begin_s - arrived_s),
                              tail_us=m.clamp_us(service_s))
        return self._free_s, m.Result(frame.session, frame.frame_id, frame.plan_id, stages,
                                      tensors, payload)


class VirtualNode:
    """The device's end of the broker, over an emulated link to one worker."""

    session_id, node_id = SESSION, "device-1"
    is_up = True

    def __init__(self, time: VirtualTime, link: LinkSpec, worker: VirtualWorker,
                 overhead_s: float):
        self._time, self._worker, self._overhead_s = time, worker, overhead_s
        self.topics = Topics()
        self.up, self.down = link.uplink(), link.downlink()
        self.on_message: Callable[[str, Message], None] = lambda sender, message: None
        self.sent_bytes = 0

    @property
    def backlog_bytes(self) -> int:
        """What does not fit into the modem, which the kernel of the device does not see."""
        return max(0, self.up.backlog_bytes(self._time.now_s) - QUEUE_BYTES)

    def send(self, outgoing: Outgoing, *, bulk: bool = False) -> None:
        body = outgoing.make_body(self._time.now_s)
        if body is None:
            return
        frame = m.pull_frame(memoryview(body))
        arrived_s = self._carry(self.up, len(frame.payload) + MESSAGE_BYTES) + self._overhead_s
        self._time.at(arrived_s, lambda: self._arrived(frame))
        outgoing.gone = True
        if outgoing.on_sent is not None:
            outgoing.on_sent(self._time.now_s)

    def publish(self, nbytes: int, on_acknowledged: Callable[[float], None]) -> None:
        """A QoS 1 publication to the broker, and when its acknowledgement is back."""
        sent_s = self._time.now_s
        there_s = self._carry(self.up, nbytes)
        self._time.at(there_s, lambda: self._time.at(
            self._carry(self.down, 60),
            lambda: on_acknowledged(self._time.now_s - sent_s)))

    def _arrived(self, frame: m.Frame) -> None:
        left_s, result = self._worker.serve(frame, self._time.now_s)
        self._time.at(left_s, lambda: self._answer(result))

    def _answer(self, result: m.Result) -> None:
        body = m.push_result(result)
        back_s = self._carry(self.down, len(body) + MESSAGE_BYTES)
        message = Message(m.Kind.RESULT, memoryview(body), back_s)
        self._time.at(back_s, lambda: self.on_message(WORKER, message))

    def _carry(self, way: Uplink, nbytes: int) -> float:
        """When a message that is sent now is at the other end."""
        self.sent_bytes += nbytes if way is self.up else 0
        return way.arrives_s(way.send(nbytes, self._time.now_s))

    def link_info(self) -> None:
        """The kernel sees the emulator on this machine, not the link."""
        return None

    def doubt(self, patience_s: float) -> None:
        """The link of a simulation never dies."""

    def tell_once(self, who: str, what: str, *, worth_telling: bool = True) -> None:
        """Nobody listens."""


def worker_ready(bundle: Bundle) -> bytes:
    """The status record of a worker that holds the bundle."""
    return dump(WorkerStatus("ready", "01", (bundle.id_hex,)))
