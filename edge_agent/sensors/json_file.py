"""A file that another program writes a report into: the provider `file`.

It is believed for as long as it is renewed. Age is counted on the monotonic clock from when a
change was seen; the wall clock, which on a device without an RTC jumps, serves only for what is
found at the start. Write it elsewhere and rename it: half a report is no report.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from edge_agent.sensors.health import Health
from edge_agent.sensors.report import MAX_REPORT_BYTES, parse_report
from edge_agent.sensors.tree import read_bounded
from split_core.errors import MessageError


class JsonFile:
    name = "file"

    def __init__(self, path: str, *, max_age_s: float,
                 wall_clock: Callable[[], float] = time.time):
        self._path, self._max_age_s, self._wall_clock = path, max_age_s, wall_clock
        self._version: tuple[int, int, int] | None = None
        self._changed_s = 0.0

    def read(self, now_s: float) -> Health:
        try:
            status = os.stat(self._path)
        except (OSError, ValueError):
            return Health()
        version = status.st_ino, status.st_mtime_ns, status.st_size
        if version != self._version:
            # One that was here before us may be from last year; one from the future is not old.
            age_s = 0.0 if self._version else max(0.0, self._wall_clock() - status.st_mtime)
            self._version, self._changed_s = version, now_s - age_s
        if now_s - self._changed_s > self._max_age_s:
            return Health()
        try:
            return parse_report(read_bounded(self._path, MAX_REPORT_BYTES) or b"", self.name)
        except MessageError:
            return Health()
