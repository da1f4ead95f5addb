"""Clock and governor of the CPUs.

The fastest CPU counts: inference runs there. What is read is what the kernel asked for; a
Raspberry Pi whose firmware throttles runs slower than that, see throttling.py.
"""

from __future__ import annotations

import re

from edge_agent.sensors.health import Health
from edge_agent.sensors.tree import Tree

_GOVERNOR = re.compile(r"[a-z][a-z0-9_]{0,15}")


class Frequency:
    name = "frequency"

    def __init__(self, tree: Tree):
        self._tree = tree

    def read(self, now_s: float) -> Health:
        paths = self._tree.find("sys/devices/system/cpu/cpu[0-9]*/cpufreq")
        governors = {text for path in paths
                     if (text := self._tree.text(f"{path}/scaling_governor"))
                     and _GOVERNOR.fullmatch(text)}
        return Health.of(
            "cpufreq", cpu_hz=self._highest_hz(paths, "scaling_cur_freq"),
            cpu_max_hz=self._highest_hz(paths, "cpuinfo_max_freq"),
            # Several where kinds of core are governed differently.
            governor="+".join(sorted(governors)) or None)

    def _highest_hz(self, paths: list[str], name: str) -> int | None:
        khz = [value for path in paths
               if (value := self._tree.number(f"{path}/{name}")) is not None]
        return int(max(khz) * 1000) if khz else None
