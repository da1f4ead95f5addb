"""The batteries that the kernel knows, as one: how full, how much energy, how fast it goes.

Fuel gauges of UPS boards (MAX17040 and its kin: `dtoverlay=i2c-sensor,max17040`) measure a
voltage and guess a capacity from it; they know neither energy nor current, and what their
`status` says is made up by the driver. So `status` is used for one thing alone: to tell which
way a power that was measured flows. A battery of scope Device is in a mouse, not in us.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.sensors.health import Health
from edge_agent.sensors.mains import SUPPLIES, mains_supplies
from edge_agent.sensors.tree import Tree

# Gauges run a little over: a MAX17040 on a freshly charged cell says 101 (raspberrypi/linux
# #2906), and charge_now passes a charge_full that has not been learned anew. More is nonsense.
_MAX_RATIO = 1.1


@dataclass(frozen=True, slots=True)
class Cell:
    """One battery as its files have it; of power the amount, its direction is in the status."""

    supply: str
    ratio: float | None
    wh: float | None
    full_wh: float | None
    status: str | None
    power_w: float | None


class Battery:
    name = "battery"

    def __init__(self, tree: Tree):
        self._tree = tree

    def read(self, now_s: float) -> Health:
        cells = [_cell(self._tree, path) for path in self._tree.find(f"{SUPPLIES}/*")
                 if _is_ours(self._tree, path)]
        if not cells:
            return Health()
        wh = _total([cell.wh for cell in cells])
        full_wh = _total([cell.full_wh for cell in cells])
        return Health.of(
            f"power_supply/{'+'.join(cell.supply for cell in cells)}",
            battery_ratio=_ratio(cells, wh, full_wh), battery_wh=wh, battery_full_wh=full_wh,
            power_w=_power_w(self._tree, cells))


def _is_ours(tree: Tree, path: str) -> bool:
    return (tree.text(f"{path}/type") == "Battery" and tree.text(f"{path}/scope") != "Device"
            and tree.text(f"{path}/present") != "0")     # an empty bay


def _cell(tree: Tree, path: str) -> Cell:
    def scaled(name: str) -> float | None:
        """Of a file in millionths of a volt, ampere, watt or watt-hour."""
        value = tree.number(f"{path}/{name}")
        return None if value is None else value / 1e6

    voltage_v = scaled("voltage_now")
    # Charge is turned into energy at the voltage it was designed for: the present one sags
    # under load and would let the energy rise when the device rests.
    nominal_v = scaled("voltage_min_design") or voltage_v
    status = tree.text(f"{path}/status")
    power_w = scaled("power_now")
    if power_w is None:
        power_w = _times(scaled("current_now"), voltage_v)
    wh, full_wh = (
        energy if (energy := scaled(f"energy_{when}")) is not None
        else _times(scaled(f"charge_{when}"), nominal_v) for when in ("now", "full"))
    percent = tree.number(f"{path}/capacity")
    return Cell(
        path.rpartition("/")[2], _full_at_most(None if percent is None else percent / 100),
        wh if wh is not None and wh >= 0 else None,
        full_wh if full_wh is not None and full_wh > 0 else None, status,
        # Some drivers say a current that leaves is negative, as the ABI has it; others do not.
        None if power_w is None else abs(power_w))


def _ratio(cells: list[Cell], wh: float | None, full_wh: float | None) -> float | None:
    """By energy, so that a small battery counts for little; else the mean of percentages."""
    if wh is not None and full_wh is not None:
        by_energy = _full_at_most(wh / full_wh)
        if by_energy is not None:
            return by_energy
    ratios = _total([cell.ratio for cell in cells])
    return None if ratios is None else ratios / len(cells)


def _power_w(tree: Tree, cells: list[Cell]) -> float | None:
    """What the device draws: what its batteries give, if they alone feed it.

    One that is charged takes from elsewhere, and with mains online the batteries at most help.
    """
    if any(cell.status == "Charging" for cell in cells) or any(mains_supplies(tree).values()):
        return None
    giving = [cell.power_w for cell in cells if cell.status == "Discharging"]
    return _total(giving) if giving else None


def _total(values: list[float | None]) -> float | None:
    """The sum; a part that is unknown makes it unknown."""
    return None if None in values else sum(values)


def _times(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a * b


def _full_at_most(ratio: float | None) -> float | None:
    return min(ratio, 1.0) if ratio is not None and 0 <= ratio <= _MAX_RATIO else None
