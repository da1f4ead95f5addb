"""The inference thread: heads of new frames, and fallbacks before them.

One thread, because an interpreter belongs to one. Between two segments it looks whether a
fallback is due, so the longest that one can be kept waiting is one segment.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from edge_agent.control.plans import Plans
from edge_agent.frames import FrameInput, Outcome, Plan
from edge_agent.inference.encoder import Encoder
from edge_agent.inference.flights import Flight
from edge_agent.inference.gate import Ruling, Situation, Verdict
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.inference.sender import Sender
from edge_agent.planner.predict import GUARD_S
from split_core.errors import SplitError
from split_core.model.runner import Runner

_log = logging.getLogger(__name__)
# A broker that neither answers a ping nor takes bytes for this long after an answer stayed away
# is connected to anew: TCP alone would wait for its next retransmission, many seconds later.
_PATIENCE_S = 1.0
# Why a frame that both ends ran was finished here: the device was the first.
RACED = "faster here"
# While the first hop drains, look again this often at the latest.
_POLL_S = 0.01


class HeadThread:
    """Takes frames from the mailbox and turns each into a flight or an answer.

    ``on_local(frame, plan, outcome, reason, tensors, stages_ms, payload_bytes)`` is called on
    this thread for frames finished here; ``take`` hands out the waiting frame (lock held).
    """

    def __init__(self, runner_for: Callable[[], Runner], encoder: Encoder, sender: Sender,
                 wake: threading.Condition, times: SegmentTimes, plans: Plans, *,
                 take: Callable[[], FrameInput | None], peek: Callable[[], FrameInput | None],
                 on_local: Callable, on_failed: Callable,
                 on_stale: Callable[[FrameInput], None],
                 on_fatal: Callable[[BaseException], None],
                 clock: Callable[[], float] = time.monotonic):
        self._runner_for, self._encoder = runner_for, encoder
        self._sender, self._wake, self.times, self._plans = sender, wake, times, plans
        self._take, self._peek, self._clock = take, peek, clock
        self._on_local, self._on_failed, self._on_stale = on_local, on_failed, on_stale
        self._on_fatal = on_fatal
        self._bundle, self._stopping = sender.bundle, False
        self._in_fallback = False        # fallbacks do not interrupt each other
        self.free_s = 0.0                # when what runs now is expected to be done
        self._encode_s = 0.0
        # Moves whenever this thread goes round or ends a segment: what a watchdog looks at.
        self.turns = 0
        self.busy = False                # with a frame; the lock is held where this is read
        self.ready = threading.Event()
        self.runtime = ""
        self._runner: Runner | None = None       # on the inference thread, from `prepare` on
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.request_stop()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)

    def on_result(self) -> None:
        """An answer came: what runs for that frame ends with its segment."""
        self.free_s = min(self.free_s, self._clock() + self.times.longest_s())

    def poke(self) -> None:
        """Make the thread go round, if it can."""
        with self._wake:
            self._wake.notify_all()

    def request_stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    # -- the loop

    def _run(self) -> None:
        try:
            self.prepare()
            while self.step():
                pass
        except BaseException as e:  # a thread that dies takes the process with it, loudly
            self._on_fatal(e)
        finally:
            # This object is part of a circle: the memory of a model that was replaced would wait
            # for the collector, which in a quiet process comes hours later.
            self._runner = None

    def prepare(self) -> None:
        """Load and warm up; on the thread that will call `step`."""
        self._runner = self._runner_for()
        self.runtime = self._runner.runtime
        self._learn_times()
        self._encoder.prepare()
        self.ready.set()

    def _learn_times(self) -> None:
        """Run every segment on zeros: allocates them, and tells what a fallback takes."""
        segments = range(len(self._bundle.manifest.segments))
        self._runner.warm_up(segments)
        for _ in range(3):
            for i in segments:
                begin_s = self._clock()
                self._runner.warm_up([i])
                self.times.add(i, self._clock() - begin_s)

    def step(self) -> bool:
        """Wait for something to do and do it; False once stopped."""
        with self._wake:
            self.busy = False
            while True:
                self.turns += 1
                if self._stopping:
                    return False
                now_s = self._clock()
                flight = self._sender.flights.next_due(now_s, self._guard_s())
                if flight is not None:
                    flight.finishing = True
                    break
                frame, ruling, plan = self._next_frame(now_s)
                if frame is not None:
                    break
                self._wake.wait(self._pause_s(now_s, ruling))
            self.busy = True
        if flight is not None:
            self._finish_here(flight)
        elif ruling.verdict is Verdict.DROP:
            self._on_stale(frame)
        elif ruling.verdict is Verdict.SEND:
            self._guarded(frame, plan, lambda: self._send(frame, plan))
        else:
            planned = plan.cut == self._bundle.last_cut
            outcome = Outcome.LOCAL if planned else Outcome.FALLBACK
            self._guarded(frame, plan,
                          lambda: self._all_here(frame, plan, outcome, ruling.reason))
        return True

    def _guarded(self, frame: FrameInput, plan: Plan, body: Callable[[], None]) -> None:
        try:
            body()
        except (SplitError, ValueError) as e:
            _log.error("event=frame-failed frame=%d error=%s", frame.frame_id, e)
            self._on_failed(frame, plan, str(e))

    def _pause_s(self, now_s: float, ruling: Ruling | None) -> float | None:
        """How long to sleep: until a fallback or the waiting frame needs a look."""
        pause_s = self._sender.flights.next_due_s(self._guard_s()) - now_s
        if ruling is not None:
            pause_s = min(pause_s, _POLL_S)
        return None if pause_s == float("inf") else max(pause_s, 0.0)

    def _guard_s(self) -> float:
        return GUARD_S + self.times.longest_s() + self._encode_s

    def _next_frame(self, now_s: float) -> tuple[FrameInput | None, Ruling | None, Plan]:
        """The frame to start now and how; (None, ruling) while it has to wait."""
        plan = self._plans.peek()
        frame = self._peek()
        if frame is None:
            return None, None, plan
        if now_s >= frame.deadline_s:
            return self._take(), Ruling(Verdict.DROP, "past its deadline"), plan
        if plan.cut == self._bundle.last_cut:
            ruling = Ruling(Verdict.LOCAL, plan.reason)
            if self._bundle.manifest.states and len(self._sender.flights):
                ruling = Ruling(Verdict.WAIT, "state of the last frame not back")
        else:
            ruling = self._sender.gate.rule(self._situation(frame, plan), now_s)
            if (ruling.verdict is Verdict.LOCAL and self._bundle.manifest.states
                    and len(self._sender.flights)):
                # Two frames may not run from the same state; the flight comes due first.
                self._sender.flights.make_due(ruling.reason)
                ruling = Ruling(Verdict.WAIT, ruling.reason)
        if ruling.verdict is Verdict.WAIT:
            return None, ruling, plan
        self._plans.used(plan)
        return self._take(), ruling, plan

    def _situation(self, frame: FrameInput, plan: Plan) -> Situation:
        sender, segments = self._sender, len(self._bundle.manifest.segments)
        worker, link = sender.worker_for(plan), sender.node.link_info()
        local_s = self.times.span_s(0, segments)
        return Situation(
            link_up=sender.node.is_up,
            worker_ready=worker is not None,
            bundle_there=worker is not None and sender.workers.holds(worker,
                                                                     self._bundle.id_hex),
            in_flight=len(sender.flights),
            oldest_sent_s=sender.flights.oldest_sent_s(),
            backlog_bytes=sender.node.backlog_bytes,
            path_s=link.min_rtt_s if link is not None else 0.0,
            head_s=self.times.span_s(0, self._bundle.segment_index(plan.cut)) + self._encode_s,
            latest_local_s=self._latest_local_s(frame, plan, local_s),
            stateful=bool(self._bundle.manifest.states),
        )

    def _latest_local_s(self, frame: FrameInput, plan: Plan, local_s: float) -> float:
        """Until when waiting for the link is better than beginning to finish the frame here."""
        if plan.race and self._plans.expected_s is not None:
            return frame.captured_s + local_s - self._plans.expected_s
        on_time_s = frame.deadline_s - local_s - self._guard_s()
        # Where the device cannot be on time by itself, the link has what is left.
        return on_time_s if on_time_s > frame.captured_s else frame.deadline_s - GUARD_S

    # -- what it does

    def _run_segments(self, live: dict[str, np.ndarray], first: int, end: int,
                      give_up: Callable[[], bool] = lambda: False) -> bool:
        """Run segments on ``live`` in place, with due fallbacks in between; False if given
        up half way."""
        self.free_s = self._clock() + self.times.span_s(first, end)
        for index in range(first, end):
            if give_up():
                return False
            begin_s = self._clock()
            live.update(self._runner.run_segment(index, live))
            self._runner.forget_used(live, index)
            self.times.add(index, self._clock() - begin_s)
            self.turns += 1
            if index + 1 < end and not self._in_fallback:
                self._finish_due()
                self.free_s = self._clock() + self.times.span_s(index + 1, end)
        return True

    def _finish_due(self) -> None:
        while True:
            with self._wake:
                flight = self._sender.flights.next_due(self._clock(), self._guard_s())
                if flight is None:
                    return
                flight.finishing = True
            self._finish_here(flight)

    def _send(self, frame: FrameInput, plan: Plan) -> None:
        begin_s = self._clock()
        live = dict(frame.arrays)
        cut = self._bundle.segment_index(plan.cut)
        self._run_segments(live, 0, cut)
        ran_s = self._clock()
        with self._wake:
            index = self._plans.step(plan, frame.deadline_s - ran_s,
                                     self._sender.waiting())
        encoded = self._encoder.encode(live, plan, index)
        encoded_s = self._clock()
        self._encode_s = max(0.9 * self._encode_s, encoded_s - ran_s)
        stages = {"wait": 1e3 * (begin_s - frame.captured_s), "head": 1e3 * (ran_s - begin_s),
                  "encode": 1e3 * (encoded_s - ran_s)}
        with self._wake:
            worker = self._sender.worker_for(plan)
            tail_s = self.times.span_s(cut, len(self._bundle.manifest.segments))
            flight = Flight(
                frame, plan, worker or "", live, tail_s, len(encoded.payload), stages,
                hopeless=encoded_s + tail_s + self._guard_s() > frame.deadline_s,
                due=RACED if plan.race else None)
            if worker is not None and self._sender.node.is_up:
                self._sender.launch(flight, encoded)
                self._sender.on_encoded(plan, encoded_s - ran_s, len(encoded.payload),
                                        index is None or index == self._plans.asked(plan))
                return
            # Lost while the head ran: the boundary is here, so finish from it.
            flight.due, flight.finishing = "link down", True
            self._sender.flights.add(flight)
        self._finish_here(flight)

    def _finish_here(self, flight: Flight) -> None:
        """The fallback: from the boundary to the end, unless the answer comes after all."""
        frame, plan = flight.frame, flight.plan
        begin_s = self._clock()
        live = dict(flight.live)
        first = self._bundle.segment_index(plan.cut)
        self._in_fallback = True
        try:
            whole = self._run_segments(live, first, len(self._bundle.manifest.segments),
                                       lambda: self._sender.has_ended(flight))
        except (SplitError, ValueError) as e:
            _log.error("event=fallback-failed frame=%d error=%s", frame.frame_id, e)
            self._on_failed(frame, plan, str(e))
            whole = False
        finally:
            self._in_fallback = False
        with self._wake:
            if not whole or self._sender.flights.pop(frame.frame_id) is None:
                self._sender.flights.pop(frame.frame_id)
                return
            self._sender.state.update(live)
            self._sender.give_up(flight)
            if flight.due == "no answer in time" and flight.sent_s is not None:
                self._sender.gate.on_loss()
                self._sender.node.doubt(_PATIENCE_S)
        stages = flight.stages_ms | {"fallback": 1e3 * (self._clock() - begin_s)}
        outcome = Outcome.LOCAL if flight.due == RACED else Outcome.FALLBACK
        self._on_local(frame, plan, outcome, flight.due, live, stages,
                       flight.payload_bytes if flight.sent_s is not None else 0)

    def _all_here(self, frame: FrameInput, plan: Plan, outcome: Outcome, reason: str) -> None:
        begin_s = self._clock()
        live = dict(frame.arrays)
        self._run_segments(live, 0, len(self._bundle.manifest.segments))
        with self._wake:
            self._sender.state.update(live)
        stage = "head" if outcome is Outcome.LOCAL else "fallback"
        stages = {"wait": 1e3 * (begin_s - frame.captured_s),
                  stage: 1e3 * (self._clock() - begin_s)}
        self._on_local(frame, plan, outcome, reason, live, stages, 0)
