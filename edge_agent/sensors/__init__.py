"""What the device can tell of itself: one file a sensor, all with one method, `read`.

Files of /proc and /sys, nothing else, but for the command of the provider `exec`. A sensor is
made whether its hardware is there or not; what is absent is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.sensors.config import SensorsConfig
from edge_agent.sensors.health import Health, Sensor, merge
from edge_agent.sensors.monitor import Monitor
from edge_agent.sensors.topic import TopicReports

__all__ = ["Health", "Monitor", "Sensor", "SensorSet", "SensorsConfig", "TopicReports", "merge",
           "open_sensors"]


@dataclass(frozen=True, slots=True)
class SensorSet:
    """The sensors of a configuration, in the order in which they are to be merged."""

    sensors: tuple[Sensor, ...]
    # For battery = "mqtt": what is published to the topic goes in here.
    reports: TopicReports | None = None


def open_sensors(config: SensorsConfig, root: str | None = None) -> SensorSet:
    """The sensors of a configuration; `root` in place of the configured one.

    A report overrides what the kernel says of power. The kernel's temperature of the processor
    overrides a report's, which may be that of a battery.
    """
    from edge_agent.sensors.battery import Battery
    from edge_agent.sensors.cpu import Cpu
    from edge_agent.sensors.current import Current
    from edge_agent.sensors.frequency import Frequency
    from edge_agent.sensors.mains import Mains
    from edge_agent.sensors.pressure import Pressure
    from edge_agent.sensors.temperature import Temperature
    from edge_agent.sensors.throttling import Throttling
    from edge_agent.sensors.tree import Tree
    from edge_agent.sensors.wifi import Wifi

    tree = Tree(config.root if root is None else root)
    power: list[Sensor] = []
    if config.battery != "none":
        power += [Mains(tree), Current(
            tree, charging_is_negative=config.charging_current == "negative")]
    reports = None
    match config.battery:
        case "auto":
            power.insert(0, Battery(tree))
        case "exec":
            from edge_agent.sensors.command import Command
            power.append(Command(config.command, timeout_s=config.timeout_s,
                                 every_s=config.command_every_s))
        case "file":
            from edge_agent.sensors.json_file import JsonFile
            power.append(JsonFile(config.path, max_age_s=config.max_age_s))
        case "mqtt":
            reports = TopicReports(max_age_s=config.max_age_s)
            power.append(reports)
    return SensorSet((*power, Cpu(tree), Pressure(tree), Temperature(tree), Throttling(tree),
                      Frequency(tree), Wifi(tree, config.wifi)), reports)
