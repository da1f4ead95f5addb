"""The fleet as a worker sees it: what is believed, for how long, and what nobody can make grow."""

from __future__ import annotations

import msgspec
import pytest

from cloud_side.observers.fleet import MAX_EVENTS, OUTCOMES, Fleet
from split_core.errors import MessageError
from split_core.wire.records import DeviceStatus, PlanRecord, WorkerLoad, WorkerStatus, dump
from tests.support.fleets import health

READY, LOST = DeviceStatus("ready", "1"), DeviceStatus("lost", "1")


def tell(fleet: Fleet, name: str, channel: str, record, now_s: float, retained: bool = False):
    fleet.on_device(name, channel, dump(record), retained, now_s)


def one(fleet: Fleet, now_s: float) -> dict:
    (device,) = fleet.devices(now_s)
    return device


def totals(**counts) -> dict[str, int]:
    return dict.fromkeys(OUTCOMES, 0) | counts


def test_a_report_is_what_is_shown():
    fleet = Fleet()
    tell(fleet, "pi", "status", READY, 5.0)
    tell(fleet, "pi", "plan", PlanRecord(7, 31, "kl0.02", None, "gain 9 %"), 5.0)
    tell(fleet, "pi", "health", health(totals={"remote": 9, "made-up": 4}), 8.0)
    found = one(fleet, 10.0)
    assert found["state"] == "ready" and found["seen_s_ago"] == 2.0
    assert (found["cut"], found["rung"], found["worker"]) == (31, "kl0.02", "gpu-1")
    assert found["plan_reason"] == "gain 9 %" and found["link"]["rtt_ms"] == 24.0
    assert found["totals"] == totals(remote=9)           # a word of its own is no outcome


def test_what_is_retained_is_no_sign_of_life():
    fleet = Fleet()
    tell(fleet, "pi", "status", READY, 5.0, retained=True)
    assert one(fleet, 10.0)["seen_s_ago"] is None
    tell(fleet, "pi", "health", health(), 11.0)
    assert one(fleet, 12.0)["seen_s_ago"] == 1.0
    tell(fleet, "pi", "status", LOST, 20.0)               # its last will, published live
    assert one(fleet, 21.0) | {"state": "lost", "seen_s_ago": 10.0} == one(fleet, 21.0)


def test_a_device_that_does_not_report_any_more_is_silent():
    fleet = Fleet()
    tell(fleet, "pi", "status", READY, 0.0)
    assert one(fleet, 1000.0)["state"] == "ready"         # it never reported: an older agent
    tell(fleet, "pi", "health", health(), 1000.0)
    assert one(fleet, 1030.0)["state"] == "ready"
    assert one(fleet, 1030.1)["state"] == "silent"
    # One that reports every minute is given three and a half.
    for at_s in (1060.0, 1120.0, 1180.0):
        tell(fleet, "pi", "health", health(), at_s)
    assert one(fleet, 1390.0)["state"] == "ready"
    assert one(fleet, 1390.1)["state"] == "silent"


def process(start_s: int, at_s: float):
    """A report of an agent that has run since ``start_s``, by its own clock."""
    hours, rest = divmod(at_s, 3600)
    return health(uptime_s=at_s - start_s,
                  at=f"2026-03-01T{int(hours):02}:{int(rest // 60):02}:{rest % 60:06.3f}+00:00")


def test_two_devices_with_one_id_are_told_from_one_that_starts_anew():
    fleet = Fleet()
    # One that is killed and started again every now and then, its reports held up on their way.
    for start_s, at_s, late_s in ((0, 0.1, 0), (0, 10.1, 9), (20, 20.1, 0), (20, 30.1, 8),
                                  (40, 40.1, 0), (40, 50.1, 9.9), (40, 60.1, 0)):
        tell(fleet, "pi", "health", process(start_s, at_s), at_s + late_s)
        assert not one(fleet, at_s + late_s)["twice"]
    # A second with the same id, six seconds after each report of the first.
    for start_s, at_s, twice in ((66, 66.1, False), (40, 70.1, False), (66, 76.1, True),
                                 (40, 80.1, True)):
        tell(fleet, "pi", "health", process(start_s, at_s), at_s)
        assert one(fleet, at_s)["twice"] is twice, at_s
    # One of them was given another; five minutes later nobody speaks of it any more.
    assert one(fleet, 376.0)["twice"] and not one(fleet, 376.2)["twice"]


def test_a_time_that_is_none_says_nothing_of_twins():
    fleet = Fleet()
    for at in ("yesterday", "2026-13-01T00:00:00Z", "", "2026-03-01T00:00:00+01:00") * 3:
        tell(fleet, "pi", "health", health(at=at), 1.0)
    assert not one(fleet, 1.0)["twice"]


def test_a_status_that_is_taken_away_takes_the_device_along():
    fleet = Fleet()
    tell(fleet, "pi", "status", READY, 0.0)
    fleet.on_device("pi", "plan", b"", False, 1.0)
    assert len(fleet) == 1
    fleet.on_device("pi", "status", b"", False, 1.0)
    assert len(fleet) == 0


def test_history_holds_what_ended_in_each_step():
    fleet = Fleet()
    for i, remote in enumerate((100, 140, 190)):
        tell(fleet, "pi", "health", health(totals={"remote": remote}, cut=i, p50_ms=None,
                                           uptime_s=10.0 * i), 10.0 * i)
    history = fleet.history("pi", 21.0)
    # Of the first report nobody knows since when.
    assert history["outcomes"]["remote"] == [0, 40, 50]
    assert history["ago_s"] == [21.0, 11.0, 1.0] and history["cut"] == [0, 1, 2]
    assert history["p50_ms"] == [None] * 3 and history["made"] == 3
    # It started anew: what it counts now it did since then.
    tell(fleet, "pi", "health", health(totals={"remote": 7}, uptime_s=3.0), 30.0)
    assert fleet.history("pi", 30.0)["outcomes"]["remote"][-1] == 7
    assert fleet.history("nobody", 30.0) is None


def test_reports_out_of_turn_do_not_stretch_the_past():
    fleet = Fleet()
    for i in range(200):                                   # ten a second
        tell(fleet, "pi", "health", health(totals={"remote": 2 * i}, uptime_s=0.1 * i), 0.1 * i)
    history = fleet.history("pi", 20.0)
    assert 2 <= len(history["ago_s"]) <= 3
    assert sum(history["outcomes"]["remote"]) == 2 * 199


def test_history_is_bounded():
    fleet = Fleet(history_s=600.0)
    for i in range(100):
        tell(fleet, "pi", "health", health(), 10.0 * i)
    assert len(fleet.history("pi", 1000.0)["cut"]) == 60


def test_devices_are_bounded_and_those_that_are_gone_go_first():
    fleet = Fleet(max_devices=3)
    for i, name in enumerate(("old", "gone", "new")):
        tell(fleet, name, "status", READY, float(i))
    tell(fleet, "gone", "status", LOST, 9.0)
    tell(fleet, "more", "status", READY, 10.0)
    assert [d["device"] for d in fleet.devices(10.0)] == ["more", "new", "old"]
    tell(fleet, "still-more", "status", READY, 11.0)
    assert [d["device"] for d in fleet.devices(11.0)] == ["more", "new", "still-more"]
    assert fleet.evicted == 2


def test_a_flood_of_names_fills_nothing():
    fleet = Fleet(max_devices=10)
    for i in range(2000):
        tell(fleet, f"invented-{i}", "status", READY, float(i))
        fleet.on_worker(f"invented-{i}", "status", dump(WorkerStatus("ready", "1")), float(i))
        fleet.on_device(f"invented-{i}", "event", b'{"event":"x","text":"%s"}' % (b"y" * 999),
                        False, float(i))
    assert len(fleet) == 10 and len(fleet.workers(0.0)) == 10
    events = fleet.events(2000.0)
    assert len(events) == MAX_EVENTS and all(len(e["text"]) <= 240 for e in events)


@pytest.mark.parametrize("name", ["<b>x</b>", "_pool", "a b", "", "x" * 65, "\u202e"])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(MessageError):
        Fleet().on_device(name, "status", dump(READY), False, 0.0)


@pytest.mark.parametrize("channel, payload", [
    ("status", b"{"), ("status", b'{"state":"dancing","session":"1"}'), ("health", b"[]"),
    ("health", b'{"cut": -1}'), ("event", b'"text"'), ("event", b"[" * 10_000),
    ("info", b"\xff\xfe"), ("plan", b"null"), ("health", b" " * 70_000),
])
def test_records_that_are_none_are_refused_and_change_nothing(channel, payload):
    fleet = Fleet()
    tell(fleet, "pi", "status", READY, 0.0)
    before = one(fleet, 1.0)
    with pytest.raises(MessageError):
        fleet.on_device("pi", channel, payload, False, 1.0)
    with pytest.raises(MessageError):
        fleet.on_device("other", channel, payload, False, 1.0)
    assert one(fleet, 1.0) == before


def test_a_later_version_may_say_more():
    fleet = Fleet()
    fleet.on_device("pi", "health", msgspec.json.encode(
        msgspec.to_builtins(health()) | {"new": [1, {"deep": 2}]}), False, 0.0)
    assert one(fleet, 0.0)["fps"] == 4.9


def test_the_pool_is_there_with_its_load():
    fleet = Fleet()
    fleet.on_worker("w", "load", dump(WorkerLoad(0.012, 0.5)), 0.0)
    fleet.on_worker("w", "status", dump(WorkerStatus("ready", "1", ("ab",))), 0.0)
    assert fleet.workers(0.0) == [{"worker": "w", "state": "ready", "bundles": 1,
                                   "queue_ms": 12.0, "busy_ratio": 0.5}]
    fleet.on_worker("w", "status", b"", 1.0)
    assert fleet.workers(1.0) == []


def test_the_newest_event_is_first():
    fleet = Fleet()
    fleet.on_device("a", "event", b'{"event":"plan","text":"one","at":"x"}', False, 1.0)
    fleet.on_device("b", "event", b'{"event":"late"}', False, 3.0)
    assert fleet.events(4.0) == [
        {"device": "b", "ago_s": 1.0, "event": "late", "text": ""},
        {"device": "a", "ago_s": 3.0, "event": "plan", "text": "one"}]


def test_a_clock_in_a_year_that_there_is_not_tells_no_start():
    fleet = Fleet()
    tell(fleet, "pi", "health", health(at="0000-01-01T00:00:00Z"), 1.0)
    tell(fleet, "pi", "health", health(at="0000-01-01T00:00:10Z"), 2.0)
    assert not fleet.twice("pi", 2.0) and one(fleet, 3.0)["reports"]
