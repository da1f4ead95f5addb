"""Bundles on their way to a worker: how many at once, and what a full disk makes of them.

No broker and no thread: messages are handed to the worker as its network thread does.
"""

from __future__ import annotations

import hashlib
import time

import pytest

from cloud_side import worker as module
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
