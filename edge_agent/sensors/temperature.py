"""The processor's temperature: the zone that is named for it, else the hottest there is."""

from __future__ import annotations

from edge_agent.sensors.health import Health
from edge_agent.sensors.tree import Tree

# Beginnings of a zone's type, best first: Raspberry Pi, its older kernels, Intel, and what
# other boards call theirs. An acpitz or a Wi-Fi card (iwlwifi_1) is not the processor.
_PROCESSOR = ("cpu-thermal", "cpu_thermal", "bcm2835_thermal", "x86_pkg_temp", "soc", "cpu")


class Temperature:
    name = "temperature"

    def __init__(self, tree: Tree):
        self._tree = tree

    def read(self, now_s: float) -> Health:
        best, best_key = Health(), None
        for path in self._tree.find("sys/class/thermal/thermal_zone*"):
            kind = self._tree.text(f"{path}/type")
            millidegrees = self._tree.number(f"{path}/temp")
            if millidegrees is None:
                continue
            zone = path.rpartition("/")[2]
            reading = Health.of(f"{zone}/{kind}" if kind else zone,
                                temperature_c=millidegrees / 1000)
            # Of zones equally named the hottest counts.
            key = (-_rank(kind), millidegrees)
            if reading.temperature_c is not None and (best_key is None or key > best_key):
                best, best_key = reading, key
        return best


def _rank(kind: str | None) -> int:
    for rank, beginning in enumerate(_PROCESSOR):
        if (kind or "").lower().startswith(beginning):
            return rank
    return len(_PROCESSOR)
