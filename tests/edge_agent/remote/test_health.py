"""The health record says what is known, and what changed is told once."""

from __future__ import annotations

import pytest

from edge_agent.frames import Plan
from edge_agent.observers.recent import RecentSummary
from edge_agent.remote.health import SensorWatch, Standing, device_health
from edge_agent.sensors.health import Health
from split_core.wire.records import DeviceHealth, dump, load
from split_core.wire.rungs import Rung

STANDING = Standing(
    at="2026-05-01T12:00:00.000+00:00", uptime_s=100.04, state="ready",
    plan=Plan(3, 14, Rung.parse("kl0.02")), worker="w1",
    totals={"remote": 90, "local": 0, "fallback": 2, "dropped": 0, "failed": 0},
    sent_bytes=154_080, link_up=True, reconnects=1, rtt_s=0.0213, rate_bps=1.2345e6,
    memory_bytes=46_000_000, memory_max_bytes=None, results_waiting=0, results_lost=0,
    bundle_hex="ab" * 32, model="m", aim="latency")
RECENT = RecentSummary(60.0, {"remote": 50, "local": 0, "fallback": 1, "dropped": 0, "failed": 0},
                       2, 0.85, 25.53, 80.09, {"head": 2.345}, 1711.6)
NOTHING = RecentSummary(1.0, {"remote": 0}, 0, 0.0, None, None, {}, None)


def test_a_record_has_all_parts_in_its_units():
    record = device_health(STANDING, RECENT, Health(battery_ratio=0.871234, mains=False,
                                                    temperature_c=61.26, throttled=False,
                                                    cpu_busy_ratio=0.4, wifi_level_dbm=-56.0))
    assert (record.uptime_s, record.window_s, record.p50_ms, record.p95_ms) == (100.0, 60.0, 25.5,
                                                                               80.1)
    assert record.frames == {"remote": 50, "fallback": 1}
    assert record.totals == {"remote": 90, "fallback": 2}
    assert (record.link.rtt_ms, record.link.rate_bps, record.link.reconnects) == (21.3, 1234500, 1)
    assert record.link.signal_dbm == -56
    assert (record.cut, record.rung, record.worker) == (14, "kl0.02", "w1")
    assert (record.battery_ratio, record.temperature_c, record.payload_bytes) == (0.871, 61.3, 1712)
    assert load(dump(record), DeviceHealth) == record


def test_what_is_unknown_is_null_and_not_well():
    record = device_health(STANDING, NOTHING, Health())
    for name in ("p50_ms", "p95_ms", "payload_bytes", "battery_ratio", "mains", "temperature_c",
                 "throttled", "cpu_busy_ratio", "memory_max_bytes"):
        assert getattr(record, name) is None, name
    assert record.link.signal_dbm is None


def test_a_record_of_the_largest_model_still_is_small():
    stages = {f"stage{i}": 123.45 for i in range(12)}
    recent = RecentSummary(60.0, dict.fromkeys(RECENT.outcomes, 10**9), 10**9, 50.0, 1e5, 1e5,
                           stages, 64000.0)
    assert len(dump(device_health(STANDING, recent, Health()))) < 1500


@pytest.mark.parametrize("before, after, event, data", [
    (Health(throttled=False), Health(throttled=True, temperature_c=70.0), "throttled",
     {"throttled": True, "temperature_c": 70.0}),
    (Health(throttled=True), Health(throttled=False), "throttled",
     {"throttled": False, "temperature_c": None}),
    (Health(mains=True), Health(mains=False, battery_ratio=0.9), "mains",
     {"mains": False, "battery_ratio": 0.9}),
    (Health(mains=False), Health(mains=True), "mains", {"mains": True, "battery_ratio": None}),
    (Health(battery_ratio=0.16), Health(battery_ratio=0.149), "battery",
     {"low": True, "battery_ratio": 0.149}),
    (Health(battery_ratio=0.1), Health(battery_ratio=0.21), "battery",
     {"low": False, "battery_ratio": 0.21}),
    (Health(temperature_c=79.0), Health(temperature_c=80.0), "hot",
     {"hot": True, "temperature_c": 80.0}),
    (Health(under_voltage=False), Health(under_voltage=True), "under-voltage",
     {"under_voltage": True}),
])
def test_a_change_is_told_once(before, after, event, data):
    watch = SensorWatch()
    watch.look(before)
    changes = watch.look(after)
    assert [(c.event, c.data) for c in changes] == [(event, data)]
    assert watch.look(after) == []


@pytest.mark.parametrize("readings", [
    [Health(mains=False)],                                   # never was on mains
    [Health(mains=True), Health(), Health(mains=True)],      # unknown for a while
    [Health(throttled=False), Health()],
    [Health(battery_ratio=0.1), Health(battery_ratio=0.16), Health(battery_ratio=0.14)],
    [Health(temperature_c=81.0), Health(temperature_c=78.0), Health(temperature_c=81.0)],
])
def test_what_is_no_news_is_not_told_again(readings):
    watch = SensorWatch()
    first = watch.look(readings[0])
    assert len(first) <= 1
    assert [change for reading in readings[1:] for change in watch.look(reading)] == []
