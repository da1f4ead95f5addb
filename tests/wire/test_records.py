"""Control records: what is written is read, and what a stranger writes is an error, not an end."""

from __future__ import annotations

import json

import pytest

from split_core.cost.profile import WorkerProfiles
from split_core.errors import MessageError
from split_core.wire import records
from split_core.wire.records import DeviceStatus, PlanRecord, WorkerLoad, WorkerStatus

PLAN = PlanRecord(7, 14, "kl0.02", "w1", "gain 31 %", "kl0.08", True,
                  {"mean_ms": 21.5, "kl": None})
ALL = [PLAN, WorkerLoad(0.012, 0.4, 0.003), WorkerProfiles(()),
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


def test_a_plan_of_an_older_version_is_read():
    old = b'{"plan_id": 1, "cut": 2, "rung": "q4", "worker": null, "reason": "configured"}'
    assert records.load(old, PlanRecord) == PlanRecord(1, 2, "q4", None, "configured")
