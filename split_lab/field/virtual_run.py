"""A field test in virtual time: every arm on the same link, one after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge_agent.belief.beliefs import Outlook
from edge_agent.frames import Plan
from edge_agent.planner.candidates import Option
from edge_agent.planner.decide import Rules
from edge_agent.planner.planner import Ruling
from edge_agent.planner.state import Battery
from edge_agent.policies.config import rules_of
from split_core.wire.rungs import RAW
from split_lab.field.device import Setting, VirtualDevice
from split_lab.field.oracle import run_oracle
from split_lab.field.peer import TIMEOUT_S, PeerPolicy
from split_lab.field.records import DecisionRow, FieldRun, FrameRow, LinkRow
from split_lab.field.trial import Trial, jpeg_option, local_option, peer_policy, plan_of, raw_option

# How often belief and truth are written down.
_LINK_EVERY_S = 1.0


def run_virtual(trial: Trial, progress: Callable[[int, int], None] = lambda done, total: None,
                write=None) -> FieldRun:
    """All arms of a trial. ``write`` takes the adaptive arm's journal entries."""
    setting = trial.setting()
    frames: list[FrameRow] = []
    switches: dict[str, int] = {}
    decisions, link, notes = [], [], trial.notes()
    for done, arm in enumerate(trial.arms):
        progress(done, len(trial.arms))
        if arm == "adaptive":
            recorder = AdaptiveArm(trial, setting, write)
            rows, switches[arm] = recorder.run()
            decisions, link = recorder.decisions, recorder.link
        elif arm == "static":
            option, rows = best_static(trial, setting)
            notes.append(f"The best static choice, known only afterwards, is {option.name}.")
        elif arm == "peer":
            rows, switches[arm] = run_peer(trial, setting)
        elif arm == "oracle":
            rows = run_oracle(setting)
        else:
            option = {"local": local_option, "raw": raw_option, "jpeg": jpeg_option}[arm](trial)
            if option is None:
                notes.append(f"There is no arm {arm}: the model's input is no picture.")
                continue
            rows = fixed(setting, arm, option)
        frames += rows
    progress(len(trial.arms), len(trial.arms))
    notes.append("Everything ran in virtual time: the agent's own code for deciding, sending and"
                 " finishing; modelled run times, payload sizes, link and worker.")
    return FieldRun(trial.settings() | {"virtual": True}, tuple(frames), tuple(decisions),
                    tuple(link), (), tuple(notes), switches)


def fixed(setting: Setting, arm: str, option: Option) -> list[FrameRow]:
    """One option for all frames, as a configuration would fix it."""
    return VirtualDevice(arm, setting, replace(plan_of(option), coarsest=None)).run()


def best_static(trial: Trial, setting: Setting) -> tuple[Option, list[FrameRow]]:
    """Of all options the one with the least mean latency, dropped frames counting as twice the
    deadline; chosen in hindsight."""
    def mean_ms(rows: list[FrameRow]) -> float:
        return sum(2e3 * trial.deadline_s if r.outcome in ("dropped", "failed") else r.total_ms
                   for r in rows) / len(rows)

    return min(((option, fixed(setting, "static", option)) for option in trial.options),
               key=lambda found: mean_ms(found[1]))


def run_peer(trial: Trial, setting: Setting) -> tuple[list[FrameRow], int]:
    """The peer's policy chooses a cut before every frame; raw tensors, its own timeout."""
    policy, cuts = peer_policy(trial), trial.bundle.manifest.cuts
    device = None
    rtt_s = trial.link.rtt_s

    def plan(index: int) -> Plan:
        return Plan(device.plans.next_id() if device else 1, cuts[index].cut, RAW)

    def learn(row: FrameRow) -> None:
        teach_peer(policy, row, trial, rtt_s)
        chosen = policy.choose()
        if cuts[chosen].cut != device.plans.current.cut:
            device.plans.switch(plan(chosen))
            device.sender.gate.on_switch(TIMEOUT_S / 2)

    device = VirtualDevice("peer", setting, plan(policy.choose()), wait_s=TIMEOUT_S,
                           on_row=learn)
    return device.run(), device.plans.switches


def teach_peer(policy: PeerPolicy, row: FrameRow, trial: Trial, rtt_s: float) -> None:
    """What the peer measures of a frame: its own segments, the edge's, and the one-way time."""
    board = trial.board
    segment = trial.bundle.segment_index(row.cut)
    policy.on_segments(0, board.segment_s[:segment], edge=False)
    if row.outcome == "remote":
        ends = [*board.worker_s, 0.0]
        policy.on_segments(segment, [max(a - b, 0.0) for a, b in zip(
            ends[segment:-1], ends[segment + 1:])][:len(policy.edge_s) - segment], edge=True)
        policy.on_transfer(row.nbytes, 1e-3 * row.stages_ms.get("link", 0.0) - rtt_s / 2)


class AdaptiveArm:
    """The agent that plans for itself, and what it decided."""

    def __init__(self, trial: Trial, setting: Setting, write=None, rules: Rules | None = None):
        """``rules``: other ones than the configuration's."""
        self._trial = trial
        self.decisions: list[DecisionRow] = []
        self.link: list[LinkRow] = []
        self._drawn_j = 0.0
        self._linked_s = -_LINK_EVERY_S
        first = Plan(1, trial.bundle.last_cut, RAW)
        self._device = VirtualDevice(
            "adaptive", setting, first,
            rules or rules_of(trial.config.policy, trial.config.cost),
            on_row=self._row, on_ruling=self._ruling, outlook=self._outlook, write=write)

    def run(self) -> tuple[list[FrameRow], int]:
        """Rows, and how often the plan changed."""
        return self._device.run(), self._device.plans.switches

    def _row(self, row: FrameRow) -> None:
        self._drawn_j += row.energy_j

    def _left_wh(self, now_s: float) -> float | None:
        battery = self._trial.battery
        if battery is None:
            return None
        drawn_wh = (battery.base_w * now_s + self._drawn_j) / 3600
        return max(0.0, battery.capacity_wh * battery.left_ratio - drawn_wh)

    def _outlook(self, now_s: float) -> Outlook:
        battery = self._trial.battery
        if battery is None:
            return Outlook()
        until_s = None if battery.hours is None else max(3600 * battery.hours - now_s, 1.0)
        return Outlook(Battery(self._left_wh(now_s), False), until_s)

    def _ruling(self, ruling: Ruling) -> None:
        now_s, decision = self._device.time.now_s, ruling.decision
        rows = [(decision.chosen.what, decision.reason, True)] if decision.switched else []
        if ruling.probe is not None:
            rows.append((ruling.candidates.describe(ruling.probe.index), ruling.probe.reason,
                         False))
        self.decisions += [DecisionRow(
            now_s, what, reason, switched, decision.chosen.cut,
            decision.chosen.costs["mean_ms"], self._left_wh(now_s))
            for what, reason, switched in rows]
        if now_s - self._linked_s >= _LINK_EVERY_S:
            self._linked_s = now_s
            rate = self._device.node.up.rate
            self.link.append(LinkRow(now_s, self._device.beliefs.bps(now_s),
                                     rate.mean_bps(now_s, now_s + _LINK_EVERY_S)))
