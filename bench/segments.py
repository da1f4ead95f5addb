"""Segments chained against the whole model: `python -m bench.segments`.

The two take turns in one run, for each model and runtime, at the default cuts. A border
costs a copy of its tensor and a call into the runtime.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import rig
from split_core.model.bundle import open_bundle
from split_core.model.runner import Runner, WholeModel, available_runtimes
from split_lab.split import split_model
from split_lab.trial import random_tensor

_SECONDS = 6.0        # for each model and runtime
_LEAST_ROUNDS = 15


def measure(model: Path, bundle_path: Path, runtime: str) -> dict:
    bundle = open_bundle(bundle_path)
    whole, chain = WholeModel(model, runtime=runtime), Runner(bundle, runtime=runtime)
    rng = np.random.default_rng(1)
    inputs = {n: random_tensor(bundle.specs[n], rng) for n in bundle.manifest.inputs}
    times: tuple[list[float], list[float]] = [], []
    end_s = time.perf_counter() + _SECONDS
    while len(times[0]) < _LEAST_ROUNDS or time.perf_counter() < end_s:
        for kept, run in zip(times, (lambda: whole.run(inputs.values()),
                                     lambda: chain.run(inputs, 0, bundle.last_cut))):
            begin_s = time.perf_counter()
            run()
            kept.append(1e6 * (time.perf_counter() - begin_s))
    whole_us, chain_us = np.array(times[0][3:]), np.array(times[1][3:])
    # Neighbours of one round ran under one load, so their difference is what a border costs.
    extra_us = float(np.median(chain_us - whole_us))
    segments = len(bundle.manifest.segments)
    return {
        "model": model.stem, "runtime": runtime, "segments": segments,
        "whole_us": rig.spread(whole_us), "chained_us": rig.spread(chain_us),
        "extra_us": round(extra_us, 1), "extra_us_per_segment": round(extra_us / segments, 2),
        "extra_ratio": round(extra_us / float(np.median(whole_us)), 4),
        "goal_us": round(0.02 * float(np.median(whole_us)) + 10 * segments, 1),
    }


def main() -> int:
    models = sorted((rig.SHARED / "models").glob("*.tflite"))
    models += sorted(Path("split_lab/demo").glob("*.tflite"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            path = Path(folder) / "m.split.tflite"
            path.write_bytes(split_model(model))
            for runtime in available_runtimes():
                rig.progress(f"{model.stem} {runtime}")
                rows.append(measure(model, path, runtime))
    rig.progress("")
    print(f"{'model':<30}{'runtime':<16}{'segs':>5}{'whole us':>10}{'extra us':>10}"
          f"{'a segment':>10}{'extra':>8}  goal 2 % + 10 us a segment")
    for r in rows:
        met = "met" if r["extra_us"] <= r["goal_us"] else "MISSED"
        print(f"{r['model']:<30}{r['runtime']:<16}{r['segments']:>5}"
              f"{r['whole_us']['median']:>10.0f}{r['extra_us']:>10.0f}"
              f"{r['extra_us_per_segment']:>10.1f}{r['extra_ratio']:>8.1%}  {met}")
    print(rig.save("segments", rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
