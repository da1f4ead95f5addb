"""Which thermal zone is the processor's."""

from __future__ import annotations

import pytest

from edge_agent.sensors.temperature import Temperature
from edge_agent.sensors.tree import Tree

from .machines import put


@pytest.mark.parametrize(("zones", "expected"), [
    ([("acpitz", 27800), ("x86_pkg_temp", 63000), ("iwlwifi_1", 71000)], 63.0),
    ([("soc-thermal", 50000), ("gpu-thermal", 60000)], 50.0),
    ([("CPU-therm", 41000), ("GPU-therm", 44000)], 41.0),
    ([("cpu-thermal", 40000), ("soc-thermal", 50000)], 40.0),
    ([("soc_dts0", 50000), ("soc_dts1", 52000)], 52.0),
    ([("a", 30000), ("b", 35000)], 35.0),            # no name is known: the hottest
    ([("cpu-thermal", -274000), ("b", 35000)], 35.0),
    ([("cpu-thermal", 32767000), ("a", 200000)], None),
    ([("cpu-thermal", -12500)], -12.5),              # outdoors
    ([], None),
])
def test_the_zone_that_is_named_for_the_processor(zones, expected, tmp_path):
    for number, (kind, millidegrees) in enumerate(zones):
        put(tmp_path, f"sys/class/thermal/thermal_zone{number}/type", f"{kind}\n")
        put(tmp_path, f"sys/class/thermal/thermal_zone{number}/temp", f"{millidegrees}\n")
    assert Temperature(Tree(str(tmp_path))).read(0.0).temperature_c == expected
