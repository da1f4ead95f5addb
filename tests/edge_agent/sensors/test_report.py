"""Reports of other programs: what is in them, how old they may be, by file and by topic."""

from __future__ import annotations

import json
import os

import pytest

from edge_agent.sensors.health import Health
from edge_agent.sensors.json_file import JsonFile
from edge_agent.sensors.report import MAX_REPORT_BYTES, parse_report
from edge_agent.sensors.topic import TopicReports
from split_core.errors import MessageError

from .making import known


def parse(**report) -> dict:
    reading = parse_report(json.dumps(report).encode(), "board")
    assert set(reading.sources.values()) <= {"board"}
    return known(reading)


def test_a_whole_report():
    assert parse(battery_percent=87, battery_wh=31.2, power_w=4.1, mains=False,
                 temperature_c=36.5, vendor="x", cells=[1, 2]) == {
        "battery_ratio": 0.87, "battery_wh": 31.2, "power_w": 4.1, "mains": False,
        "temperature_c": 36.5}


def test_a_ratio_comes_before_a_percentage():
    assert parse(battery_ratio=0.5, battery_percent=87) == {"battery_ratio": 0.5}
    assert parse(battery_ratio=50, battery_percent=87) == {"battery_ratio": 0.87}


@pytest.mark.parametrize("value", [-0.1, 1.1, 10**400, True, "0.5", None, [0.5], {}])
def test_a_value_that_cannot_be_is_unknown_and_the_others_count(value):
    assert parse(battery_ratio=value, power_w=3) == {"power_w": 3.0}


@pytest.mark.parametrize(("value", "mains"), [
    (True, True), (False, False), (1, True), (0, False), (2, None), ("yes", None), (1.0, None)])
def test_mains_is_a_boolean_or_a_shell_s(value, mains):
    assert parse(mains=value) == ({} if mains is None else {"mains": mains})


@pytest.mark.parametrize("payload", [
    b"", b"nothing", b"[1]", b"7", b"null", b'{"power_w": NaN}', b'{"power_w": 1', b"\xff\xfe",
    b'{"a": "\xff"}', b"[" * 10_000, b'{"power_w": 1e999}', b" " * MAX_REPORT_BYTES + b"{}"])
def test_what_is_no_report_is_refused(payload):
    with pytest.raises(MessageError):
        parse_report(payload, "board")


def test_every_truncation_is_refused():
    payload = b'{"battery_percent": 87, "mains": true}'
    for n in range(len(payload)):
        with pytest.raises(MessageError):
            parse_report(payload[:n], "board")


def test_a_file_is_believed_for_as_long_as_it_is_renewed(tmp_path):
    path = tmp_path / "ups.json"
    sensor = JsonFile(str(path), max_age_s=60.0, wall_clock=lambda: 1_000_005.0)
    assert sensor.read(0.0) == Health()

    def write(power_w: float, wall_s: float) -> None:
        path.write_text(json.dumps({"power_w": power_w}))
        os.utime(path, (wall_s, wall_s))

    write(4.0, 1_000_000.0)                      # five seconds before it is first seen
    assert sensor.read(10.0).power_w == 4.0
    assert sensor.read(65.0).power_w == 4.0
    assert sensor.read(65.1).power_w is None
    write(4.0, 1_000_001.0)                      # the same again; the wall clock has stood
    assert sensor.read(200.0).power_w == 4.0
    assert sensor.read(260.0).power_w == 4.0
    assert sensor.read(260.1).power_w is None


@pytest.mark.parametrize(("written_s", "believed"), [
    (1_000_000.0, True), (999_939.0, False), (5_000_000.0, True)])
def test_what_a_file_is_worth_that_was_there_before(written_s, believed, tmp_path):
    path = tmp_path / "ups.json"
    path.write_text('{"power_w": 4}')
    os.utime(path, (written_s, written_s))
    sensor = JsonFile(str(path), max_age_s=60.0, wall_clock=lambda: 1_000_000.0)
    assert (sensor.read(7.0).power_w is not None) == believed


@pytest.mark.parametrize("make", [
    lambda path: path.mkdir(), lambda path: os.mkfifo(path), lambda path: path.symlink_to(path),
    lambda path: path.write_bytes(b"{}" * MAX_REPORT_BYTES), lambda path: path.write_bytes(b"x"),
    lambda path: path.touch()])
def test_a_file_that_is_amiss_tells_nothing(make, tmp_path):
    make(tmp_path / "ups.json")
    assert JsonFile(str(tmp_path / "ups.json"), max_age_s=60.0).read(0.0) == Health()


def test_a_topic_s_last_report_counts_until_it_is_old():
    reports = TopicReports(max_age_s=60.0)
    assert reports.read(0.0) == Health()
    reports.push(b'{"mains": true}', 10.0)
    reports.push(b'{"mains": false}', 20.0)
    assert reports.read(80.0).mains is False
    assert reports.read(80.1) == Health()


def test_a_topic_s_nonsense_makes_unknown():
    reports = TopicReports(max_age_s=60.0)
    reports.push(b'{"mains": true}', 10.0)
    reports.push(b"", 11.0)
    assert reports.read(12.0) == Health() and reports.refused == 1
