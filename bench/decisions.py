"""How long deciding takes: `python -m bench.decisions [--bundle FILE]`.

One decision over 200 candidates and more, with full memories, off the frame path; and the choice
of a frame's step on it. Repeated, medians and quartiles, against nothing but the clock: the limits
are one millisecond and twenty microseconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from bench import rig
from edge_agent.belief.beliefs import Beliefs, Outlook
from edge_agent.control.plans import Plans
from edge_agent.frames import Plan
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.planner.candidates import Option, options_of
from edge_agent.planner.planner import Planner
from edge_agent.policies.config import CostConfig, PolicyConfig, rules_of
from split_core.model.bundle import Bundle, open_bundle
from split_core.wire.rungs import Rung
from split_lab.field.trial import plan_of
from tests.support.calibrated import calibrate_roughly
from tests.support.tiny_models import skip_model

CANDIDATES = 200
ROUNDS = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", help="default: a tiny calibrated one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(args.bundle) if args.bundle else _tiny(Path(folder))
        result = _measure(bundle)
    print(result)
    rig.save("decisions", result)
    return 0


def _tiny(folder: Path) -> Bundle:
    model = folder / "skip.tflite"
    model.write_bytes(skip_model())
    return calibrate_roughly(model, folder / "skip.split.tflite", 3, margin=0.5)


def _measure(bundle: Bundle) -> dict:
    options = options_of(bundle, 0.02, 0.05)
    segments = len(bundle.manifest.segments)
    times = SegmentTimes(segments, [0.4 / segments] * segments)
    beliefs = Beliefs(bundle, options, times, deadline_s=0.5, encode_s={})
    workers = tuple(f"worker-{i}" for i in range(
        1 + CANDIDATES // (2 * (len(options) - 1))))
    for i in range(40):
        beliefs.on_frame(0.1 * i)
        beliefs.on_sent(i, workers[0], options[0].cut, 3000 + 100 * i, 0.1 * i)
        beliefs.on_answer(i, 0.001, 0.004, 0.1 * i + 0.07 + 0.001 * (i % 7))
    planner = Planner(options, rules_of(PolicyConfig(), CostConfig()))

    def state(i: int):
        return beliefs.state(workers, link_up=True, waiting_bytes=0, outlook=Outlook(),
                             now_s=4.0 + 0.001 * i)

    states = [state(i) for i in range(ROUNDS)]
    plans, plan = _step_plan(bundle, options)
    plans.believe(plan, beliefs.step_belief(states[0], workers[0], options[0]))
    return {
        "candidates": len(planner.candidates(workers)),
        "scenarios": len(states[0].scenarios),
        "state_us": _timed(state, range(ROUNDS)),
        "decision_us": _timed(planner.rule, states),
        "step_us": _timed(lambda i: plans.step(plan, 0.05 + 1e-4 * i, (1000, 0.01)),
                          range(ROUNDS)),
    }


def _step_plan(bundle: Bundle, options: tuple[Option, ...]) -> tuple[Plans, Plan]:
    option = next(o for o in options if o.coarsest)
    plan = plan_of(option)
    return Plans(bundle, Plan(1, bundle.last_cut, Rung.parse("raw"))), plan


def _timed(what, inputs) -> dict[str, float]:
    taken = []
    for value in inputs:
        begin_s = time.perf_counter()
        what(value)
        taken.append(1e6 * (time.perf_counter() - begin_s))
    return rig.spread(taken)


if __name__ == "__main__":
    raise SystemExit(main())
