"""Which sensors a configuration opens, and who overrides whom."""

from __future__ import annotations

from edge_agent.sensors import Monitor, SensorsConfig, merge, open_sensors

from .machines import PI_5_UPS


def test_a_report_stands_in_for_the_kernel_s_battery(tmp_path):
    PI_5_UPS.write(tmp_path)
    opened = open_sensors(SensorsConfig(battery="mqtt", topic="ups"), str(tmp_path))
    opened.reports.push(b'{"power_w": 3, "temperature_c": 20}', 0.0)
    merged = merge(sensor.read(1.0) for sensor in opened.sensors)
    assert merged.battery_ratio is None          # not the gauge's, which is not asked
    assert merged.mains is False                 # the kernel's, of which the report says nothing
    assert merged.power_w == 3.0                 # the report's, not the current sensor's
    assert merged.temperature_c == 54.95         # the processor's, not the board's


def test_no_battery_asks_nobody_about_power(tmp_path):
    PI_5_UPS.write(tmp_path)
    opened = open_sensors(SensorsConfig(battery="none"), str(tmp_path))
    assert {sensor.name for sensor in opened.sensors} == {
        "cpu", "pressure", "temperature", "throttling", "frequency", "wifi"}
    assert opened.reports is None


def test_the_configured_root_is_read(tmp_path):
    PI_5_UPS.write(tmp_path)
    opened = open_sensors(SensorsConfig(root=str(tmp_path)))
    assert merge(sensor.read(0.0) for sensor in opened.sensors).battery_ratio == 0.87


def test_a_current_sensor_wired_the_other_way_round(tmp_path):
    PI_5_UPS.write(tmp_path)
    opened = open_sensors(SensorsConfig(charging_current="positive"), str(tmp_path))
    assert merge(sensor.read(0.0) for sensor in opened.sensors).power_w is None


def test_a_file_and_a_command_are_opened(tmp_path):
    report = tmp_path / "ups.json"
    report.write_text('{"battery_percent": 42}')
    for config in (SensorsConfig(battery="file", path=str(report)),
                   SensorsConfig(battery="exec", command=("/bin/cat", str(report)), timeout_s=30)):
        config.check()
        opened = open_sensors(config, str(tmp_path / "root"))
        assert Monitor(opened.sensors, 1.0).read_once(0.0).battery_ratio == 0.42


def test_this_machine_can_be_read_whatever_it_is():
    monitor = Monitor(open_sensors(SensorsConfig()).sensors, 1.0)
    assert monitor.read_once(1.0).cpu_count >= 1
