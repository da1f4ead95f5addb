"""Logging for both programs: one line an event, key=value, on standard error.

In a terminal with time and level; under systemd with the priority in front that the journal
reads (sd-daemon(3)) and without the time, which it has; or one JSON object a line. A line that
comes again and again is said a few times a minute and then counted.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TextIO

from split_core.log_fields import fields_of

Format = Literal["auto", "text", "json", "journal"]
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
# One broken camera of 30 pictures a second would fill the journal; ten lines show what it is.
MOST_A_MINUTE = 10
_MINUTE_S = 60.0
_TEXT = "%(asctime)s level=%(levelname)s %(name)s %(message)s"
_RESERVED = ("time", "level", "logger")
# syslog(3): the journal shows these in colour and filters by them.
_PRIORITY = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def set_up(verbose: bool = False, format: Format = "auto", level: str = "info") -> None:
    """Send the project's log lines to standard error. May be called again, with other settings."""
    style = chosen_format(format, sys.stderr)
    handler = _Handler(sys.stderr)
    handler.style = style
    handler.setFormatter({"text": logging.Formatter(_TEXT), "json": JsonFormatter(),
                          "journal": JournalFormatter()}[style])
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else LEVELS[level])
    logging.getLogger("PIL").setLevel(max(logging.INFO, root.level))


def chosen_format(format: Format, stream: TextIO,
                  environment: Mapping[str, str] = os.environ) -> str:
    """"auto" decided: "journal" if the stream is the one that systemd connected to it."""
    if format != "auto":
        return format
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError, io.UnsupportedOperation):
        return "text"
    return "journal" if (device, inode) == (str(found.st_dev), str(found.st_ino)) else "text"


def say_last(program: str, text: str) -> None:
    """Why a program ends, on standard error in the format of its log."""
    handler = _ours()
    if handler is None or handler.style == "text":
        print(f"{program}: {text}", file=sys.stderr)
    else:
        logging.getLogger(program).error("event=ended why=%r", text)


def for_machines() -> bool:
    """Whether the log goes to the journal or is JSON: nobody sits in front of it."""
    handler = _ours()
    return handler is not None and handler.style != "text"


def say_repeats() -> None:
    """Say how often lines came that were not shown, where their minute is over."""
    handler = _ours()
    if handler is not None:
        handler.say_repeats()


def _ours() -> _Handler | None:
    return next((h for h in logging.getLogger().handlers if isinstance(h, _Handler)), None)


class JournalFormatter(logging.Formatter):
    """`<4>event=... logger=...`; each line of a traceback has the priority too."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((p for level, p in _PRIORITY if record.levelno >= level), 7)
        lines = super().format(record).split("\n")
        lines[0] += f" logger={record.name}"
        return "\n".join(f"<{priority}>{line}" for line in lines)


class JsonFormatter(logging.Formatter):
    """time, level, logger, and the line's key=values as fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(), "logger": record.name}
        for key, value in fields_of(record.msg, record.args, record.getMessage()).items():
            entry[f"{key}_" if key in _RESERVED else key] = value
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


@dataclass
class _Minute:
    began_s: float
    record: logging.LogRecord
    count: int = 0


class RateLimit:
    """Which lines are shown: of each format of a logger at most so many a minute."""

    def __init__(self, most: int = MOST_A_MINUTE):
        self._most = most
        self._minutes: dict[tuple[str, str], _Minute] = {}

    def admits(self, record: logging.LogRecord, now_s: float) -> bool:
        # Debug lines were asked for, all of them; the last words of a process are always heard.
        if record.levelno <= logging.DEBUG or record.levelno >= logging.CRITICAL:
            return True
        minute = self._minutes.setdefault((record.name, str(record.msg)),
                                          _Minute(now_s, record))
        minute.count += 1
        minute.record = record
        return minute.count <= self._most

    def over(self, now_s: float) -> list[tuple[logging.LogRecord, int]]:
        """Lines whose minute is over, and how often they came without being shown."""
        ended = {key: m for key, m in self._minutes.items() if now_s - m.began_s >= _MINUTE_S}
        for key in ended:
            del self._minutes[key]
        return [(m.record, m.count - self._most) for m in ended.values() if m.count > self._most]


class _Handler(logging.StreamHandler):
    """Standard error, with the limit. Called under the handler's lock."""

    style = "text"

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self._limit = RateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        now_s = time.monotonic()
        self._say_over(now_s)
        if self._limit.admits(record, now_s):
            super().emit(record)

    def say_repeats(self) -> None:
        with self.lock:
            self._say_over(time.monotonic())

    def _say_over(self, now_s: float) -> None:
        for last, times in self._limit.over(now_s):
            super().emit(logging.LogRecord(
                last.name, last.levelno, last.pathname, last.lineno,
                "event=repeated times=%d within_s=%.0f last=%r",
                (times, _MINUTE_S, last.getMessage()), None))
