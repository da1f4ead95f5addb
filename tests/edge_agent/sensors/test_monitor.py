"""The monitor: nothing a sensor does keeps `latest` or `stop` waiting."""

from __future__ import annotations

import logging
import threading
import time

from edge_agent.sensors import Health, Monitor
from edge_agent.sensors.command import Command

from .making import known

PLENTY_S = 30.0


class Fake:
    def __init__(self, name: str, *readings: Health | Exception):
        self.name, self.readings, self.asked = name, list(readings), []
        self.read_event = threading.Event()

    def read(self, now_s: float) -> Health:
        self.asked.append(now_s)
        self.read_event.set()
        reading = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading


def test_nothing_is_known_before_the_first_reading():
    assert Monitor([], 1.0).latest == Health()


def test_later_sensors_override_earlier_ones():
    a, b = Fake("a", Health.of("a", mains=True, load1=1.0)), Fake("b", Health.of("b", mains=False))
    monitor = Monitor([a, b], 1.0)
    health = monitor.read_once(5.0)
    assert (health.mains, health.load1, health.at_s) == (False, 1.0, 5.0)
    assert monitor.latest is health and a.asked == b.asked == [5.0]


def test_a_sensor_that_raises_is_logged_once_and_asked_again(caplog):
    bad = Fake("bad", RuntimeError("broken"), OSError("again"), Health.of("bad", mains=True))
    monitor = Monitor([bad, Fake("good", Health.of("good", load1=1.0))], 1.0)
    with caplog.at_level(logging.DEBUG):
        first = monitor.read_once(1.0)
        assert known(first) == {"at_s": 1.0, "load1": 1.0} and first.sources == {"load1": "good"}
        assert monitor.read_once(2.0).mains is None
        assert monitor.read_once(3.0).mains is True
    (record,) = caplog.records
    assert "sensor=bad" in record.getMessage()


def test_what_is_no_longer_known_is_not_kept():
    sensor = Fake("a", Health.of("a", mains=True), Health())
    monitor = Monitor([sensor], 1.0)
    assert monitor.read_once(1.0).mains is True
    assert monitor.read_once(2.0).mains is None


def test_the_thread_reads_by_the_clock_and_wakes_at_once_on_stop():
    sensor = Fake("a", Health.of("a", mains=True))
    monitor = Monitor([sensor], 3600.0, clock=lambda: 42.0)
    monitor.start()
    assert sensor.read_event.wait(PLENTY_S)
    began_s = time.monotonic()
    monitor.stop(PLENTY_S)
    assert time.monotonic() - began_s < PLENTY_S
    assert monitor.latest.at_s == 42.0 and sensor.asked == [42.0]
    monitor.stop()


def test_the_thread_reads_again_and_again():
    third = threading.Event()
    sensor = Fake("a", Health())
    times = iter(range(1, 1_000_000))

    def clock() -> float:
        now_s = next(times)
        if now_s == 3:
            third.set()
        return float(now_s)

    monitor = Monitor([sensor], 0.001, clock=clock)
    monitor.start()
    assert third.wait(PLENTY_S)
    monitor.stop(PLENTY_S)
    assert sensor.asked[:2] == [1.0, 2.0]


def test_latest_does_not_wait_for_a_command_that_hangs_nor_does_stop():
    before = Fake("before", Health.of("before", mains=True))
    hanging = Command(("/bin/sleep", "600"), timeout_s=600.0, every_s=1.0)
    monitor = Monitor([before, hanging], 3600.0)
    monitor.start()
    assert before.read_event.wait(PLENTY_S)      # the command comes next, and never ends
    began_s = time.monotonic()
    assert monitor.latest == Health()
    monitor.stop(PLENTY_S)
    assert time.monotonic() - began_s < PLENTY_S
    assert monitor.latest.mains is True          # the reading ended with what was known


def test_a_sensor_that_never_returns_keeps_stop_no_longer_than_it_may_take():
    release, entered = threading.Event(), threading.Event()

    class Stuck:
        name = "stuck"

        def read(self, now_s: float) -> Health:
            entered.set()
            release.wait(PLENTY_S)
            return Health.of("stuck", mains=True)

    monitor = Monitor([Stuck()], 3600.0)
    monitor.start()
    assert entered.wait(PLENTY_S)
    assert monitor.latest == Health()
    monitor.stop(0.01)
    release.set()
    monitor.stop(PLENTY_S)
    assert monitor.latest.mains is True


def test_stop_without_start():
    Monitor([], 1.0).stop()


def test_a_thread_that_dies_says_so():
    told, died = [], threading.Event()

    def clock() -> float:
        raise RuntimeError("no clock")

    def on_fatal(error: BaseException) -> None:
        told.append(error)
        died.set()

    monitor = Monitor([], 1.0, clock=clock, on_fatal=on_fatal)
    monitor.start()
    assert died.wait(PLENTY_S)
    monitor.stop(PLENTY_S)
    assert isinstance(told[0], RuntimeError)
