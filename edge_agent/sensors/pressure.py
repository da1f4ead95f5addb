"""Pressure stall information: the share of the last ten seconds in which something waited.

Raspberry Pi OS builds it in but leaves it off; `psi=1` on the kernel's command line brings it.
"""

from __future__ import annotations

from edge_agent.sensors.health import Health
from edge_agent.sensors.tree import Tree, number


class Pressure:
    name = "pressure"

    def __init__(self, tree: Tree):
        self._tree = tree

    def read(self, now_s: float) -> Health:
        return Health.of("proc/pressure", **{
            f"{kind}_pressure_ratio": _some_avg10(self._tree.text(f"proc/pressure/{kind}"))
            for kind in ("cpu", "memory", "io")})


def _some_avg10(text: str | None) -> float | None:
    # some avg10=1.53 avg60=0.87 avg300=0.21 total=1234567
    words = text.split(maxsplit=2) if text else []
    if len(words) < 2 or words[0] != "some" or not words[1].startswith("avg10="):
        return None
    percent = number(words[1].removeprefix("avg10="))
    return None if percent is None else percent / 100
