"""Bundles to devices: a window at a time, bounded, and only what is to be given."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest

from cloud_side.blobs_out import MAX_DEVICES, BlobsOut
from cloud_side.store import BundleStore
from split_core.blobs import PART_BYTES, WINDOW_BYTES
from split_core.errors import MessageError
from split_core.outbox import Outbox
from split_core.wire.messages import BlobRequest, pull_blob_part

DATA = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(DATA).digest()


class Outgoing:
    """What a node was given to send, in order."""

    def __init__(self):
        self.waiting = []

    def send(self, outgoing, *, bulk=False):
        assert bulk, "results go before parts"
        self.waiting.append(outgoing)

    def leave(self, count=None):
        """Let so many leave; (topic, part) of each."""
        count = len(self.waiting) if count is None else count
        gone, self.waiting = self.waiting[:count], self.waiting[count:]
        parts = [(o.topic, pull_blob_part(o.make_body(0.0))) for o in gone]
        for outgoing in gone:
            outgoing.on_sent(0.0)
        return parts


@pytest.fixture
def store(tmp_path):
    store = BundleStore(tmp_path, 1 << 30)
    store.path(DIGEST).write_bytes(DATA)
    return store


@pytest.fixture
def made(store):
    wanted, gives = [], [True]
    out = BlobsOut(store, lambda device: f"to/{device}", gives=lambda: gives[0],
                   on_wanted=wanted.append)
    out.node = Outgoing()
    return out, out.node, wanted, gives


def test_a_window_goes_out_in_parts(made):
    out, node, wanted, _ = made
    out.on_request("pi", BlobRequest(DIGEST, 100, 2**31))
    parts = node.leave()
    assert {topic for topic, _ in parts} == {"to/pi"}
    assert b"".join(p.data for _, p in parts) == DATA[100:100 + WINDOW_BYTES]
    assert {p.total_bytes for _, p in parts} == {len(DATA)}
    assert wanted == [DIGEST]


def test_a_device_gets_one_window_at_a_time(made):
    out, node, _, _ = made
    for _ in range(5):
        out.on_request("pi", BlobRequest(DIGEST, 0, WINDOW_BYTES))
    assert len(node.waiting) == WINDOW_BYTES // PART_BYTES
    node.leave(1)
    out.on_request("pi", BlobRequest(DIGEST, 0, WINDOW_BYTES))
    assert len(node.waiting) == 3, "the rest of the first"
    node.leave()
    out.on_request("pi", BlobRequest(DIGEST, 0, 10))
    assert [bytes(p.data) for _, p in node.leave()] == [DATA[:10]]


def test_what_waits_for_a_fleet_is_bounded(made):
    out, node, _, _ = made
    for i in range(100):
        out.on_request(f"pi-{i}", BlobRequest(DIGEST, 0, WINDOW_BYTES))
    assert sum(o.nbytes for o in node.waiting) <= MAX_DEVICES * (WINDOW_BYTES + 1000)
    assert {topic for topic, _ in node.leave()} == {f"to/pi-{i}" for i in range(MAX_DEVICES)}
    out.on_request("pi-99", BlobRequest(DIGEST, 0, WINDOW_BYTES))
    assert node.waiting, "those that asked again have their turn"


def test_what_cannot_be_sent_leaves_its_place_to_others(made):
    """A device whose session is not known: what is sealed for it cannot be."""
    out, _, _, _ = made

    def seal(outgoing, body):
        if outgoing.topic.startswith("to/gone"):
            raise MessageError("nothing is known of its session")
        return body

    box = Outbox(seal=seal)
    out.node = SimpleNamespace(send=box.put)
    for i in range(MAX_DEVICES):
        out.on_request(f"gone-{i}", BlobRequest(DIGEST, 0, WINDOW_BYTES))
    out.on_request("pi", BlobRequest(DIGEST, 0, WINDOW_BYTES))
    assert box.next_publication() is None, "all are taken, and none of it can leave"
    assert box.refused == MAX_DEVICES * (WINDOW_BYTES // PART_BYTES)
    out.on_request("pi", BlobRequest(DIGEST, 0, WINDOW_BYTES))
    assert box.next_publication().topic == "to/pi"


def test_after_an_outage_nothing_is_waited_for(made):
    out, node, _, _ = made
    out.on_request("pi", BlobRequest(DIGEST, 0, WINDOW_BYTES))
    node.waiting.clear()
    out.forget()
    out.on_request("pi", BlobRequest(DIGEST, 0, WINDOW_BYTES))
    assert node.waiting


@pytest.mark.parametrize("digest, gives", [(b"\1" * 32, True), (DIGEST, False)])
def test_what_is_not_given_is_not_held(made, digest, gives):
    out, node, wanted, giving = made
    giving[0] = gives
    out.on_request("pi", BlobRequest(digest, 0, WINDOW_BYTES))
    ((_, part),) = node.leave()
    assert (part.total_bytes, part.data) == (0, b"") and wanted == []
