"""The matrix in virtual time: `python -m bench.field [--bundle FILE] [--minutes M] [--traces DIR]`.

Every uplink (recorded, and synthetic ones), boards on which the whole model takes 100, 400 and
2000 ms, round trips of 40 and 80 ms: adaptive against the clairvoyant oracle, the best static
choice in hindsight, the peer's policy, JPEG and all-local. Without a bundle MobileNetV2 is
calibrated first, which takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench import rig
from edge_agent.config import AgentConfig, ModelConfig
from edge_agent.planner.candidates import options_of
from split_core.cost.measure import measure
from split_core.cost.profile import Profile, dump, load
from split_core.model.bundle import Bundle, open_bundle
from split_lab.field.link_spec import LinkSpec
from split_lab.field.summary import summarize
from split_lab.field.trial import PERIOD_PER_WHOLE, Trial
from split_lab.field.virtual_run import run_virtual

MODEL = rig.SHARED / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
PHOTOS = rig.SHARED / "images" / "calibration"
BOARDS = ((0.1, 0.3), (0.4, 0.3), (2.0, 1.0))        # whole model, deadline; seconds
ROUND_TRIPS_S = (0.04, 0.08)
SYNTHETIC = ("synthetic:11,0.8Mbit", "synthetic:12,3Mbit")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", help="a calibrated bundle")
    parser.add_argument("--profile", help="of a machine, as `edge-agent profile --json` prints"
                                          " it (default: measured here)")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--traces", default=str(rig.SHARED / "traces"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(args.bundle or _calibrate(Path(folder)))
        profile = load(Path(args.profile).read_bytes()) if args.profile else measure(bundle)
        rows = _matrix(bundle, profile, args)
    rig.save("field", {"minutes": args.minutes, "bundle": bundle.manifest.name,
                       "profile": dump(profile).decode(), "cells": rows})
    print(_table(rows))
    return 0


def _calibrate(folder: Path) -> Path:
    from split_lab.calibrate.run import calibrate_model

    if not MODEL.exists():
        sys.exit(f"no model at {MODEL}; give --bundle")
    path = folder / "model.split.tflite"
    path.write_bytes(calibrate_model(str(MODEL), str(PHOTOS), samples=60, seed=1).data)
    return path


def _matrix(bundle: Bundle, profile: Profile, args) -> list[dict]:
    config = AgentConfig(model=ModelConfig(str(bundle.path)))
    options = options_of(bundle, config.policy.kl, config.policy.max_kl)
    links = [str(p) for p in sorted(Path(args.traces).glob("*.up"))] + list(SYNTHETIC)
    rows = []
    for text in links:
        for device_s, deadline_s in BOARDS:
            for rtt_s in ROUND_TRIPS_S:
                trial = Trial(bundle, config, options, profile, profile,
                              LinkSpec.parse(text, rtt_s=rtt_s), Path(text).stem, deadline_s,
                              60 * args.minutes, max(1.0, PERIOD_PER_WHOLE * device_s), device_s)
                run = run_virtual(trial)
                rows.append({"link": Path(text).stem, "device_ms": 1e3 * device_s,
                             "deadline_ms": 1e3 * deadline_s, "rtt_ms": 1e3 * rtt_s,
                             "arms": summarize(run)["arms"], "static": run.notes[0]})
                rig.progress(f"{len(rows)}/{len(links) * len(BOARDS) * len(ROUND_TRIPS_S)}")
    return rows


def _table(rows: list[dict]) -> str:
    """A line a cell; ratios of mean latencies."""
    lines = ["| link | board, deadline, rtt ms | oracle ms | adaptive / oracle | / best static |"
             " peer / adaptive (/ oracle) | on time: adaptive, oracle | best arm |",
             "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        a = row["arms"]
        mean = {name: arm["mean_ms"] for name, arm in a.items() if arm["mean_ms"]}
        best = min((n for n in mean if n not in ("oracle", "static")), key=mean.get)
        lines.append(
            f"| {row['link']} | {row['device_ms']:.0f}, {row['deadline_ms']:.0f},"
            f" {row['rtt_ms']:.0f} | {mean['oracle']:.0f} | {mean['adaptive'] / mean['oracle']:.3f}"
            f" | {mean['adaptive'] / mean['static']:.3f}"
            f" | {mean['peer'] / mean['adaptive']:.2f} ({mean['peer'] / mean['oracle']:.2f})"
            f" | {a['adaptive']['deadline_met_ratio']:.1%}, {a['oracle']['deadline_met_ratio']:.1%}"
            f" | {best} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
