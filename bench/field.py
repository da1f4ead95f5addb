"""The matrix in virtual time: `python -m bench.field [--bundle FILE] [--minutes M] [--traces DIR]`.

Every uplink (recorded, and synthetic ones), boards on which the whole model takes 100, 400 and
2000 ms, round trips of 40 and 80 ms: adaptive against the clairvoyant oracle, the best static
choice in hindsight, the peer's policy, JPEG and all-local.
"""

from __future__ import annotations

import argparse

from bench import cells, rig
from split_core.cost.profile import dump
from split_lab.field.summary import summarize
from split_lab.field.virtual_run import run_virtual

SYNTHETIC = ("synthetic:11,0.8Mbit", "synthetic:12,3Mbit")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cells.add_arguments(parser, minutes=10.0)
    args = parser.parse_args()
    with cells.ground(args) as ground:
        rows = _matrix(ground, cells.recorded(args) + list(SYNTHETIC))
        rig.save("field", {"minutes": args.minutes, "bundle": ground.bundle.manifest.name,
                           "profile": dump(ground.profile).decode(), "cells": rows})
    print(_table(rows))
    return 0


def _matrix(ground: cells.Ground, links: list[str]) -> list[dict]:
    matrix = [cells.Cell(link, device_s, deadline_s, rtt_s) for link in links
              for device_s, deadline_s in cells.BOARDS for rtt_s in cells.ROUND_TRIPS_S]
    rows = []
    for cell in matrix:
        run = run_virtual(ground.trial(cell))
        rows.append(cell.as_dict() | {"arms": summarize(run)["arms"], "static": run.notes[0]})
        rig.progress(f"{len(rows)}/{len(matrix)}")
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
