"""Control records: what is written is read, and what a stranger writes is an error, not an end."""

from __future__ import annotations

import json

import pytest

from split_core.cost.profile import WorkerProfiles
from split_core.errors import MessageError
from split_core.wire import records
from split_core.wire.records import (
    DeviceHealth, DeviceStatus, LinkHealth, PlanRecord, WorkerLoad, WorkerStatus,
)

PLAN = PlanRecord(7, 14, "kl0.02", "w1", "gain 31 %", "kl0.08", True,
                  {"mean_ms": 21.5, "kl": None})
HEALTH = DeviceHealth(
    at="2026-05-01T12:00:00+00:00", uptime_s=61.5, window_s=60.0, state="ready",
    frames={"remote": 50}, totals={"remote": 51}, late=1, fps=0.83, p50_ms=25.5, p95_ms=None,
    stages_ms={"head": 2.3}, cut=14, rung="kl0.02", plan_id=3, worker="w1", payload_bytes=1712.0,
    sent_bytes=87_312, link=LinkHealth(True, 0, 21.3, 1.2e6), battery_ratio=0.87, mains=None,
    temperature_c=61.3, throttled=False, cpu_busy_ratio=0.4, memory_bytes=46_000_000,
    memory_max_bytes=None, results_waiting=0, results_lost=0, bundle="ab" * 32, model="m",
    aim="latency")
ALL = [PLAN, HEALTH, WorkerLoad(0.012, 0.4, 0.003), WorkerProfiles(()),
       DeviceStatus("ready", "ab"), WorkerStatus("lost", "ab", ("cd" * 32,))]


@pytest.mark.parametrize("record", ALL, ids=lambda r: type(r).__name__)
def test_what_is_written_is_read(record):
    data = records.dump(record)
    assert records.load(data, type(record)) == record
    newer = json.dumps(json.loads(data) | {"of_a_newer_version": [1, {}]}).encode()
    assert records.load(newer, type(record)) == record


@pytest.mark.parametrize("n", range(len(records.dump(PLAN))))
def test_every_truncation_is_refused(n):
    with pytest.raises(MessageError):
        records.load(records.dump(PLAN)[:n], PlanRecord)


@pytest.mark.parametrize("kind", [type(r) for r in ALL], ids=lambda k: k.__name__)
@pytest.mark.parametrize("data", [
    b"", b"{not json", b"[]", b"null", b"\xff\xfe", b'{"unknown": "\xff"}',
    b"[" * 100_000, b'{"unknown":' + b"[" * 100_000, b'{"a":' * 100_000,
], ids=lambda d: f"{d[:12]!r}x{len(d)}")
def test_what_is_no_record_is_refused(data, kind):
    with pytest.raises(MessageError, match=kind.__name__):
        records.load(data, kind)


@pytest.mark.parametrize("change", [{"cut": -1}, {"cut": 10**400}, {"plan_id": 2**63}])
def test_a_plan_that_is_none_is_refused(change):
    data = json.dumps(json.loads(records.dump(PLAN)) | change).encode()
    with pytest.raises(MessageError, match="PlanRecord"):
        records.load(data, PlanRecord)


@pytest.mark.parametrize("change", [
    {"uptime_s": -1}, {"fps": "fast"}, {"cut": -1}, {"battery_ratio": 1.1}, {"state": "well"},
    {"frames": {f"outcome{i}": 1 for i in range(17)}}, {"frames": {"x" * 97: 1}},
    {"stages_ms": {"head": -1}}, {"temperature_c": 2000}, {"sent_bytes": 2**63},
    {"model": "x" * 257}, {"link": {"up": True}}, {"link": None}, {"worker": 7},
])
def test_health_that_cannot_be_true_is_refused(change):
    data = json.dumps(json.loads(records.dump(HEALTH)) | change).encode()
    with pytest.raises(MessageError, match="DeviceHealth"):
        records.load(data, DeviceHealth)


def test_a_plan_of_an_older_version_is_read():
    old = b'{"plan_id": 1, "cut": 2, "rung": "q4", "worker": null, "reason": "configured"}'
    assert records.load(old, PlanRecord) == PlanRecord(1, 2, "q4", None, "configured")
