"""Events: rate-limited by kind, kept while nobody can be told, and lateness with a memory."""

from __future__ import annotations

import json

import pytest

from edge_agent.remote.events import (
    BURST, EVERY_S, FIELDS, LATE_FRAMES, MAX_TEXT, MAX_WAITING, EventLog, LateWatch,
)


def taken(log: EventLog) -> list[dict]:
    return [json.loads(record) for record in iter(log.take, None)]


def tell(log: EventLog, now_s: float, event: str = "mains") -> None:
    log.tell(event, "text", dict.fromkeys(FIELDS[event], 1), "at", now_s)


def test_an_event_has_its_fields_and_those_of_all():
    log = EventLog()
    log.tell("worker", "frames go to w1", {"worker": "w1", "was": None}, "2026", 0.0)
    assert taken(log) == [{"at": "2026", "event": "worker", "text": "frames go to w1",
                           "worker": "w1", "was": None}]


@pytest.mark.parametrize("event, data", [("worker", {"worker": "w1"}), ("birthday", {}),
                                         ("worker", {"worker": 1, "was": 2, "more": 3})])
def test_events_that_are_not_in_the_table_are_a_fault(event, data):
    with pytest.raises(ValueError, match="table of events"):
        EventLog().tell(event, "", data, "", 0.0)


def test_a_storm_is_cut_to_its_beginning_and_counted():
    log = EventLog()
    for i in range(100):
        tell(log, 0.01 * i)
    first = taken(log)
    assert len(first) == BURST and all("skipped" not in r for r in first)
    tell(log, 1.0 + EVERY_S)
    assert [r["skipped"] for r in taken(log)] == [100 - BURST]


def test_what_goes_on_is_told_once_in_a_while():
    log, told = EventLog(), 0
    for i in range(1000):
        tell(log, float(i))
        told += len(taken(log))
    assert told == pytest.approx(1000 / EVERY_S, abs=BURST)


def test_kinds_do_not_hold_each_other_back():
    log = EventLog()
    for _ in range(50):
        tell(log, 0.0, "plan")
    tell(log, 0.0, "battery")
    assert [r["event"] for r in taken(log)] == ["plan"] * BURST + ["battery"]


def test_the_newest_wait():
    log = EventLog()
    for i in range(MAX_WAITING + 5):
        log.tell("config-refused", str(i), {"reason": ""}, "", i * EVERY_S)
    records = taken(log)
    assert [r["text"] for r in records] == [str(i) for i in range(5, MAX_WAITING + 5)]


def test_what_could_not_be_sent_is_the_next_again():
    log = EventLog()
    tell(log, 0.0, "mains")
    tell(log, 0.0, "battery")
    first = log.take()
    log.put_back(first)
    assert [r["event"] for r in taken(log)] == ["mains", "battery"]


def test_long_words_are_cut():
    log = EventLog()
    log.tell("config-refused", "x" * 9999, {"reason": "y" * 9999}, "", 0.0)
    assert len(log.take()) < 2 * MAX_TEXT + 200


def test_lateness_is_told_when_it_begins_and_when_it_is_over():
    watch, news = LateWatch(), []
    for late in [False] * 100 + [True] * 12 + [False] * 120:
        ratio = watch.on_answer(late)
        if ratio is not None:
            news.append((watch.high, ratio))
    assert news == [(True, pytest.approx(0.11)), (False, pytest.approx(0.02))]


def test_few_frames_say_nothing():
    watch = LateWatch()
    assert [watch.on_answer(True) for _ in range(LATE_FRAMES - 1)] == [None] * (LATE_FRAMES - 1)
    assert watch.on_answer(True) == 1.0
