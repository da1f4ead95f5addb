"""What is known of the device, and who said so.

Unknown is a value of its own: None never means healthy. A sensor gives a Health with only the
fields it knows; readings are merged in order, and a later one overrides an earlier one only in
the fields it knows itself. What cannot be true is refused in one place, `Health.of`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Protocol

# Outside of these a value is the fault of a sensor, not a state of the device. They are wide:
# what is unusual is for the reader of a Health to judge.
PLAUSIBLE = {
    "battery_ratio": (0.0, 1.0),
    "battery_wh": (0.0, 10_000.0),
    "battery_full_wh": (0.01, 10_000.0),
    "power_w": (0.0, 1_000.0),
    "cpu_busy_ratio": (0.0, 1.0),
    "cpu_count": (1, 4096),
    "load1": (0.0, 100_000.0),
    "cgroup_throttled_ratio": (0.0, 1.0),
    "cpu_pressure_ratio": (0.0, 1.0),
    "memory_pressure_ratio": (0.0, 1.0),
    "io_pressure_ratio": (0.0, 1.0),
    # Silicon is dead or off well before either end; absent sensors tend to say -274 or 0x7fff.
    "temperature_c": (-40.0, 125.0),
    "cpu_hz": (1_000_000, 100_000_000_000),
    "cpu_max_hz": (1_000_000, 100_000_000_000),
    "wifi_quality_ratio": (0.0, 1.0),
    # Thermal noise of 20 MHz is -101 dBm; -256 is how drivers say they do not know.
    "wifi_level_dbm": (-120.0, -1.0),
    "wifi_retries": (0, 2**64),
    "wifi_missed_beacons": (0, 2**64),
}


@dataclass(frozen=True, slots=True)
class Health:
    """One reading of everything; None where nobody knows."""

    at_s: float | None = None                    # monotonic, when the reading began
    battery_ratio: float | None = None           # 0 empty, 1 full; several batteries as one
    battery_wh: float | None = None              # energy left
    battery_full_wh: float | None = None         # as its gauge has learned it, not as designed
    power_w: float | None = None                 # what the whole device draws, positive
    mains: bool | None = None                    # somebody else pays for the energy
    cpu_busy_ratio: float | None = None          # of all CPUs, since the reading before
    cpu_count: int | None = None                 # online
    load1: float | None = None
    cgroup_throttled_ratio: float | None = None  # of our CPU periods, since the reading before
    cpu_pressure_ratio: float | None = None      # of 10 s in which something waited for it
    memory_pressure_ratio: float | None = None
    io_pressure_ratio: float | None = None
    temperature_c: float | None = None           # of the processor
    under_voltage: bool | None = None            # now, or within the last seconds
    frequency_capped: bool | None = None         # now
    throttled: bool | None = None                # now
    soft_temperature_limit: bool | None = None   # now
    throttled_since_boot: bool | None = None     # any of these four; True or unknown
    cpu_hz: int | None = None                    # of the fastest CPU, as the kernel asked for
    cpu_max_hz: int | None = None
    governor: str | None = None
    wifi_interface: str | None = None
    wifi_quality_ratio: float | None = None
    wifi_level_dbm: float | None = None
    wifi_retries: int | None = None              # counted by the driver since it came up
    wifi_missed_beacons: int | None = None
    # Field -> which sensor gave it, such as "power_supply/BAT0".
    sources: dict[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, source: str, **values: float | bool | str | None) -> Health:
        """What one source says; values that cannot be true are left unknown."""
        known = {name: value for name, value in values.items() if _plausible(name, value)}
        return cls(**known, sources=dict.fromkeys(known, source))

    def merged(self, later: Health) -> Health:
        """This one, overridden by another in the fields that one knows."""
        return Health(**{**_known(self), **_known(later)},
                      sources={**self.sources, **later.sources})


class Sensor(Protocol):
    """One kind of sensor.

    `read` does not raise and does not block long. A sensor that may wait for another process
    also has a `close`, callable from any thread, that ends the wait.
    """

    name: str

    def read(self, now_s: float) -> Health:
        """What is known now; `now_s` is monotonic."""


def merge(readings: Iterable[Health]) -> Health:
    """All readings as one; later ones override earlier ones in the fields they know."""
    health = Health()
    for reading in readings:
        health = health.merged(reading)
    return health


_NAMES = tuple(f.name for f in fields(Health) if f.name != "sources")


def _known(health: Health) -> dict:
    return {name: value for name in _NAMES
            if (value := getattr(health, name)) is not None}


def _plausible(name: str, value: float | bool | str | None) -> bool:
    if value is None:
        return False
    low, high = PLAUSIBLE.get(name, (None, None))
    return low is None or low <= value <= high       # NaN is in no range
