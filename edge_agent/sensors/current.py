"""What the device draws, from a current sensor on its supply: INA219 or INA226 through hwmon.

`echo ina219 0x40 > /sys/bus/i2c/devices/i2c-1/new_device` makes one known. The kernel takes a
shunt of 10 mOhm unless `shunt_resistor` (uOhm) is written; UPS boards mostly have 100 mOhm, and
then say ten times too much.

Direction: a current that leaves the battery, or passes on to the device, is positive, one that
charges is negative; on boards wired the other way round a setting turns that. While a battery
is charged the sensor sees the charger's work, not the device's, and the draw is unknown. The
chip's power register has no sign, so power without a current to tell the direction says
nothing.
"""

from __future__ import annotations

from edge_agent.sensors.health import Health
from edge_agent.sensors.tree import Tree

_CHIPS = ("ina219", "ina226")


class Current:
    name = "current"

    def __init__(self, tree: Tree, *, charging_is_negative: bool = True):
        self._tree = tree
        self._sign = 1 if charging_is_negative else -1

    def read(self, now_s: float) -> Health:
        for path in self._tree.find("sys/class/hwmon/hwmon*"):
            chip = self._tree.text(f"{path}/name")
            if chip in _CHIPS:
                # The first one: what a second one measures (a rail, a panel) nobody can tell.
                source = f"{path.rpartition('/')[2]}/{chip}"
                return Health.of(source, power_w=self._power_w(path))
        return Health()

    def _power_w(self, path: str) -> float | None:
        current_ma = self._tree.number(f"{path}/curr1_input")
        if current_ma is None or current_ma * self._sign < 0:
            return None
        power_uw = self._tree.number(f"{path}/power1_input")
        # Older drivers let a great power overflow into a negative one.
        if power_uw is not None and power_uw >= 0:
            return power_uw / 1e6
        voltage_mv = self._tree.number(f"{path}/in1_input")
        return None if voltage_mv is None else abs(current_ma) * voltage_mv / 1e6
