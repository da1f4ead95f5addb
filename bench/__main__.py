"""Every benchmark, one after the other: `python -m bench`. JSON in bench/results/."""

from __future__ import annotations

import subprocess
import sys

NAMES = ("kernels", "segments", "round_trip", "memory", "coded_bits", "codec", "agreement",
         "demo", "switching", "decisions", "field", "beliefs", "steps", "seal")


def main() -> int:
    """Each in a process of its own, so that none warms up or loads the next."""
    status = 0
    for name in NAMES:
        print(f"\n=== bench.{name}", flush=True)
        arguments = ["--json", "bench/results/kernels.json"] if name == "kernels" else []
        status |= subprocess.run([sys.executable, "-m", f"bench.{name}", *arguments]).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
