"""The current sensor: which way it flows, and what may be missing."""

from __future__ import annotations

import pytest

from edge_agent.sensors.current import Current
from edge_agent.sensors.tree import Tree

from .machines import put


def power_w(root, *, charging_is_negative=True, **files) -> float | None:
    for name, text in {"name": "ina226", **files}.items():
        put(root, f"sys/class/hwmon/hwmon1/{name}", f"{text}\n")
    return Current(Tree(str(root)), charging_is_negative=charging_is_negative).read(0.0).power_w


def test_a_discharging_current_is_the_draw(tmp_path):
    assert power_w(tmp_path, curr1_input=800, power1_input=4_000_000) == 4.0


def test_a_charging_current_says_nothing_of_the_draw(tmp_path):
    # The chip's power has no sign.
    assert power_w(tmp_path, curr1_input=-800, power1_input=4_000_000) is None


def test_a_board_wired_the_other_way_round(tmp_path):
    files = {"in1_input": 5000, "power1_input": 4_000_000}
    assert power_w(tmp_path, charging_is_negative=False, curr1_input=800, **files) is None
    assert power_w(tmp_path, charging_is_negative=False, curr1_input=-800, **files) == 4.0


def test_power_without_a_direction_is_unknown(tmp_path):
    assert power_w(tmp_path, power1_input=4_000_000) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_power_from_voltage_and_current(sign, tmp_path):
    # 5 V at 0.8 A
    found = power_w(tmp_path, charging_is_negative=sign > 0, curr1_input=800 * sign,
                    in1_input=5000)
    assert found == pytest.approx(4.0)


def test_no_current_is_no_draw(tmp_path):
    assert power_w(tmp_path, curr1_input=0, power1_input=0) == 0.0


def test_another_chip_is_not_asked(tmp_path):
    assert power_w(tmp_path, name="ina3221", curr1_input=800, power1_input=4_000_000) is None
