"""Bundles on their way to a worker: how many at once, and what a full disk makes of them.

No broker and no thread: messages are handed to the worker as its network thread does.
"""

from __future__ import annotations

import errno
import hashlib
import time

import pytest

from cloud_side import worker as module
from cloud_side.admission import Job
from cloud_side.config import StoreConfig, WorkerConfig
from cloud_side.worker import MAX_FETCHES, CloudWorker
from split_core.blobs import PART_BYTES
from split_core.wire import messages as m
from split_core.wire.chunks import Message
from tests.support.full_disk import at_most

DATA = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(DATA).digest()


@pytest.fixture
def worker(tmp_path) -> CloudWorker:
    worker = CloudWorker(WorkerConfig(id="w", store=StoreConfig(str(tmp_path / "store")),
                                      state_dir=str(tmp_path / "state")))
    yield worker
    worker.stop()


def push(worker: CloudWorker, device: str, digest: bytes, data: bytes, offset: int = 0) -> None:
    part = m.BlobPart(digest, offset, len(DATA), data)
    worker._received(device, Message(m.Kind.BLOB_PART, memoryview(m.push_blob_part(part)), 0.0))


def offer(worker: CloudWorker, device: str, digest: bytes = DIGEST) -> None:
    push(worker, device, digest, b"")


def asked(worker: CloudWorker) -> list[str]:
    """The devices that were asked for bytes since the last call."""
    topics = [o.topic for o in worker.node.outbox._urgent if o.kind is m.Kind.BLOB_REQUEST]
    worker.node.outbox.clear()
    return [worker.topics.parse_inbox(topic).node for topic in topics]


def test_devices_that_somebody_invents_open_no_more_files_than_that(worker):
    for i in range(2 * MAX_FETCHES):
        offer(worker, f"d{i}", i.to_bytes(32, "big"))
    assert len(asked(worker)) == MAX_FETCHES == worker.glance().fetching


def test_a_disk_that_is_full_is_not_asked_to_take_it_again_and_again(worker, monkeypatch, caplog):
    """Each attempt would be a window over a link that somebody pays for."""
    now_s = [time.monotonic()]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    offer(worker, "d")
    assert asked(worker) == ["d"]
    with at_most(1000):
        push(worker, "d", DIGEST, DATA[:PART_BYTES])
    assert "event=bundle-not-kept" in caplog.text and not worker.glance().fetching
    assert list(worker.store.folder.iterdir()) == [], "what was taken is given back"
    assert asked(worker) == []
    now_s[0] += 10.0
    offer(worker, "d")
    assert asked(worker) == []
    now_s[0] += 60.0
    offer(worker, "d")
    assert asked(worker) == ["d"], "there may be room again"


def test_a_disk_that_fails_one_transfer_ends_not_the_asking_for_all(worker, monkeypatch):
    other = hashlib.sha256(b"other").digest()
    now_s, again = [time.monotonic()], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(worker.node.session, "call_at", lambda when_s, fn: again.append(when_s))
    offer(worker, "d")
    now_s[0] += 50.0
    offer(worker, "e", other)
    now_s[0] += 15.0
    asked(worker)

    def read_only():
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(worker._fetches[DIGEST].blob, "abandon", read_only)
    with pytest.raises(OSError):             # which the session's guard logs
        worker._retry_fetches()
    assert DIGEST not in worker._fetches, "its sender may begin anew"
    worker._retry_fetches()
    assert asked(worker) == ["e"] and len(again) == 2


def result(worker: CloudWorker, budget_s: float) -> None:
    now_s = time.monotonic()
    frame = m.Frame(DIGEST, 1, 1, 1, round(1e6 * budget_s), 0, m.Codec.RAW, 0, b"")
    worker._send_result(Job("d", frame, now_s, now_s), m.Result(
        1, 1, 1, m.StageTimes(0, 0, 0, 0, 0), 0, b"answer"))


def test_a_result_that_waited_too_long_is_not_sent(worker, monkeypatch):
    """On an uplink that is too thin they would hold up the fresh ones, more and more."""
    now_s, told = [time.monotonic()], []
    monkeypatch.setattr(worker.node.outbox, "_clock", lambda: now_s[0])
    monkeypatch.setattr(worker._observers, "on_sent", lambda kind, nbytes: told.append(kind))
    result(worker, 1.0)
    result(worker, 60.0)
    now_s[0] += 2.5                          # late, and still worth learning from
    result(worker, 1.0)
    assert worker.node.outbox.next_publication() is not None and len(told) == 1
    now_s[0] += 10.0
    assert worker.node.outbox.next_publication() is not None, "the second one's"
    assert worker.node.outbox.next_publication() is None
    assert told == [m.Kind.RESULT] * 2 and worker.counts["results"] == 3
