"""The controller: what was measured becomes a state, the planner rules, the plan is handed over.

`tick` does one round and knows no thread; the daemon calls it from the control thread, the
simulator from its loop. A decision is never made on the frame path.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from edge_agent.belief.beliefs import Beliefs, Outlook
from edge_agent.control.plans import Plans
from edge_agent.frames import Plan
from edge_agent.inference.sender import Sender
from edge_agent.planner.candidates import Option
from edge_agent.planner.planner import Planner, Ruling
from split_core.wire.rungs import Rung


class JournalEntry(msgspec.Struct, frozen=True, tag_field="kind", tag="decision"):
    """One line of the decision journal: what a decision was made from, and what came out."""

    state: msgspec.Raw
    decision: msgspec.Raw
    probe: msgspec.Raw


class Controller:
    """Decides for one agent. The planner is used by whoever calls `tick` alone."""

    def __init__(self, beliefs: Beliefs, planner: Planner, plans: Plans, sender: Sender,
                 wake: threading.Condition, *, outlook: Callable[[], Outlook],
                 next_frame: Callable[[], tuple[float, float | None]] = lambda: (0.0, None),
                 on_plan: Callable[[Plan, Ruling], None] = lambda plan, ruling: None,
                 write: Callable[[JournalEntry], None] | None = None,
                 clock: Callable[[], float]):
        self.beliefs, self.planner, self._plans = beliefs, planner, plans
        self._sender, self._wake, self._clock = sender, wake, clock
        self._outlook, self._on_plan, self._write = outlook, on_plan, write
        # Until when the interpreter is busy, and since when a frame waits for it.
        self._next_frame = next_frame
        self.last: Ruling | None = None

    def tick(self) -> Ruling:
        """Decide now, and put what was decided into force."""
        outlook = self._outlook()
        with self._wake:
            sender = self._sender
            workers = sender.workers.holding(sender.bundle.id_hex)
            free_s, waiting_since_s = self._next_frame()
            state = self.beliefs.state(
                workers, link_up=sender.node.is_up, waiting_bytes=sender.node.backlog_bytes,
                outlook=outlook, now_s=self._clock(), free_s=free_s,
                waiting_since_s=waiting_since_s)
        ruling = self.planner.rule(state)
        decision = ruling.decision
        if self._write is not None:
            encode = msgspec.json.encode
            self._write(JournalEntry(msgspec.Raw(encode(state)), msgspec.Raw(decision.to_json()),
                                     msgspec.Raw(encode(ruling.probe))))
        chosen = self.planner.option(decision.chosen)
        with self._wake:
            if decision.switched:
                plan = self._plan(chosen, decision.chosen.worker, decision.chosen.race,
                                  decision.reason)
                self._plans.switch(plan)
                self._sender.gate.on_switch(1e-3 * decision.chosen.costs["mean_ms"])
            plan = self._plans.current
            self._plans.expected_s = 1e-3 * decision.chosen.costs["mean_ms"]
            self._plans.believe(plan, self.beliefs.step_belief(state, plan.worker, chosen))
            if ruling.probe is not None:
                self._probe(ruling, state)
            self._wake.notify_all()
        if decision.switched:
            self._on_plan(plan, ruling)
        self.last = ruling
        return ruling

    def _probe(self, ruling: Ruling, state) -> None:
        c, index = ruling.candidates, ruling.probe.index
        worker, option = c.workers[c.worker[index]], c.options[c.option[index]]
        plan = self._plan(option, worker, True, ruling.probe.reason)
        self._plans.probe(plan)
        self._plans.believe(plan, self.beliefs.step_belief(state, worker, option))

    def _plan(self, option: Option, worker: str | None, race: bool, reason: str) -> Plan:
        return Plan(self._plans.next_id(), option.cut, Rung.parse(option.rung), reason, worker,
                    option.coarsest and Rung.parse(option.coarsest), race)


class ControlThread:
    """Calls `tick` when something happened, and at least every so often."""

    # At least so often: beliefs fade, and sensors change slowly.
    EVERY_S = 1.0
    # At most so often: a decision takes under a millisecond here and ten on a slow board, and
    # frames come faster than links change.
    LEAST_S = 0.1

    def __init__(self, tick: Callable[[], object], on_fatal: Callable[[BaseException], None]):
        self._tick, self._on_fatal = tick, on_fatal
        self._due, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def poke(self) -> None:
        """Something happened. From any thread; costs nothing when it is under way already."""
        self._due.set()

    def stop(self) -> None:
        self._stopping.set()
        self._due.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._due.wait(self.EVERY_S)
                self._due.clear()
                if not self._stopping.is_set():
                    self._tick()
                    self._stopping.wait(self.LEAST_S)
        except BaseException as e:  # a thread that dies takes the process with it, loudly
            self._on_fatal(e)
