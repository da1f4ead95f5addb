"""The flags of a Raspberry Pi's firmware, bit by bit, and when their absence means nothing."""

from __future__ import annotations

import pytest

from edge_agent.sensors.health import Health
from edge_agent.sensors.throttling import Throttling
from edge_agent.sensors.tree import Tree

from .machines import put

FLAGS = "sys/devices/platform/soc/soc:firmware/get_throttled"
NOW = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")


def alarm(root, value: str) -> None:
    put(root, "sys/class/hwmon/hwmon4/name", "rpi_volt\n")
    put(root, "sys/class/hwmon/hwmon4/in0_lcrit_alarm", value)


def read(root) -> Health:
    return Throttling(Tree(str(root))).read(0.0)


@pytest.mark.parametrize("bit", range(4))
@pytest.mark.parametrize("prefix", ["", "0x"])
def test_each_bit_of_now(bit, prefix, tmp_path):
    alarm(tmp_path, "0\n")
    put(tmp_path, FLAGS, f"{prefix}{1 << bit:x}\n")
    health = read(tmp_path)
    assert [getattr(health, name) for name in NOW] == [n == bit for n in range(4)]
    assert health.throttled_since_boot is None


@pytest.mark.parametrize("bit", range(16, 20))
def test_each_bit_of_the_past_is_not_now_and_is_not_forgotten(bit, tmp_path):
    alarm(tmp_path, "0\n")
    put(tmp_path, FLAGS, f"{1 << bit:x}\n")
    sensor = Throttling(Tree(str(tmp_path)))
    health = sensor.read(0.0)
    assert [getattr(health, name) for name in NOW] == [False] * 4
    assert health.throttled_since_boot is True
    # The kernel clears these bits whenever it asks the firmware.
    put(tmp_path, FLAGS, "0\n")
    assert sensor.read(2.0).throttled_since_boot is True


def test_without_the_driver_that_refreshes_them_clear_flags_mean_nothing(tmp_path):
    put(tmp_path, FLAGS, "0\n")
    assert read(tmp_path) == Health()


def test_without_the_driver_set_flags_still_count(tmp_path):
    put(tmp_path, FLAGS, "50005\n")
    assert read(tmp_path) == Health.of("get_throttled", under_voltage=True, throttled=True,
                                       throttled_since_boot=True)


@pytest.mark.parametrize(("value", "under_voltage"), [
    ("0\n", False), ("1\n", True), ("2\n", None), ("\n", None)])
def test_the_alarm_alone_as_on_a_pi_5(value, under_voltage, tmp_path):
    alarm(tmp_path, value)
    health = read(tmp_path)
    assert health.under_voltage is under_voltage
    assert health.throttled is None and health.frequency_capped is None


def test_the_alarm_catches_a_dip_that_the_flag_has_missed(tmp_path):
    alarm(tmp_path, "1\n")
    put(tmp_path, FLAGS, "10000\n")
    health = read(tmp_path)
    assert health.under_voltage is True
    assert health.sources["under_voltage"] == "hwmon4/rpi_volt"
    assert health.sources["throttled"] == "get_throttled"


@pytest.mark.parametrize("path", [
    "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
    "sys/devices/platform/firmware/get_throttled", FLAGS])
def test_the_node_is_found_by_any_name(path, tmp_path):
    put(tmp_path, path, "4\n")
    assert read(tmp_path).throttled is True
