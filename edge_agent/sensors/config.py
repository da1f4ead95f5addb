"""Settings of the sensors: the section [sensors] of the agent's file."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from split_core.errors import ConfigError


class SensorsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is read of the device, and how often."""

    # Where /proc and /sys are found: "/host" in a container that has the host's mounted there.
    root: str = "/"
    # Between two readings.
    interval_s: float = 2.0
    # The interface to watch; by default the one with the default route, else the first.
    wifi: str | None = None
    # Who knows the battery. "auto": the kernel; "none": there is none, and mains and current
    # sensors are not asked either; "exec", "file" and "mqtt": a report in JSON (docstring of
    # edge_agent/sensors/report.py), in place of the kernel's batteries and over its mains.
    battery: Literal["auto", "none", "exec", "file", "mqtt"] = "auto"
    # For exec: a program and its arguments, run without a shell.
    command: tuple[str, ...] = ()
    # For exec: between two runs.
    command_every_s: float = 10.0
    # For exec: a run that takes longer is ended. Other sensors wait for it meanwhile.
    timeout_s: float = 1.0
    # For file.
    path: str = ""
    # For mqtt: the topic of the reports.
    topic: str | None = None
    # For file and mqtt: a report that was not renewed for this long is unknown.
    max_age_s: float = 60.0
    # The current an INA219 or INA226 shows while the battery is charged, as the board is wired.
    charging_current: Literal["negative", "positive"] = "negative"

    def check(self) -> None:
        """Raises ConfigError for values that cannot work or contradict each other."""
        for name, low, high in (("interval_s", 0.1, 3600), ("command_every_s", 0.1, 86400),
                                ("timeout_s", 0.05, 60), ("max_age_s", 0.1, 7 * 86400)):
            value = getattr(self, name)
            if not low <= value <= high:         # also NaN and inf, which TOML can write
                raise ConfigError(f"sensors.{name} is {value}, wanted {low} to {high}")
        if not os.path.isabs(self.root):
            raise ConfigError(f"sensors.root is {self.root!r}, wanted an absolute path")
        if self.wifi is not None and not (0 < len(self.wifi) < 16 and self.wifi.isprintable()
                                          and not set(self.wifi) & set("/: ")):
            raise ConfigError(f"sensors.wifi is {self.wifi!r}, wanted an interface such as wlan0")
        if self.topic is not None and (not self.topic or set(self.topic) & set("+#\0")):
            raise ConfigError(f"sensors.topic is {self.topic!r}, wanted one topic, without + and #")
        if any("\0" in word for word in (*self.command, self.path)):
            raise ConfigError("sensors.command and sensors.path cannot have NUL characters")
        if self.command and not self.command[0]:
            raise ConfigError("sensors.command begins with '', wanted a program")
        for key, kind in (("command", "exec"), ("path", "file"), ("topic", "mqtt")):
            given = bool(getattr(self, key))
            if given and self.battery != kind:
                raise ConfigError(f"sensors.{key} is for sensors.battery = \"{kind}\", which is"
                                  f" \"{self.battery}\"; change one or leave out the other")
            if self.battery == kind and not given:
                raise ConfigError(f"sensors.{key} is needed for sensors.battery = \"{kind}\"")
