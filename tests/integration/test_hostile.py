"""What a peer on the broker may send: refused and counted, and everybody else goes on."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator

import pytest

from edge_agent.frames import Outcome
from split_core.model.bundle import open_bundle, verify
from split_core.wire import messages as m
from split_core.wire.chunks import push_chunks
from tests.support.rig import Device, Rig, wait_until


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


def send(rig: Rig, topic: str, kind: m.Kind, body: bytes) -> None:
    for chunk in push_chunks(kind, 1, body, 60_000):
        rig.observer.publish(topic, chunk)


def answers(device: Device) -> Outcome:
    return device.agent.infer(device.inputs[0]).outcome


def frame(digest: bytes, payload: bytes, cut: int = 5, tensors: int = 1) -> bytes:
    return m.push_frame(m.Frame(digest, 1, 1, 1, 5_000_000, cut, m.Codec.RAW, tensors, payload))


def test_hostile_frames_leave_the_worker_serving(rig, camera):
    worker = rig.worker()
    device = rig.device(camera.bundle, cut=5, deadline_ms=5000)
    assert answers(device) == Outcome.REMOTE
    digest, inbox = open_bundle(camera.bundle).sha256, rig.topics.worker_inbox(worker.id, "bad")
    endless = struct.pack("<BBBBffI8I", 0, 0, 8, 0, 0.0, 0.0, 0, 0, *[2**32 - 1] * 7)
    for body in (frame(digest, endless), frame(digest, b""), frame(digest, endless, tensors=9),
                 frame(digest, endless, cut=999), frame(bytes(32), b"")):
        send(rig, inbox, m.Kind.FRAME, body)
    for kind in m.Kind:
        send(rig, inbox, kind, b"short")
    rig.observer.publish(inbox, b"no chunk at all")
    assert answers(device) == Outcome.REMOTE
    assert worker.stop() == 0


def test_a_forged_bundle_is_refused_and_not_kept(rig, camera, counter, tmp_path):
    """Its digests are right; what its manifest says of a tensor is not."""
    data = bytearray(counter.bundle.read_bytes())
    manifest, _ = verify(data)
    old = b'"name":"in/x","shape":[1,4]'
    assert old in data
    data[:] = data.replace(old, b'"name":"in/x","shape":[4,1]', 1)
    place = data.index(manifest.content_sha256.encode())
    data[place : place + 64] = b"0" * 64
    data[place : place + 64] = hashlib.sha256(data).hexdigest().encode()
    forged = tmp_path / "forged.split.tflite"
    forged.write_bytes(data)
    verify(data)
    worker = rig.worker()
    good = rig.device(camera.bundle, cut=5, device_id="good", deadline_ms=5000)
    bundle = open_bundle(forged)
    # A device that offers it and answers what it is asked.
    inbox = rig.topics.worker_inbox(worker.id, "forger")
    send(rig, inbox, m.Kind.BLOB_PART, m.push_blob_part(
        m.BlobPart(bundle.sha256, 0, len(data), b"")))
    wait_until(lambda: "from=forger" in worker.log(), 5, "a request")
    for at in range(0, len(data), 50_000):
        send(rig, inbox, m.Kind.BLOB_PART, m.push_blob_part(
            m.BlobPart(bundle.sha256, at, len(data), bytes(data[at : at + 50_000]))))
    wait_until(lambda: "event=bundle-refused" in worker.log(), 5, "a refusal")
    assert "the manifest says float32[4, 1]" in worker.log()
    assert answers(good) == Outcome.REMOTE
    # It is not there after a restart either.
    worker.stop()
    worker.start()
    good.wait_until_ready()
    assert answers(good) == Outcome.REMOTE
    assert worker.log().count("event=bundle-refused") == 1


def test_hostile_messages_leave_the_device_answering(rig, camera):
    rig.worker()
    device = rig.device(camera.bundle, cut=5, deadline_ms=5000)
    inbox = rig.topics.device_inbox("device-1", "ghost")
    for kind in m.Kind:
        send(rig, inbox, kind, b"\xff" * 70)
    send(rig, inbox, m.Kind.REFUSAL, m.push_refusal(
        m.Refusal(1, 1, m.Reason.SHED, 2**32 - 1, "go away\nevent=forged")))
    rig.observer.publish(rig.topics.worker_up("ghost", "status"), b"{not json")
    rig.observer.publish(rig.topics.worker_up("ghost", "status"),
                         json.dumps({"state": "ready", "session": 7}).encode())
    wait_until(lambda: device.agent.node.refused >= 4, 5, "refusals")
    assert answers(device) == Outcome.REMOTE


def test_a_frame_whose_answer_cannot_be_read_fails_once(rig, camera, monkeypatch):
    rig.worker()
    device = rig.device(camera.bundle, cut=5, deadline_ms=5000)
    from edge_agent.results import answers as module

    monkeypatch.setattr(module, "top_classes", lambda *_: [][1])
    answer = device.agent.infer(device.inputs[0])
    assert answer.outcome == Outcome.FAILED and "the outputs are no" in answer.reason
    assert device.agent.ledger.counts[Outcome.FAILED] == 1
