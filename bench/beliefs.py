"""What the planner's numbers rest on: `python -m bench.beliefs [--bundle FILE] [--minutes M]`.

The agent's own code in virtual time, as in bench.field, over every recorded uplink, boards of 400
and 2000 ms and round trips of 40 and 80 ms; in each run one thing is other than the agent has it:
what it remembers of transfers, when it changes plans, how it chooses a frame's step. Beside that,
what the numbers take from outside: how much payloads vary on photos, how often uplinks stand still.
The figures are those of docs/decisions/0005 and of the comments that cite it.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import msgspec
import numpy as np

from bench import cells, rig
from edge_agent.belief import beliefs, transfers
from edge_agent.belief.transfers import Ended, Memory, Transfers, TwoMemories
from edge_agent.control import step
from edge_agent.frames import Plan
from edge_agent.planner import predict
from edge_agent.planner.decide import Rules
from edge_agent.planner.planner import Planner
from edge_agent.planner.state import DeviceState
from edge_agent.policies.config import CostConfig, PolicyConfig, rules_of
from edge_agent.policies.latency import Latency
from split_core.cost.inputs import load_inputs
from split_core.model.bundle import Bundle
from split_core.model.runner import Runner
from split_core.wire.payload import Coder
from split_core.wire.quality import encode
from split_core.wire.rungs import RAW, Rung
from split_lab.field.device import Setting, VirtualDevice
from split_lab.field.link_spec import LinkSpec
from split_lab.field.oracle import run_oracle
from split_lab.field.records import FrameRow
from split_lab.field.summary import is_answered
from split_lab.views import list_inputs

# The board of 100 ms stays all-local, whatever is believed.
BOARDS = cells.BOARDS[1:]
_RULES = rules_of(PolicyConfig(), CostConfig())


# -- other memories


@dataclass(frozen=True)
class Average:
    """One number: seconds over bytes, with exponentially fading weights; of several half-lives the
    slowest link. As video players have it."""

    half_lives_s: Sequence[float]

    def __call__(self, ended: Sequence[Ended], rtt_s: float) -> list[tuple[float, float]]:
        costs = []
        for half_life_s in self.half_lives_s:
            weighed = _weighed(ended, half_life_s)
            nbytes = sum(w * t.nbytes for t, w in weighed)
            costs.append(sum(w * t.nbytes * t.s_per_byte(rtt_s) for t, w in weighed) / nbytes
                         if nbytes else 0.0)
        return [(max(costs), 1.0)] if ended else []


@dataclass(frozen=True)
class LogNormal:
    """Mean and deviation of the logarithm, as nine scenarios."""

    half_life_s: float

    def __call__(self, ended: Sequence[Ended], rtt_s: float) -> list[tuple[float, float]]:
        weighed = _weighed(ended, self.half_life_s)
        total = sum(w for _, w in weighed)
        if not total:
            return []
        logs = [(math.log(t.s_per_byte(rtt_s)), w / total) for t, w in weighed]
        mean = sum(w * value for value, w in logs)
        # A single transfer has no deviation; half is about that of a drive.
        deviation = max(math.sqrt(sum(w * (value - mean) ** 2 for value, w in logs)), 0.5)
        # Middles of nine equally likely parts of the normal distribution.
        middles = (-1.593, -0.967, -0.589, -0.282, 0.0, 0.282, 0.589, 0.967, 1.593)
        return [(math.exp(mean + z * deviation), 1 / len(middles)) for z in middles]


def _weighed(ended: Sequence[Ended], half_life_s: float) -> list[tuple[Ended, float]]:
    return [(t, 0.5 ** ((ended[-1].at_s - t.at_s) / half_life_s)) for t in ended]


def one_memory(half_life_s: float) -> TwoMemories:
    """The agent's, without its slow memory."""
    return TwoMemories(fast_half_life_s=half_life_s, slow_share=0.0)


# -- what is varied


@dataclass(frozen=True)
class Variant:
    """The agent with one thing changed. ``constants``: (module, name, value), for what no argument
    reaches; the oracle keeps its own."""

    name: str
    memory: Memory = TwoMemories()
    rules: Rules = _RULES
    constants: tuple[tuple[Any, str, float], ...] = ()
    sees_waiting: bool = True

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for module, name, value in self.constants:
                stack.enter_context(mock.patch.object(module, name, value))
            yield


AS_IT_IS = Variant("as it is")


def _step(share: float, quantile: float) -> Variant:
    return Variant(f"{share:g} of the time, better than {quantile:.0%}", constants=(
        (predict, "STEP_SHARE", share), (step, "STEP_SHARE", share),
        (beliefs, "STEP_QUANTILE", quantile)))


def _plans(margin: float, dwell_s: float) -> Variant:
    return Variant(f"margin {margin:.0%}, dwell {dwell_s:g} s",
                   rules=replace(_RULES, margin=margin, dwell_s=dwell_s))


VARIANTS: dict[str, tuple[Variant, ...]] = {
    "memory": (
        Variant("average, 3 s", Average((3.0,))), Variant("average, 10 s", Average((10.0,))),
        Variant("averages of 3 and 10 s, the slower link", Average((3.0, 10.0))),
        Variant("log-normal, 3 s", LogNormal(3.0)), Variant("log-normal, 10 s", LogNormal(10.0)),
        Variant("scenarios, 1.5 s", one_memory(1.5)), Variant("scenarios, 2.5 s", one_memory(2.5)),
        Variant("scenarios, 8 s", one_memory(8.0)), Variant("scenarios, 30 s", one_memory(30.0)),
        Variant("two memories, say grows with bytes", TwoMemories(telling_bytes=math.inf)),
        Variant("two memories, all transfers alike", TwoMemories(telling_bytes=1)),
        Variant("two memories, 16 transfers", constants=((transfers, "MAX_SCENARIOS", 16),)),
        Variant("two memories, 64 transfers", constants=((transfers, "MAX_SCENARIOS", 64),))),
    "what waits": (Variant("not seen", sees_waiting=False),),
    "plans": (_plans(0.0, 0.0), _plans(0.05, 0.0), _plans(0.0, 2.0), _plans(0.1, 2.0),
              _plans(0.05, 5.0)),
    "step": (_step(0.9, 0.75), _step(0.9, 0.95), _step(0.8, 0.75), _step(0.7, 0.95)),
    "lateness": (Variant("no weight", rules=replace(_RULES, aim=Latency(late_weight=0.0))),
                 Variant("weight 1", rules=replace(_RULES, aim=Latency(late_weight=1.0)))),
}


class _Unaware(Planner):
    """Plans as if nothing were in the next frame's way."""

    def rule(self, state: DeviceState):
        return super().rule(msgspec.structs.replace(state, wait_s=0.0, waiting_bytes=0,
                                                    waiting_s=0.0))


def run_adaptive(setting: Setting, variant: Variant) -> tuple[list[FrameRow], int]:
    """The adaptive arm's frames, in order, and how often its plan changed."""
    with variant.in_force():
        device = VirtualDevice("adaptive", setting, Plan(1, setting.bundle.last_cut, RAW),
                               variant.rules)
        device.beliefs.transfers = Transfers(memory=variant.memory)
        if not variant.sees_waiting:
            device.controller.planner = _Unaware(setting.options, variant.rules)
        rows = device.run()
    return sorted(rows, key=lambda row: row.index), device.plans.switches


@dataclass
class _Found:
    """Of one variant, a number a cell."""

    over: list[float] = field(default_factory=list)          # mean latency over the oracle's
    on_time: list[float] = field(default_factory=list)       # share
    kl: list[float] = field(default_factory=list)            # of frames that were coded
    switches: list[int] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cells.add_arguments(parser, minutes=10.0)
    args = parser.parse_args()
    with cells.ground(args) as ground:
        links = cells.recorded(args)
        matrix = [cells.Cell(link, device_s, deadline_s, rtt_s) for link in links
                  for device_s, deadline_s in BOARDS for rtt_s in cells.ROUND_TRIPS_S]
        result = {
            "minutes": args.minutes, "bundle": ground.bundle.manifest.name,
            "cells": [cell.as_dict() for cell in matrix],
            "variants": _compare(ground, matrix),
            "payload_spread": _payload_spread(ground.bundle),
            "standstill_ratio": {cell.link_name: _standstill(cell.link) for cell in matrix}}
    rig.save("beliefs", result)
    print(_table(result["variants"]))
    print("spread of the log of payloads:", result["payload_spread"])
    print("seconds in which nothing moves:", result["standstill_ratio"])
    return 0


def _compare(ground: cells.Ground, matrix: list[cells.Cell]) -> dict[str, dict]:
    variants = {("", AS_IT_IS.name): AS_IT_IS} | {
        (group, v.name): v for group, members in VARIANTS.items() for v in members}
    found = {key: _Found() for key in variants}
    done = 0
    for cell in matrix:
        setting = ground.trial(cell).setting()
        oracle_ms = _mean_ms(run_oracle(setting))
        for key, variant in variants.items():
            rows, switches = run_adaptive(setting, variant)
            found[key].over.append(_mean_ms(rows) / oracle_ms)
            found[key].on_time.append(float(np.mean([not r.late for r in rows])))
            found[key].kl.append(float(np.mean([r.kl for r in rows if r.kl is not None] or [0])))
            found[key].switches.append(switches)
            done += 1
            rig.progress(f"{done}/{len(matrix) * len(variants)}")
    base = found["", AS_IT_IS.name]
    return {": ".join(filter(None, key)): {
        "over_oracle": float(np.mean(f.over)), "least": min(f.over), "most": max(f.over),
        "on_time_ratio": float(np.mean(f.on_time)), "kl": float(np.mean(f.kl)),
        "slower": [a / b - 1 for a, b in zip(f.over, base.over)],
        "switches": sum(f.switches), "by_cell": f.over} for key, f in found.items()}


def _mean_ms(rows: list[FrameRow]) -> float:
    return float(np.mean([r.total_ms for r in rows if is_answered(r)]))


def _payload_spread(bundle: Bundle) -> dict[str, float]:
    """How much the size of a payload varies from photo to photo: deviation of its logarithm."""
    if not cells.PHOTOS.exists():
        return {}
    files = list_inputs(cells.PHOTOS, 60)
    runner = Runner(bundle)
    coder = Coder(clips=bundle.clips, image=bundle.manifest.image, codings=bundle.codings)
    logs: dict[str, list[float]] = {}
    for done, file in enumerate(files):
        live = load_inputs(bundle, file)[0]
        for index, entry in enumerate(bundle.manifest.cuts[:-1]):
            if index:
                live.update(runner.run_segment(index - 1, live))
            rate, specs = bundle.rate(entry.cut), bundle.boundary(entry.cut)
            if rate is not None:
                payload = encode(coder, [live[s.name] for s in specs], specs,
                                 Rung.parse("kl0.02"), rate).payload
                logs.setdefault(str(entry.cut), []).append(math.log(len(payload)))
        rig.progress(f"photo {done + 1}/{len(files)}")
    return {cut: float(np.std(values)) for cut, values in logs.items()}


def _standstill(link: str) -> float:
    """The share of an uplink's seconds in which it carries nothing."""
    rate = LinkSpec.parse(link).rate
    seconds = int(rate.period_s)
    return sum(rate.bytes_between(t, t + 1) == 0 for t in range(seconds)) / seconds


def _table(variants: dict[str, dict]) -> str:
    lines = ["| | over the oracle: mean, least, most | against as it is | on time | nats |"
             " changes of plan |", "|---|---|---|---|---|---|"]
    lines += [f"| {name} | {v['over_oracle']:.3f} ({v['least']:.3f} to {v['most']:.3f}) |"
              f" {min(v['slower']):+.1%} to {max(v['slower']):+.1%} | {v['on_time_ratio']:.1%} |"
              f" {v['kl']:.4f} | {v['switches']} |" for name, v in variants.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
