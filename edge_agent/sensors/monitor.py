"""One thread that reads all sensors every so often, and keeps the latest Health.

Sensors are read one after the other; one that waits (a gauge on a slow bus, a command) delays
the reading and nothing else. How old `latest` is, its `at_s` says.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence

from edge_agent.sensors.health import Health, Sensor, merge

_log = logging.getLogger(__name__)


class Monitor:
    """Reads sensors on a thread of its own; in their order, later ones override earlier ones.

    ``on_fatal`` is told if that thread dies, which no sensor can make it do.
    """

    def __init__(self, sensors: Sequence[Sensor], interval_s: float, *,
                 clock: Callable[[], float] = time.monotonic,
                 on_fatal: Callable[[BaseException], None] | None = None):
        self._sensors, self._interval_s = tuple(sensors), interval_s
        self._clock, self._on_fatal = clock, on_fatal
        self._latest = Health()
        self._reading = threading.Lock()         # sensors remember their last reading
        self._complained: set[Sensor] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sensors", daemon=True)

    @property
    def latest(self) -> Health:
        """The last reading; all unknown before the first. Never blocks."""
        return self._latest

    def read_once(self, now_s: float) -> Health:
        """Read all sensors here and now; the result is the latest from then on."""
        with self._reading:
            readings = [self._read(sensor, now_s) for sensor in self._sensors]
            self._latest = dataclasses.replace(merge(readings), at_s=now_s)
            return self._latest

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the thread, also out of the middle of a command. May be called twice."""
        self._stopping.set()
        for sensor in self._sensors:
            close = getattr(sensor, "close", None)
            if close is not None:
                close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _read(self, sensor: Sensor, now_s: float) -> Health:
        try:
            return sensor.read(now_s)
        except Exception as e:                   # a fault of ours; frames go on without it
            if sensor not in self._complained:
                self._complained.add(sensor)
                _log.error("event=sensor-failed sensor=%s error=%r", sensor.name, e,
                           exc_info=True)
            return Health()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.read_once(self._clock())
                self._stopping.wait(self._interval_s)
        except BaseException as e:
            if self._on_fatal is None:
                raise
            self._on_fatal(e)
