"""Batteries and mains beyond the recorded machines: units, several, what is not ours."""

from __future__ import annotations

import pytest

from edge_agent.sensors.battery import Battery
from edge_agent.sensors.health import Health
from edge_agent.sensors.mains import Mains
from edge_agent.sensors.tree import Tree

from .machines import put


def supply(root, name: str, **files: object) -> None:
    for file, text in files.items():
        put(root, f"sys/class/power_supply/{name}/{file}", f"{text}\n")


def battery(root) -> Health:
    return Battery(Tree(str(root))).read(0.0)


def test_charge_is_energy_at_the_voltage_of_design(tmp_path):
    # 2 and 4 Ah at 3.7 V; the cell rests at 4 V and gives half an ampere.
    supply(tmp_path, "bq27441-0", type="Battery", status="Discharging", capacity=50,
           charge_now=2_000_000, charge_full=4_000_000, current_now=-500_000,
           voltage_now=4_000_000, voltage_min_design=3_700_000)
    health = battery(tmp_path)
    assert health.battery_wh == pytest.approx(7.4)
    assert health.battery_full_wh == pytest.approx(14.8)
    assert health.battery_ratio == pytest.approx(0.5)
    assert health.power_w == pytest.approx(2.0)


def test_without_a_voltage_of_design_the_present_one_serves(tmp_path):
    supply(tmp_path, "b", type="Battery", charge_now=2_000_000, voltage_now=4_000_000)
    assert battery(tmp_path).battery_wh == pytest.approx(8.0)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown", "nonsense"])
def test_power_is_ours_only_while_the_battery_is_discharged(status, tmp_path):
    supply(tmp_path, "BAT0", type="Battery", status=status, capacity=50, power_now=9_000_000)
    health = battery(tmp_path)
    assert health.power_w is None and health.battery_ratio == 0.5


def test_with_mains_online_the_battery_gives_only_a_part(tmp_path):
    supply(tmp_path, "BAT0", type="Battery", status="Discharging", power_now=9_000_000)
    assert battery(tmp_path).power_w == 9.0
    supply(tmp_path, "AC", type="Mains", online=1)
    assert battery(tmp_path).power_w is None


def test_batteries_that_are_discharged_together_add_up(tmp_path):
    for name in ("BAT0", "BAT1"):
        supply(tmp_path, name, type="Battery", status="Discharging", power_now=4_000_000)
    assert battery(tmp_path).power_w == 8.0
    supply(tmp_path, "BAT1", status="Charging")
    assert battery(tmp_path).power_w is None


def test_without_energy_percentages_are_averaged_if_all_are_known(tmp_path):
    supply(tmp_path, "a", type="Battery", capacity=80)
    supply(tmp_path, "b", type="Battery", capacity=40)
    assert battery(tmp_path).battery_ratio == pytest.approx(0.6)
    supply(tmp_path, "b", capacity="none")
    assert battery(tmp_path) == Health()


@pytest.mark.parametrize(("capacity", "ratio"), [
    (0, 0.0), (100, 1.0), (101, 1.0), (110, 1.0), (111, None), (255, None), (-1, None)])
def test_a_gauge_may_run_a_little_over(capacity, ratio, tmp_path):
    supply(tmp_path, "battery", type="Battery", capacity=capacity)
    assert battery(tmp_path).battery_ratio == ratio


def test_an_energy_beyond_full_falls_back_to_the_percentage(tmp_path):
    supply(tmp_path, "BAT0", type="Battery", capacity=90, energy_now=50_000_000,
           energy_full=40_000_000)
    assert battery(tmp_path).battery_ratio == 0.9


def test_a_full_energy_of_zero_is_unknown(tmp_path):
    supply(tmp_path, "BAT0", type="Battery", energy_now=0, energy_full=0)
    health = battery(tmp_path)
    assert (health.battery_ratio, health.battery_wh, health.battery_full_wh) == (None, 0.0, None)


def test_an_empty_bay_is_no_battery(tmp_path):
    supply(tmp_path, "BAT0", type="Battery", present=1, capacity=80)
    supply(tmp_path, "BAT1", type="Battery", present=0)
    assert battery(tmp_path).battery_ratio == 0.8


@pytest.mark.parametrize(("online", "mains"), [
    ({"AC": 1}, True), ({"AC": 0}, False), ({"AC": 2}, True), ({"AC": 7}, None), ({}, None),
    ({"AC": 0, "usb": 1}, True), ({"AC": 0, "usb": 0}, False),
    # One that does not answer may be the one that is plugged in.
    ({"AC": 0, "usb": "x"}, None), ({"AC": "x", "usb": 1}, True)])
def test_mains(online, mains, tmp_path):
    for name, value in online.items():
        supply(tmp_path, name, type="USB" if name == "usb" else "Mains", online=value)
    assert Mains(Tree(str(tmp_path))).read(0.0).mains is mains


def test_the_online_of_a_battery_or_a_charging_pad_is_not_mains(tmp_path):
    supply(tmp_path, "battery", type="Battery", online=1)
    supply(tmp_path, "pad", type="USB", scope="Device", online=1)
    assert Mains(Tree(str(tmp_path))).read(0.0) == Health()
