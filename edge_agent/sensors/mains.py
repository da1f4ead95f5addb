"""Whether the device hangs on mains: supplies of type Mains or USB that have `online`.

UPS boards bring one through the overlay gpio-charger (`dtoverlay=gpio-charger,gpio=6,
type=mains`), laptops an AC adapter. One that is online is enough; that none is can only be said
when all of them answer. A battery's own `online` says that a gauge is there, nothing of mains.
"""

from __future__ import annotations

from edge_agent.sensors.health import Health
from edge_agent.sensors.tree import Tree

SUPPLIES = "sys/class/power_supply"


class Mains:
    name = "mains"

    def __init__(self, tree: Tree):
        self._tree = tree

    def read(self, now_s: float) -> Health:
        online = mains_supplies(self._tree)
        for supply, value in online.items():
            if value:
                return Health.of(f"power_supply/{supply}", mains=True)
        if not online or None in online.values():
            return Health()
        return Health.of(f"power_supply/{'+'.join(online)}", mains=False)


def mains_supplies(tree: Tree) -> dict[str, bool | None]:
    """Supply -> whether it is online; None if it does not say."""
    found = {}
    for path in tree.find(f"{SUPPLIES}/*"):
        if tree.text(f"{path}/type") in ("Mains", "USB") and (
                tree.text(f"{path}/scope") != "Device"):
            # 0 off, 1 on, 2 on with a voltage that was negotiated.
            value = tree.number(f"{path}/online")
            found[path.rpartition("/")[2]] = bool(value) if value in (0, 1, 2) else None
    return found
