"""Sealed messages between real agents and workers, through a broker that is not trusted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_agent.config import FrameConfig
from edge_agent.frames import Outcome
from split_core.wire import messages as m
from split_core.wire.chunks import HEADER_BYTES, pull_chunk, push_chunks
from tests.crypto.making import key, keys_file
from tests.support.rig import wait_until
from tests.support.secured import answered_as_by_the_whole_model, fence, is_inbox

NAMES = "device door\ndevice gate\nworker w1\nworker w2"
INBOX = "si/v1/_pool/w1/in/door"
_numbers = itertools.count(1)


@pytest.fixture
def names() -> str:
    return NAMES


def keys(tmp_path, *lines: str):
    return keys_file(tmp_path, *lines, name=f"keys-{next(_numbers)}")


def whole_messages(seen, topic: str) -> list[list[bytes]]:
    """The publications of each message on a topic, in order."""
    found: list[list[bytes]] = []
    for payload in (s.payload for s in seen if s.topic == topic):
        chunk = pull_chunk(payload)
        if chunk.offset == 0:
            found.append([])
        found[-1].append(payload)
    return found


def frames_of(seen, topic: str) -> list[list[bytes]]:
    return [parts for parts in whole_messages(seen, topic)
            if pull_chunk(parts[0]).kind is m.Kind.FRAME]


def test_all_between_device_and_worker_is_sealed_and_works_as_before(pool, broker, camera,
                                                                     tmp_path):
    with broker.user("auditor", "#") as auditor:
        file = keys(tmp_path, f"fleet {key(1)}")
        pool.worker("w1", keys=file)
        agent = pool.device("door", camera.bundle, keys=file)
        answered_as_by_the_whole_model(agent, camera.model, 6)
        fence(auditor, auditor)
        inbox = [s.payload for s in auditor.seen if is_inbox(s.topic)]
    chunks = [pull_chunk(p) for p in inbox]
    assert all(c.sealed for c in chunks)
    assert {c.kind for c in chunks} >= {m.Kind.FRAME, m.Kind.RESULT, m.Kind.BLOB_REQUEST,
                                        m.Kind.BLOB_PART}
    # The bundle came over in parts, none of which can be found in what the broker carried.
    data, carried = camera.bundle.read_bytes(), b"".join(bytes(c.data) for c in chunks)
    assert len(carried) > len(data) + 6 * 64_000
    assert not any(data[at:at + 16] in carried for at in range(0, len(data) - 16, 4001))
    assert agent.bundle.sha256 not in carried and b"TFL3" not in carried


def test_what_a_hostile_broker_brings_changes_nothing(pool, broker, camera, tmp_path):
    """Recorded, changed and made-up messages, as from the broker itself (the auditor may write
    anywhere): the worker refuses each, says why, and serves on."""
    with broker.user("auditor", "#") as auditor:
        file = keys(tmp_path, f"fleet {key(1)}")
        worker = pool.worker("w1", keys=file)
        agent = pool.device("door", camera.bundle, keys=file)
        answered_as_by_the_whole_model(agent, camera.model, 3)
        fence(auditor, auditor)
        recorded = frames_of(auditor.seen, INBOX)
        assert len(recorded) == 3 and len(recorded[0]) == 2, "frames of two chunks"
        results = len(whole_messages(auditor.seen, "si/v1/door/dn/in/w1"))

        def bring(parts, topic=INBOX) -> None:
            for part in parts:
                auditor.may_write(topic, part)

        def refused(words: str) -> None:
            wait_until(lambda: words in worker.log(), 10, words)

        bring(recorded[1])
        refused("from='door' what='a sealed message that came before'")
        body = bytearray(b"".join(bytes(pull_chunk(p).data) for p in recorded[2]))
        body[32] += 1                                     # the counter: one that did not come yet
        bring(push_chunks(m.Kind.FRAME, 9, bytes(body), 64_000, sealed=True))
        refused("from='door' what='a message sealed with key fleet that does not open")
        bring(recorded[2], "si/v1/_pool/w1/in/gate")       # in another device's name
        refused("from='gate'")
        frame = m.push_frame(m.Frame(agent.bundle.sha256, 1, 1, 1, 10**6, 1, m.Codec.RAW, 1, b""))
        bring(push_chunks(m.Kind.FRAME, 9, frame, 64_000))
        refused("from='door' what='a message that is not sealed, and seal.keys_file is set here")
        answered_as_by_the_whole_model(agent, camera.model, 3)
        fence(auditor, auditor)
        answers = len(whole_messages(auditor.seen, "si/v1/door/dn/in/w1")) - results
        assert answers == 3, "for what was brought there was no answer"

        # A worker that starts anew has forgotten which counters it saw, yet knows a recording.
        assert worker.stop() == 0
        before = worker.log()
        worker.start()
        wait_until(lambda: agent.missing() is None, 30, "the worker, again")
        bring(recorded[0])
        wait_until(lambda: "for an earlier start of this node" in worker.log()[len(before):], 10,
                   "the refusal")
        answered_as_by_the_whole_model(agent, camera.model, 2)


def test_what_is_brought_to_a_device_changes_nothing(pool, broker, camera, tmp_path, caplog):
    with broker.user("auditor", "#") as auditor:
        file = keys(tmp_path, f"fleet {key(1)}")
        pool.worker("w1", keys=file)
        agent = pool.device("door", camera.bundle, keys=file)
        answered_as_by_the_whole_model(agent, camera.model, 2)
        fence(auditor, auditor)
        topic = "si/v1/door/dn/in/w1"
        for parts in whole_messages(auditor.seen, topic)[-2:]:
            for part in parts:
                assert auditor.may_write(topic, part)
        # An answer that would have to be believed if it were not for the seal.
        forged = m.push_result(m.Result(agent.node.session_id, 3, 1, m.StageTimes(), 1, b""))
        for part in push_chunks(m.Kind.RESULT, 1, forged, 64_000):
            assert auditor.may_write(topic, part)
        for words in ("a message that is not sealed, and seal.keys_file is set here", "came before"):
            wait_until(lambda: words in caplog.text, 10, words)
        answered_as_by_the_whole_model(agent, camera.model, 2)


@pytest.mark.parametrize("device_key, worker_key, told", [
    (1, None, "a sealed message, and no seal.keys_file is set here"),
    (None, 1, "a message that is not sealed, and seal.keys_file is set here; set it there, too"),
    (1, 2, "which seal.keys_file does not hold here for door"),
])
def test_ends_that_do_not_fit_say_why_and_the_device_answers_itself(
        pool, broker, camera, tmp_path, device_key, worker_key, told):
    files = [number and keys(tmp_path, f"k {key(number)}") for number in (device_key, worker_key)]
    worker = pool.worker("w1", keys=files[1])
    agent = pool.device("door", camera.bundle, keys=files[0], ready=False,
                        frame=FrameConfig(deadline_ms=400))
    wait_until(lambda: told in worker.log(), 30, told)
    image = {"image": np.random.default_rng(1).random((1, 64, 64, 3), np.float32)}
    answer = agent.infer(image)
    assert answer.outcome is Outcome.FALLBACK and not answer.late
    assert "Traceback" not in worker.log()


def test_each_device_may_have_a_key_of_its_own(pool, broker, camera, tmp_path):
    pool.worker("w1", keys=keys(tmp_path, f"door {key(1)} door", f"gate {key(2)} gate"))
    door = pool.device("door", camera.bundle, keys=keys(tmp_path, f"mine {key(1)}"))
    gate = pool.device("gate", camera.bundle, keys=keys(tmp_path, f"mine {key(2)}"))
    for agent in (door, gate):
        answered_as_by_the_whole_model(agent, camera.model, 2)


def test_a_retained_message_in_an_inbox_is_refused(pool, broker, camera, tmp_path):
    """Else it would come again with every connection."""
    with broker.user("auditor") as auditor:
        assert auditor.may_write(INBOX, b"kept", retain=True)
        worker = pool.worker("w1")
        wait_until(lambda: "a retained message in an inbox" in worker.log(), 30, "the refusal")
        agent = pool.device("door", camera.bundle)
        answered_as_by_the_whole_model(agent, camera.model, 1)


def test_overhead_on_the_wire_is_what_the_document_says(pool, broker, camera, tmp_path):
    with broker.user("auditor", "#") as auditor:
        file = keys(tmp_path, f"fleet {key(1)}")
        pool.worker("w1", keys=file)
        agent = pool.device("door", camera.bundle, keys=file)
        rng = np.random.default_rng(1)
        answer = agent.infer({"image": rng.random((1, 64, 64, 3), np.float32)})
        assert answer.outcome is Outcome.REMOTE
        fence(auditor, auditor)
        (parts,) = frames_of(auditor.seen, INBOX)
        carried = sum(len(p) - HEADER_BYTES for p in parts)
        assert carried == answer.payload_bytes + m.FRAME_HEADER_BYTES + 56
