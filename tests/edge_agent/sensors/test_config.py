"""Settings: defaults that work, contradictions that are named."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.sensors import SensorsConfig
from split_core.config import convert
from split_core.errors import ConfigError


@pytest.mark.parametrize("given", [
    {}, {"battery": "none"}, {"wifi": "wlan1"}, {"root": "/host", "interval_s": 10},
    {"battery": "exec", "command": ["/usr/local/bin/ups", "--json"]},
    {"battery": "file", "path": "/run/ups.json"}, {"battery": "mqtt", "topic": "ups/state"},
    {"charging_current": "positive"}])
def test_what_works(given):
    convert(given, SensorsConfig, "test").check()


@pytest.mark.parametrize(("given", "named"), [
    ({"interval_s": 0}, "sensors.interval_s is 0"),
    ({"interval_s": float("nan")}, "sensors.interval_s is nan"),
    ({"interval_s": float("inf")}, "sensors.interval_s is inf"),
    ({"timeout_s": -1}, "sensors.timeout_s is -1"),
    ({"command_every_s": 0}, "sensors.command_every_s is 0"),
    ({"max_age_s": 0}, "sensors.max_age_s is 0"),
    ({"root": "host"}, "sensors.root is 'host', wanted an absolute path"),
    ({"wifi": ""}, "sensors.wifi is ''"),
    ({"wifi": "../wlan0"}, "sensors.wifi is '../wlan0'"),
    ({"wifi": "w" * 16}, "sensors.wifi is 'w"),
    ({"battery": "exec"}, "sensors.command is needed"),
    ({"battery": "file"}, "sensors.path is needed"),
    ({"battery": "mqtt"}, "sensors.topic is needed"),
    ({"command": ["ups"]}, "sensors.command is for sensors.battery = \"exec\", which is \"auto\""),
    ({"battery": "exec", "command": ["ups"], "path": "/run/ups"}, "sensors.path is for"),
    ({"battery": "none", "topic": "ups"}, "sensors.topic is for"),
    ({"battery": "mqtt", "topic": "ups/#"}, "sensors.topic is 'ups/#'"),
    ({"battery": "mqtt", "topic": ""}, "sensors.topic is ''"),
    ({"battery": "exec", "command": [""]}, "sensors.command begins with ''"),
    ({"battery": "exec", "command": ["a\0b"]}, "NUL"),
    ({"batery": "none"}, "unknown key batery; did you mean battery"),
    ({"battery": "acpi"}, "acpi"),
])
def test_what_cannot_work_is_named(given, named):
    with pytest.raises(ConfigError) as e:
        convert(given, SensorsConfig, "test").check()
    assert named in str(e.value)


def test_it_is_frozen():
    with pytest.raises(AttributeError):
        SensorsConfig().root = "/x"
    assert msgspec.structs.asdict(SensorsConfig())["battery"] == "auto"
