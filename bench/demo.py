"""The demo's summary as JSON: `python -m bench.demo`."""

from __future__ import annotations

import json
import subprocess
import sys

from bench import rig


def main() -> int:
    child = subprocess.run([sys.executable, "-m", "edge_agent.cli", "demo", "--json"], check=True,
                           capture_output=True, text=True, timeout=180)
    report = json.loads(child.stdout)
    for arm in report["arms"]:
        print(f"{arm['arm']:<16}{arm['answered']:>5} answered  digits {arm['digit_accuracy']:.1%}"
              f"  {arm['bytes_per_frame']:>7.0f} bytes  p50 {arm['p50_ms']:.1f} ms"
              f"  p95 {arm['p95_ms']:.1f} ms  {arm['outcomes']}")
    print(rig.save("demo", report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
