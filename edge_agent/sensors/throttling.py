"""Under-voltage and throttling, as a Raspberry Pi's firmware reports them.

Two files. `rpi_volt` in hwmon (Pi 5 has only this one) is under-voltage within the two seconds
between the driver's polls. `get_throttled` below the firmware's device is a bit field in hex,
and is what that poll brought: without the driver (raspberrypi-hwmon) nothing refreshes it, so
a bit that is clear then says nothing.

The same poll clears the bits that the documentation calls "since boot", so in this file they
mean "since the last poll". Seen once they stay true here; never seen means unknown, not false:
it may have been before us. Reading get_throttled leaves one warning a boot in the kernel's
log, "deprecated, use hwmon sysfs instead"; hwmon has nothing else of what it tells.
"""

from __future__ import annotations

import re

from edge_agent.sensors.health import Health
from edge_agent.sensors.tree import Tree

# soc/soc:firmware up to Pi 4; other kernels and models name or place the node differently.
_FLAGS = ("sys/devices/platform/soc*/*firmware/get_throttled",
          "sys/devices/platform/*firmware/get_throttled")
_UNDER_VOLTAGE, _CAPPED, _THROTTLED, _SOFT_LIMIT = (1 << n for n in range(4))
_OCCURRED = 0xF << 16
# Without "0x" in this file, with it where vcgencmd's output was copied.
_HEX = re.compile(r"(0x)?[0-9a-fA-F]{1,8}")


class Throttling:
    name = "throttling"

    def __init__(self, tree: Tree):
        self._tree = tree
        self._seen = False

    def read(self, now_s: float) -> Health:
        chip, alarm = self._alarm()
        source, flags = self._flags()
        now = flags if flags is not None else 0
        self._seen = self._seen or bool(alarm) or bool(now & _OCCURRED)

        def flag(bit: int) -> bool | None:
            if now & bit:
                return True
            return False if flags is not None and alarm is not None else None

        health = Health.of(source, under_voltage=flag(_UNDER_VOLTAGE),
                           frequency_capped=flag(_CAPPED), throttled=flag(_THROTTLED),
                           soft_temperature_limit=flag(_SOFT_LIMIT),
                           throttled_since_boot=self._seen or None)
        # The alarm catches a dip of milliseconds that the flag of the moment misses.
        if alarm or health.under_voltage is None:
            health = health.merged(Health.of(chip, under_voltage=alarm))
        return health

    def _alarm(self) -> tuple[str, bool | None]:
        for path in self._tree.find("sys/class/hwmon/hwmon*"):
            if self._tree.text(f"{path}/name") == "rpi_volt":
                value = self._tree.text(f"{path}/in0_lcrit_alarm")
                return (f"{path.rpartition('/')[2]}/rpi_volt",
                        {"0": False, "1": True}.get(value or ""))
        return "", None

    def _flags(self) -> tuple[str, int | None]:
        for path in (p for pattern in _FLAGS for p in self._tree.find(pattern)):
            text = self._tree.text(path)
            if text and _HEX.fullmatch(text):
                return "get_throttled", int(text, 16)
        return "rpi_volt", None
