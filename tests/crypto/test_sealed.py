"""Sealed messages: what opens, and everything that must not."""

from __future__ import annotations

import random

import pytest

from fuzz.edits import EDIT_BYTES, edit
from split_core.crypto.sealed import OVERHEAD_BYTES, Seal
from split_core.errors import MessageError
from split_core.wire.messages import Kind
from tests.crypto.making import DEVICE, TO_DEVICE, TO_WORKER, WORKER, key, ring

BODY = b"boundary tensors" * 8


def pair(device_keys=(f"fleet {key(1)}",), worker_keys=(f"fleet {key(1)}",)) -> tuple[Seal, Seal]:
    """A device that has read the worker's status, and the worker."""
    device, worker = Seal(ring(*device_keys), DEVICE), Seal(ring(*worker_keys), WORKER)
    device.on_session("w", WORKER)
    return device, worker


def to_worker(device: Seal, body: bytes = BODY, kind=Kind.FRAME) -> bytes:
    return device.seal(kind, TO_WORKER, "w", body)


def opened(worker: Seal, sealed: bytes, *, kind=Kind.FRAME, topic=TO_WORKER, sender="d") -> bytes:
    return bytes(worker.open(kind, topic, sender, memoryview(sealed)))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100_000])
def test_there_and_back(size):
    device, worker = pair()
    body = random.Random(size).randbytes(size)
    sealed = to_worker(device, body)
    assert len(sealed) == size + OVERHEAD_BYTES == size + 56
    assert opened(worker, sealed) == body
    # Having heard the device, the worker can answer it.
    answer = worker.seal(Kind.RESULT, TO_DEVICE, "d", b"a fox")
    assert bytes(device.open(Kind.RESULT, TO_DEVICE, "w", memoryview(answer))) == b"a fox"


def test_nothing_of_the_body_shows():
    device, _ = pair()
    sealed = to_worker(device)
    assert BODY[:8] not in sealed
    # Nor that two bodies are equal.
    assert to_worker(device)[40:] != sealed[40:]


def test_every_truncation_is_refused():
    device, worker = pair()
    sealed = to_worker(device, b"body")
    for n in range(len(sealed)):
        with pytest.raises(MessageError):
            opened(worker, sealed[:n])
    with pytest.raises(MessageError):
        opened(worker, sealed + b"\0")
    assert opened(worker, sealed) == b"body", "and none of those was taken for it"


def test_every_flipped_bit_is_refused():
    device, worker = pair()
    sealed = to_worker(device, b"body")
    for at in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[at] ^= 1 << bit
            with pytest.raises(MessageError):
                opened(worker, bytes(flipped))


def test_random_damage_is_refused():
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    device, worker = pair()
    earlier = to_worker(device, b"another body")
    for _ in range(3000):
        sealed = to_worker(device, rng.randbytes(rng.randrange(200)))
        damaged = edit(sealed, rng.randbytes(EDIT_BYTES * rng.randint(1, 4)), earlier)
        if damaged in (sealed, earlier):
            continue
        with pytest.raises(MessageError):
            opened(worker, damaged)


@pytest.mark.parametrize("change", [
    {"topic": "si/v1/_pool/w2/in/d"},          # meant for another worker
    {"topic": "si/v1/_pool/w/in/e"},           # sent by another device
    {"topic": "acme/si/v1/_pool/w/in/d"},      # another tenant's
    {"kind": Kind.BLOB_PART},
])
def test_topic_and_kind_are_authenticated(change):
    device, worker = pair()
    with pytest.raises(MessageError, match="does not open"):
        opened(worker, to_worker(device), **change)


def test_a_message_opens_once():
    device, worker = pair()
    first, second = to_worker(device), to_worker(device)
    assert opened(worker, second) and opened(worker, first)
    for again in (first, second):
        with pytest.raises(MessageError, match="came before"):
            opened(worker, again)


def test_a_recording_does_not_open_after_the_receiver_has_started_anew():
    device, worker = pair()
    recorded = to_worker(device)
    assert opened(worker, recorded)
    again = Seal(ring(f"fleet {key(1)}"), WORKER + 1)
    with pytest.raises(MessageError, match="an earlier start of this node"):
        opened(again, recorded)
    device.on_session("w", WORKER + 1)
    assert opened(again, to_worker(device)) == BODY


def test_nor_an_answer_for_the_device_as_it_was():
    device, worker = pair()
    opened(worker, to_worker(device))
    answer = worker.seal(Kind.RESULT, TO_DEVICE, "d", b"a fox")
    again = Seal(ring(f"fleet {key(1)}"), DEVICE + 1)
    with pytest.raises(MessageError, match="an earlier start of this node"):
        again.open(Kind.RESULT, TO_DEVICE, "w", memoryview(answer))


def test_a_message_does_not_open_at_its_sender():
    """With one key for all, what came from the worker is not taken for one to it."""
    device, worker = pair()
    opened(worker, to_worker(device))
    answer = worker.seal(Kind.RESULT, TO_DEVICE, "d", b"a fox")
    with pytest.raises(MessageError, match="does not open"):
        opened(worker, answer, kind=Kind.RESULT, topic=TO_WORKER)


def test_a_wrong_session_in_a_forged_status_opens_nowhere_and_the_next_status_mends_it():
    device, worker = pair()
    device.on_session("w", 666)
    with pytest.raises(MessageError):
        opened(worker, to_worker(device))
    device.on_session("w", WORKER)
    assert opened(worker, to_worker(device)) == BODY


def test_two_processes_with_one_key_and_one_session_never_share_a_nonce():
    """The salt makes their keys differ, though both count from 0."""
    seals = [Seal(ring(f"fleet {key(1)}"), DEVICE) for _ in range(2)]
    for seal in seals:
        seal.on_session("w", WORKER)
    a, b = (to_worker(seal) for seal in seals)
    assert a[32:40] == b[32:40] == bytes(8), "both counters at 0"
    assert a[16:32] != b[16:32] and a[40:] != b[40:]


def test_counters_go_on_over_all_receivers():
    device, _ = pair()
    device.on_session("w2", 5)
    headers = [device.seal(Kind.FRAME, f"si/v1/_pool/{w}/in/d", w, b"")[32:40]
               for w in ("w", "w2", "w")]
    assert [int.from_bytes(h, "little") for h in headers] == [0, 1, 2]


def test_keys_can_be_changed_without_a_gap():
    old, new = f"old {key(1)}", f"new {key(2)}"
    for device_keys, worker_keys in (((old,), (old, new)), ((old, new), (old, new)),
                                     ((new, old), (old, new)), ((new, old), (new,)),
                                     ((new,), (new,))):
        device, worker = pair(device_keys, worker_keys)
        assert opened(worker, to_worker(device)) == BODY
        answer = worker.seal(Kind.RESULT, TO_DEVICE, "d", b"a fox")
        assert bytes(device.open(Kind.RESULT, TO_DEVICE, "w", memoryview(answer))) == b"a fox"


def test_another_key_is_named_and_one_of_another_node_is_refused():
    device, worker = pair((f"fleet {key(1)}",), (f"fleet {key(2)}",))
    with pytest.raises(MessageError, match="does not hold here for d"):
        opened(worker, to_worker(device))
    # A device whose key the worker shares with it alone poses as another.
    device, worker = pair((f"e {key(1)}",), (f"e {key(1)} e", f"d {key(2)} d"))
    with pytest.raises(MessageError, match="does not hold here for d"):
        opened(worker, to_worker(device))


def test_nobody_unheard_of_is_sent_to():
    device, worker = pair()
    with pytest.raises(MessageError, match="session of d is not known yet"):
        worker.seal(Kind.RESULT, TO_DEVICE, "d", b"")
    device, _ = pair((f"door {key(1)} other",))
    with pytest.raises(MessageError, match="no key is shared with w"):
        to_worker(device)


def test_strangers_fill_no_memory():
    device, worker = pair()
    sealed = bytearray(to_worker(device))
    rng = random.Random(3)
    for _ in range(100):
        sealed[16:32] = rng.randbytes(16)          # other salts
        with pytest.raises(MessageError):
            opened(worker, bytes(sealed))
    assert len(worker._heard) == 0
