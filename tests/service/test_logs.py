"""Log lines in their three formats, where each is chosen, and the limit on what repeats."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import subprocess
import sys

import pytest

from split_core import logs
from split_core.log_fields import fields_of
from split_core.logs import MOST_A_MINUTE, RateLimit, chosen_format


def record(template: str, *args, level: int = logging.INFO, name: str = "split_core.x",
           **extra) -> logging.LogRecord:
    return logging.LogRecord(name, level, "f.py", 1, template, args, extra.get("exc_info"))


def fields(template: str, *args) -> dict:
    return fields_of(template, args, template % args if args else template)


@pytest.mark.parametrize("template, args, expected", [
    ("event=plan plan=%d what=%r", (7, "cut 3"), {"event": "plan", "plan": 7, "what": "cut 3"}),
    ("event=x ms=%.1f share=%g", (12.345, 0.5), {"event": "x", "ms": 12.3, "share": 0.5}),
    # A digest of nothing but digits, or like a float, is no number.
    ("event=x bundle=%s", ("1234567890123456",), {"event": "x", "bundle": "1234567890123456"}),
    ("event=x bundle=%s", ("12e4567890123456",), {"event": "x", "bundle": "12e4567890123456"}),
    ("event=x n=%s ok=%s none=%s", (3, True, None), {"event": "x", "n": 3, "ok": True,
                                                    "none": None}),
    ("event=x note=a fallback cannot be on time", (), {
        "event": "x", "note": "a fallback cannot be on time"}),
    ("event=x note=%s at %d", ("left", 3), {"event": "x", "note": "left at 3"}),
    ("event=stopped %s", ("remote=3 local=0",), {"event": "stopped", "remote": "3",
                                                 "local": "0"}),
    ("event=x error=%r", (ValueError("no"),), {"event": "x", "error": "no"}),
    ("event=x rate=%.0f%% of=%d", (50.0, 4), {"event": "x", "rate": "50.0%", "of": 4}),
    ("event=x ms=%f", (float("inf"),), {"event": "x", "ms": "inf"}),
    ("just words", (), {"message": "just words"}),
    ("%s", ("just words",), {"message": "just words"}),
    ("event=x said='two words' then=%d", (1,), {"event": "x", "said": "two words", "then": 1}),
])
def test_fields_of_a_line(template, args, expected):
    assert fields(template, *args) == expected


def test_what_a_stranger_wrote_makes_no_fields():
    found = fields("event=refused from=%r what=%r", "dev", "bad event=started level=info")
    assert found == {"event": "refused", "from": "dev", "what": "bad event=started level=info"}


def test_a_json_line_has_time_level_logger_and_fields():
    line = logs.JsonFormatter().format(record("event=plan time=%d what=%r", 3, "naïve\ncut"))
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z") and len(line.splitlines()) == 1
    # The line's own time does not hide the moment it was logged.
    assert entry == {"level": "info", "logger": "split_core.x", "event": "plan", "time_": 3,
                     "what": "naïve\ncut"}


def a_failure() -> tuple:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        return sys.exc_info()


def test_a_traceback_stays_one_json_line_and_has_a_priority_on_each_line_of_the_journal():
    failed = record("event=bug", level=logging.ERROR, exc_info=a_failure())
    assert "RuntimeError: broken" in json.loads(logs.JsonFormatter().format(failed))["traceback"]
    lines = logs.JournalFormatter().format(failed).split("\n")
    assert lines[0] == "<3>event=bug logger=split_core.x"
    assert len(lines) > 3 and all(line.startswith("<3>") for line in lines)


@pytest.mark.parametrize("level, priority", [
    (logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6),
    (logging.DEBUG, 7)])
def test_levels_are_priorities_of_syslog(level, priority):
    assert logs.JournalFormatter().format(record("event=x", level=level)).startswith(
        f"<{priority}>event=x")


def test_the_journal_is_recognized_by_its_stream():
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, other, ours.makefile("w") as stream:
        found = os.fstat(ours.fileno())
        right = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert chosen_format("auto", stream, right) == "journal"
        # Inherited, but standard error goes elsewhere: a program that a service started.
        assert chosen_format("auto", stream, {"JOURNAL_STREAM": "1:2"}) == "text"
        assert chosen_format("auto", stream, {}) == "text"
        assert chosen_format("json", stream, right) == "json"
    assert chosen_format("auto", io.StringIO(), right) == "text"


PROGRAM = """
import logging, os, sys
found = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
from split_core import logs
from split_core.errors import ConfigError
from split_core.program import run_command
def body():
    logs.set_up(format="FORMAT")
    logging.getLogger("a.b").warning("event=hot c=%.1f", 81.25)
    raise ERROR
sys.exit(run_command("edge-agent", body))
"""


def run(format: str, error: str) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM.replace("FORMAT", format)
                           .replace("ERROR", error)], stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr.splitlines()


def test_a_service_writes_priorities_no_times_and_its_last_words_as_an_error():
    code, lines = run("auto", 'ConfigError("agent.toml: unknown key brokr")')
    assert code == 78
    assert lines == ["<4>event=hot c=81.2 logger=a.b",
                     "<3>event=ended why='agent.toml: unknown key brokr' logger=edge-agent"]


def test_json_is_json_to_the_last_line():
    code, lines = run("json", 'OSError(28, "No space left on device", "/var/lib/x")')
    assert code == 74
    hot, ended = map(json.loads, lines)
    assert (hot["event"], hot["c"], hot["level"]) == ("hot", 81.2, "warning")
    assert ended["event"] == "ended" and "No space left on device: '/var/lib/x'" in ended["why"]


def test_a_bug_shows_where_it_is_to_machines():
    code, lines = run("auto", 'KeyError("x")')
    assert code == 70 and any("KeyError" in line for line in lines[2:])
    assert all(line.startswith("<") for line in lines)
    code, lines = run("text", 'KeyError("x")')
    assert code == 70 and lines[-1].startswith("edge-agent: internal error: KeyError")
    assert len(lines) == 2                # a terminal gets one line, and how to get more


def test_a_line_that_repeats_is_shown_a_few_times_and_then_counted():
    limit = RateLimit()
    shown = [limit.admits(record("event=failed n=%d", i), 0.5 * i) for i in range(100)]
    assert shown == [True] * MOST_A_MINUTE + [False] * (100 - MOST_A_MINUTE)
    assert limit.over(59.0) == []
    [(last, times)] = limit.over(60.0)
    assert times == 100 - MOST_A_MINUTE and last.getMessage() == "event=failed n=99"
    assert limit.over(61.0) == []
    assert limit.admits(record("event=failed n=%d", 0), 61.0), "a new minute"


def test_lines_are_limited_by_format_and_logger_and_never_when_asked_for_or_critical():
    limit = RateLimit(most=1)
    assert limit.admits(record("event=a"), 0.0) and not limit.admits(record("event=a"), 0.0)
    assert limit.admits(record("event=b"), 0.0)
    assert limit.admits(record("event=a", name="other"), 0.0)
    for level in (logging.DEBUG, logging.CRITICAL):
        assert all(limit.admits(record("event=c", level=level), 0.0) for _ in range(3))


def test_a_minute_with_nothing_hidden_is_not_mentioned():
    limit = RateLimit(most=2)
    limit.admits(record("event=a"), 0.0)
    limit.admits(record("event=a"), 1.0)
    assert limit.over(100.0) == []


def test_what_was_hidden_is_said_once(monkeypatch):
    out, now_s = io.StringIO(), [1000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now_s[0])
    handler = logs._Handler(out)
    handler.setFormatter(logs.JournalFormatter())
    for i in range(50):
        handler.handle(record("event=failed n=%d", i, level=logging.ERROR))
    assert len(out.getvalue().splitlines()) == MOST_A_MINUTE
    handler.say_repeats()
    assert len(out.getvalue().splitlines()) == MOST_A_MINUTE, "its minute is not over"
    now_s[0] += 60.0
    handler.say_repeats()
    handler.say_repeats()
    lines = out.getvalue().splitlines()
    assert lines[MOST_A_MINUTE:] == [
        f"<3>event=repeated times={50 - MOST_A_MINUTE} within_s=60 last='event=failed n=49'"
        " logger=split_core.x"]
