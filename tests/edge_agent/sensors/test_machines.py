"""Recorded machines: what is known of each, and what is left when one of its files is amiss."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.sensors import Health, Monitor, SensorsConfig, open_sensors
from edge_agent.sensors.health import PLAUSIBLE

from .machines import MACHINES, PI_4, Machine, put
from .making import known

# 600 of 800 ticks were neither idle nor waiting for a disk.
PROC = {"at_s": 102.0, "cpu_busy_ratio": 0.75, "cpu_count": 4, "load1": 0.52}
# 49 of 70 of quality.
WIFI = {"wifi_interface": "wlan0", "wifi_quality_ratio": 0.7, "wifi_level_dbm": -61.0,
        "wifi_retries": 12, "wifi_missed_beacons": 3}
EXPECTED = {
    "pi-4": {
        **PROC, **WIFI, "cgroup_throttled_ratio": 0.25, "temperature_c": 48.686,
        "under_voltage": False, "frequency_capped": False, "throttled": False,
        "soft_temperature_limit": False,
        "cpu_hz": 1_500_000_000, "cpu_max_hz": 1_500_000_000, "governor": "ondemand"},
    "pi-4-under-voltage": {
        **PROC, **WIFI, "cgroup_throttled_ratio": 0.25, "temperature_c": 48.686,
        "under_voltage": True, "frequency_capped": False, "throttled": True,
        "soft_temperature_limit": False, "throttled_since_boot": True,
        "cpu_hz": 1_500_000_000, "cpu_max_hz": 1_500_000_000, "governor": "ondemand"},
    "pi-5-ups": {
        **PROC, **WIFI, "battery_ratio": 0.87, "mains": False, "power_w": 6.14,
        "temperature_c": 54.95, "under_voltage": False,
        "cpu_hz": 2_400_000_000, "cpu_max_hz": 2_400_000_000, "governor": "performance"},
    "laptop": {
        **PROC, **WIFI, "wifi_interface": "wlp3s0", "battery_ratio": 0.68, "battery_wh": 30.6,
        "battery_full_wh": 45.0, "power_w": 9.12, "mains": False, "temperature_c": 63.0,
        "cpu_pressure_ratio": 0.125, "memory_pressure_ratio": 0.0, "io_pressure_ratio": 0.0153,
        "cpu_hz": 2_900_123_000, "cpu_max_hz": 4_200_000_000, "governor": "powersave"},
    "container": {**PROC, "cgroup_throttled_ratio": 0.75},
    "container-v1": {**PROC, "cgroup_throttled_ratio": 1.0},
}
# Of the second Pi 4 only the files that are not the first one's.
FILES = [(name, path) for name, machine in MACHINES.items() for path, file in machine.files.items()
         if machine is PI_4 or file is not PI_4.files.get(path)]


def read_twice(machine: Machine, root: Path, damage=lambda root: None, *, damaged="") -> Health:
    monitor = Monitor(open_sensors(SensorsConfig(), str(root)).sensors, 1.0)
    machine.write(root)
    damage(root)
    monitor.read_once(100.0)
    machine.write_later(root, but=damaged)
    return monitor.read_once(102.0)


@pytest.mark.parametrize("name", MACHINES)
def test_what_a_machine_tells(name, tmp_path):
    health = read_twice(MACHINES[name], tmp_path)
    assert known(health) == pytest.approx(EXPECTED[name])
    assert health.sources.keys() == EXPECTED[name].keys() - {"at_s"}


def test_the_first_reading_knows_no_differences(tmp_path):
    MACHINES["pi-4"].write(tmp_path)
    health = Monitor(open_sensors(SensorsConfig(), str(tmp_path)).sensors, 1.0).read_once(1.0)
    assert health.cpu_busy_ratio is None and health.cgroup_throttled_ratio is None
    assert health.cpu_count == 4


def test_sources_name_the_sensor(tmp_path):
    sources = read_twice(MACHINES["laptop"], tmp_path).sources
    assert sources["battery_ratio"] == "power_supply/BAT0+BAT1"
    assert sources["mains"] == "power_supply/AC"
    assert sources["temperature_c"] == "thermal_zone2/x86_pkg_temp"


def test_an_empty_root_knows_nothing_but_the_time(tmp_path):
    assert known(read_twice(Machine({}), tmp_path)) == {"at_s": 102.0}
    assert known(read_twice(Machine({}), tmp_path / "absent")) == {"at_s": 102.0}


def removed(path: Path) -> None:
    path.unlink()


def loop(path: Path) -> None:
    """Unreadable for root too: a link to itself."""
    path.unlink()
    path.symlink_to(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    """To open it for reading would wait for a writer."""
    path.unlink()
    os.mkfifo(path)


def holding(data: bytes):
    return lambda path: path.write_bytes(data)


DAMAGE = {
    "removed": removed, "unreadable": loop, "a folder": folder, "a fifo": fifo,
    "empty": holding(b""), "blank": holding(b" \n\n"), "words": holding(b"(null) n/a : : :\n"),
    "huge": holding(b"9" * 300_000), "too many digits": holding(b"9" * 5000),
    "negative": holding(b"-999999999999\n"), "not a number": holding(b"NaN\n"),
    "infinite": holding(b"inf inf inf\n"), "not UTF-8": holding(b"\xff\xfe1\n"),
    "NULs": holding(b"\x00" * 64), "hex": holding(b"0xZZ\n"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("name", "path"), FILES)
def test_a_file_that_is_amiss_makes_unknown_what_hangs_on_it(name, path, damage, tmp_path):
    machine, file = MACHINES[name], MACHINES[name].files[path]
    health = read_twice(machine, tmp_path, lambda root: DAMAGE[damage](root / path), damaged=path)
    found, loses, changes = known(health), set(file.loses.split()), set(file.changes.split())
    assert found.keys() == EXPECTED[name].keys() - loses
    for key in found.keys() - changes:
        assert found[key] == pytest.approx(EXPECTED[name][key]), key
    for key in changes:
        assert found[key] != EXPECTED[name][key], key
        low, high = PLAUSIBLE[key]
        assert low <= found[key] <= high


def test_what_comes_back_is_known_again(tmp_path):
    machine = MACHINES["pi-5-ups"]
    machine.write(tmp_path)
    monitor = Monitor(open_sensors(SensorsConfig(), str(tmp_path)).sensors, 1.0)
    path = "sys/class/power_supply/battery/capacity"
    (tmp_path / path).unlink()
    assert monitor.read_once(1.0).battery_ratio is None
    put(tmp_path, path, "86\n")
    assert monitor.read_once(2.0).battery_ratio == 0.86
