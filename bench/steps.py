"""How soon plans follow the link: `python -m bench.steps [--bundle FILE]`.

The agent's own code in virtual time. A link of 10 Mbit/s that falls to 0.5 for half a minute and
comes back, again and again: how many frames after a step are not within 15 % of what the
clairvoyant oracle takes, how many are late for it, and what that is with other memories
(bench.beliefs). A link that carries hardly anything, or nothing, for a while: how soon it is used
after that, by how long probes wait for each other. And outages under an energy limit, if it forbids
probes, too.
"""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import replace

import numpy as np

from bench import cells, rig
from bench.beliefs import (
    AS_IT_IS, Average, LogNormal, Variant, one_memory, run_adaptive,
)
from edge_agent.belief.transfers import TwoMemories
from edge_agent.planner import explore
from edge_agent.policies.config import CostConfig, PolicyConfig, rules_of
from edge_agent.policies.energy import EnergyBudget
from split_lab.field.oracle import run_oracle
from split_lab.field.records import FrameRow
from split_lab.field.trial import BatteryFile
from split_lab.field.virtual_run import AdaptiveArm

STEP_S = 30.0
LINK = f"step:10Mbit@{STEP_S:g},0.5Mbit@{STEP_S:g}"
BOARDS = ((0.1, 0.3), (0.4, 0.3), (0.4, 0.5), (2.0, 1.0))
# As good as the oracle, for a frame.
NEAR = 1.15
BAD_S = (25.0, 60.0, 120.0, 300.0)
BAD = ("0.02Mbit", "0")
GOOD_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cells.add_arguments(parser, minutes=8.0)
    args = parser.parse_args()
    with cells.ground(args) as ground:
        result = {
            "steps": _steps(ground), "back": _back(ground),
            "energy_limit": _energy_limit(ground, next(
                link for link in cells.recorded(args) if "ATT" in link))}
    rig.save("steps", result)
    for part, found in result.items():
        print(part)
        for row in found:
            print("  ", row)
    return 0


def _steps(ground: cells.Ground) -> list[dict]:
    """After every step, until the next."""
    variants = (AS_IT_IS, Variant("say grows with bytes", TwoMemories(telling_bytes=math.inf)),
                Variant("scenarios, 2.5 s", one_memory(2.5)),
                Variant("scenarios, 8 s", one_memory(8.0)),
                Variant("scenarios, 30 s", one_memory(30.0)),
                Variant("log-normal, 10 s", LogNormal(10.0)),
                Variant("average, 10 s", Average((10.0,))))
    found = []
    for device_s, deadline_s in BOARDS:
        cell = cells.Cell(LINK, device_s, deadline_s, 0.04)
        setting = ground.trial(cell).setting()
        oracle = run_oracle(setting)
        for variant in variants:
            rows, switches = run_adaptive(setting, variant)
            down, up, late = [], [], []
            for begin in np.arange(STEP_S, setting.frames * setting.period_s - STEP_S, STEP_S):
                span = [(r, o) for r, o in zip(rows, oracle)
                        if begin <= r.offered_s < begin + STEP_S]
                off = _until_near(span)
                if round(begin / STEP_S) % 2:
                    down.append(off)
                    late.append(sum(r.late and not o.late for r, o in span))
                else:
                    up.append(span[off][0].offered_s - begin if off < len(span) else math.inf)
            found.append(cell.as_dict() | {
                "variant": variant.name, "down_frames": _spread(down), "late": _spread(late),
                "up_s": _spread(up), "switches": switches})
        rig.progress(f"steps: {device_s:g} s done")
    return found


def _until_near(span: list[tuple[FrameRow, FrameRow]]) -> int:
    """Frames before the first that takes about what the oracle's takes."""
    return next((i for i, (row, best) in enumerate(span)
                 if row.total_ms <= NEAR * best.total_ms), len(span))


def _back(ground: cells.Ground) -> list[dict]:
    """How long a link is good again before a frame goes over it in time."""
    variants = (AS_IT_IS, Variant("a probe waits for up to 64 s",
                                  constants=((explore, "LAST_S", 64.0),)))
    found = []
    for bad, bad_s in itertools.product(BAD, BAD_S):
        link = f"step:10Mbit@{GOOD_S:g},{bad}@{bad_s:g}"
        cell = cells.Cell(link, 0.4, 0.3, 0.04)
        cycle_s = GOOD_S + bad_s
        setting = ground.trial(cell, duration_s=6 * cycle_s).setting()
        oracle = run_oracle(setting)
        for variant in variants:
            rows, _ = run_adaptive(setting, variant)
            used_s = []
            for begin in cycle_s * np.arange(1, 6):
                span = [(r, o) for r, o in zip(rows, oracle)
                        if begin <= r.offered_s < begin + GOOD_S]
                used_s.append(span[min(_until_near(span), len(span) - 1)][0].offered_s - begin)
            found.append({"link": link, "variant": variant.name,
                          "used_after_s": _spread(used_s)})
        rig.progress(f"back: {link} done")
    return found


def _energy_limit(ground: cells.Ground, link: str) -> list[dict]:
    """Two hours on a battery that has to last them, over an uplink with an outage in each round
    of its trace; with the limit soft, as it is, and hard, so that it forbids probes, too."""
    trial = ground.trial(cells.Cell(link, 0.4, 1.0, 0.04), duration_s=7200.0,
                         battery=BatteryFile(capacity_wh=6.1, base_w=2.7, hours=2.0))
    found = []
    for name, limit in (("probes are free of it", EnergyBudget()),
                        ("probes are under it", EnergyBudget(hard=True))):
        rules = rules_of(PolicyConfig(), CostConfig())
        rules = replace(rules, limits=tuple(
            limit if isinstance(old, EnergyBudget) else old for old in rules.limits))
        rows, switches = AdaptiveArm(trial, trial.setting(), rules=rules).run()
        found.append({
            "limit": name, "mean_ms": float(np.mean([r.total_ms for r in rows])),
            "remote_by_quarter": [round(float(np.mean([
                r.outcome == "remote" for r in rows if 1800 * q <= r.offered_s < 1800 * (q + 1)])),
                3) for q in range(4)],
            "joules_a_frame": float(np.mean([r.energy_j for r in rows])), "switches": switches})
        rig.progress(f"energy limit: {name}, done")
    return found


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "most": float(max(values)), "n": len(values)}


if __name__ == "__main__":
    raise SystemExit(main())
