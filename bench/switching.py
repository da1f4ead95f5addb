"""What switching costs: `python -m bench.switching [--bundle FILE] [--switches N]`.

Ten thousand forced switches between all plans of a bundle, through a real broker and worker, while
another agent keeps the worker busy. Each plan lasts a seeded number of frames; the
first frame after a switch is compared with the later ones of the same plan, so that what the
machine does meanwhile it does to both. No frame may be lost, repeated or answered twice.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import threading
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from bench import rig
from edge_agent.planner.candidates import options_of
from split_core.cost.measure import plausible_inputs
from split_lab import demo
from split_lab.split import split_model

SEED = 20060216


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", help="default: the demo's meter reader")
    parser.add_argument("--switches", type=int, default=10_000)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = Path(args.bundle) if args.bundle else _demo_bundle(folder)
        broker = stack.enter_context(rig.mosquitto())
        stack.enter_context(rig.worker(broker))
        result = _measure(stack, broker, path, args.switches)
    print(result)
    rig.save("switching", result)
    return 0 if not result["lost"] and not result["repeated"] else 1


def _measure(stack, broker, path: Path, switches: int) -> dict:
    ends: Counter[int] = Counter()
    agent = stack.enter_context(rig.agent(
        broker, path, cut=0, on_answer=lambda answer: ends.update([answer.frame_id])))
    stop = threading.Event()
    load = threading.Thread(target=_keep_busy, args=(broker, path, stop), daemon=True)
    load.start()
    plans = options_of(agent.bundle, 0.02, 0.05)
    rng, sample = random.Random(SEED), plausible_inputs(agent.bundle)[0]
    first, later = defaultdict(list), defaultdict(list)
    order = 0
    for done in range(switches):
        option = plans[(order := (order + rng.randrange(1, len(plans))) % len(plans))]
        agent.set_plan(option.cut, option.rung)
        for i in range(rng.choice((2, 3))):
            answer = agent.infer(sample)
            if answer.plan_id != agent.plan.plan_id:
                raise RuntimeError(f"frame of plan {answer.plan_id} under {agent.plan.plan_id}")
            (later if i else first)[option.name].append(answer.total_ms)
        rig.progress(f"{done + 1}/{switches}")
    stop.set()
    load.join(30)
    ratios = {name: float(np.median(first[name]) / np.median(later[name])) for name in first}
    return {
        "switches": switches, "frames": len(ends),
        "lost": len(agent.ledger.open_frames), "repeated": sum(
            times > 1 for times in ends.values()),
        "outcomes": {k.value: v for k, v in agent.ledger.counts.items()},
        "first_over_later": {"all": float(np.median(list(ratios.values()))),
                             "worst": max(ratios.values()), "by_plan": ratios},
        "first_ms": rig.spread(sum(first.values(), [])),
        "later_ms": rig.spread(sum(later.values(), [])), "seed": SEED,
    }


def _demo_bundle(folder: Path) -> Path:
    path = folder / "meter.split.tflite"
    path.write_bytes(split_model(Path(demo.__file__).parent / "meter.tflite"))
    return path


def _keep_busy(broker, path: Path, stop: threading.Event) -> None:
    with rig.agent(broker, path, cut=0, device_id="bench-load") as agent:
        sample = plausible_inputs(agent.bundle)[0]
        while not stop.is_set():
            agent.infer(sample)


if __name__ == "__main__":
    raise SystemExit(main())
