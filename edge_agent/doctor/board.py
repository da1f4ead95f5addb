"""What the board says of itself: supply, heat, battery."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.sensors import open_sensors
from edge_agent.sensors.health import Health
from edge_agent.sensors.temperature import Temperature
from edge_agent.sensors.throttling import Throttling
from edge_agent.sensors.tree import Tree
from split_core.doctor.findings import Finding, fail, ok, warn

_COOLER = "a heat sink or fan, or less work: frame.max_fps, policy.soft_c"


def check_throttling(root: str) -> Iterator[Finding]:
    """A Raspberry Pi's firmware counts; nothing is said on boards that have none."""
    health = Throttling(Tree(root)).read(time.monotonic())
    supply = "use the supply made for this board (5.1 V, 3 A or more) and a short cable: what is" \
             " missing shows as slow frames and damaged cards"
    if health.under_voltage:
        yield warn("supply", "under-voltage, now or at the firmware's last look", supply)
    elif health.under_voltage is False:
        yield ok("supply", "no under-voltage")
    if health.throttled or health.frequency_capped or health.soft_temperature_limit:
        yield warn("throttling", "the board runs slower than it could, to stay cool or because of"
                   " its supply", _COOLER)
    elif health.throttled_since_boot and not health.under_voltage:
        yield warn("throttling", "not now, but it happened since the board started", _COOLER)
    elif health.throttled is False:
        yield ok("throttling", "none")


def check_temperature(root: str, soft_c: float, hard_c: float) -> Iterator[Finding]:
    """Against the limits of the policy, from which on less is computed here."""
    celsius = Temperature(Tree(root)).read(time.monotonic()).temperature_c
    if celsius is None:
        return
    shown = f"{celsius:.0f} degrees C"
    if celsius >= hard_c:
        yield warn("temperature", f"{shown}, over policy.hard_c ({hard_c:g}): nothing is computed"
                   " here that a worker can", _COOLER)
    elif celsius >= soft_c:
        yield warn("temperature", f"{shown}, over policy.soft_c ({soft_c:g}): less and less is"
                   " computed here", _COOLER)
    else:
        yield ok("temperature", shown)


def check_battery(config: AgentConfig) -> Iterator[Finding]:
    """A battery that the settings speak of and that tells nothing."""
    kind, energy = config.sensors.battery, config.energy
    wanted = kind in ("exec", "file") or (kind == "auto" and (
        energy.until is not None or energy.hours is not None))
    if kind == "mqtt":
        yield ok("battery", f"reports are expected on {config.sensors.topic}")
    if not wanted:
        return
    health = Health()
    for sensor in open_sensors(config.sensors).sensors:
        health = health.merged(sensor.read(time.monotonic()))
    if health.battery_ratio is not None or health.battery_wh is not None:
        left = f"{health.battery_ratio:.0%} left" if health.battery_ratio is not None else \
            f"{health.battery_wh:.1f} Wh left"
        yield ok("battery", left)
        return
    yield _no_battery(config)


def _no_battery(config: AgentConfig) -> Finding:
    sensors = config.sensors
    if sensors.battery == "exec":
        program = sensors.command[0]
        return warn("battery", f"{program} told no battery",
                    f"run it by hand: it has to print {{\"battery_percent\": 80}} within"
                    f" {sensors.timeout_s:g} s")
    if sensors.battery == "file":
        there = Path(sensors.path).exists()
        return warn("battery", f"{sensors.path} " + (
            f"has no battery in it, or is older than {sensors.max_age_s:g} s" if there
            else "is not there"), "is the program that writes it running? It has to write"
            " {\"battery_percent\": 80}")
    return fail("battery", "[energy] says how long it has to last, and the kernel knows none",
                "dtoverlay=i2c-sensor,max17040 in config.txt for gauges of that kind; else"
                " sensors.battery = \"exec\", \"file\" or \"mqtt\"; without a battery leave out"
                " [energy]")
