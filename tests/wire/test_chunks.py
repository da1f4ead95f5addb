"""Chunks: every flipped bit, gaps, strays, bounds."""

from __future__ import annotations

import random
import sys

import pytest

from split_core.errors import MessageError
from split_core.wire import chunks as c
from split_core.wire.messages import Kind

BODY = bytes(range(256)) * 4


def publishes(body=BODY, message_id=1, chunk_bytes=300, kind=Kind.FRAME):
    return list(c.push_chunks(kind, message_id, body, chunk_bytes))


def feed(reassembler, parts, sender="a", now_s=0.0):
    return [reassembler.push(sender, p, now_s) for p in parts]


@pytest.mark.parametrize("size", [0, 1, 275, 276, 277, 552, 1024])
def test_a_message_comes_back_whole(size):
    body = BODY[:size]
    parts = publishes(body)
    assert all(len(p) <= 300 for p in parts)
    assert len(parts) == max(1, -(-size // (300 - c.HEADER_BYTES)))
    *before, last = feed(c.Reassembler(), parts)
    assert before == [None] * (len(parts) - 1)
    assert (last.kind, bytes(last.body)) == (Kind.FRAME, body)


def test_every_truncation_is_refused():
    (data,) = publishes(BODY[:50])
    for n in range(len(data)):
        with pytest.raises(MessageError):
            c.pull_chunk(data[:n])


def test_every_flipped_bit_is_refused():
    (data,) = publishes(BODY[:50])
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with pytest.raises(MessageError):
                c.pull_chunk(bytes(flipped))


def test_what_is_sealed_says_so_and_what_is_not_stays_version_1():
    (plain,), (sealed,) = (c.push_chunks(Kind.FRAME, 1, b"x", 300, sealed=s) for s in (False, True))
    assert plain[4:8] == b"\1\1\0\0"        # version, kind, reserved: as the release before
    assert sealed[4:8] == b"\2\1\1\0" and sealed[:8] == c.sealed_prefix(Kind.FRAME)
    assert not c.Reassembler().push("a", plain, 0.0).sealed
    assert c.Reassembler().push("a", sealed, 0.0).sealed
    parts = list(c.push_chunks(Kind.FRAME, 1, BODY, 300, sealed=True))
    whole = feed(c.Reassembler(), parts)[-1]
    assert whole.sealed and bytes(whole.body) == BODY


@pytest.mark.parametrize("version, flags, words", [
    (0, 0, "chunk version 0"), (3, 0, "chunk version 3, accepted are"),
    (1, 1, "flags 0x0001, unknown in version 1"), (1, 0x100, "flags 0x0100"),
    (2, 2, "flags 0x0002, unknown in version 2"), (2, 0x8001, "flags 0x8001")])
def test_versions_and_flags_that_nobody_knows_are_refused(version, flags, words):
    with pytest.raises(MessageError, match=words):
        c.pull_chunk(with_version(version, flags))


def test_version_2_without_flags_is_taken():
    assert not c.pull_chunk(with_version(2, 0)).sealed


def with_version(version: int, flags: int) -> bytes:
    (data,) = publishes(b"x")
    head = data[:4] + bytes([version, data[5]]) + flags.to_bytes(2, "little") + data[8:20]
    return head + c.zlib.crc32(b"x", c.zlib.crc32(head)).to_bytes(4, "little") + b"x"


def test_a_message_is_sealed_from_end_to_end_or_not_at_all():
    plain = publishes()
    sealed = list(c.push_chunks(Kind.FRAME, 1, BODY, 300, sealed=True))
    r = c.Reassembler()
    r.push("a", plain[0], 0.0)
    with pytest.raises(MessageError, match="gap"):
        r.push("a", sealed[1], 0.0)


def test_a_gap_drops_the_message_and_the_next_is_taken():
    r = c.Reassembler()
    parts = publishes()
    assert r.push("a", parts[0], 0.0) is None
    with pytest.raises(MessageError, match="gap: chunk at 552 of message 1, wanted 276"):
        r.push("a", parts[2], 0.0)
    assert (r.dropped, r.held_bytes) == (1, 0)
    with pytest.raises(MessageError, match="stray"):
        r.push("a", parts[3], 0.0)
    assert bytes(feed(r, publishes(message_id=2))[-1].body) == BODY


def test_a_new_message_replaces_one_given_up():
    r = c.Reassembler()
    feed(r, publishes(message_id=1)[:2])
    assert bytes(feed(r, publishes(message_id=2))[-1].body) == BODY
    assert r.dropped == 1


def test_a_chunk_of_another_message_is_a_gap():
    r = c.Reassembler()
    r.push("a", publishes(message_id=1)[0], 0.0)
    with pytest.raises(MessageError, match="gap"):
        r.push("a", publishes(message_id=2)[1], 0.0)


def test_senders_do_not_disturb_each_other():
    r = c.Reassembler()
    a, b = publishes(BODY), publishes(BODY[::-1])
    for x, y in zip(a, b):
        in_a, in_b = r.push("a", x, 0.0), r.push("b", y, 0.0)
    assert (bytes(in_a.body), bytes(in_b.body)) == (BODY, BODY[::-1])
    assert r.held_bytes == 0


def test_memory_is_bounded_by_what_arrived_for_one_and_for_all():
    r = c.Reassembler(max_message_bytes=1000, max_bytes_in_all=700)
    with pytest.raises(MessageError, match="message of 1024 bytes, this receiver takes 1000"):
        r.push("a", publishes()[0], 0.0)
    parts = publishes(BODY[:900])
    r.push("a", parts[0], 0.0)
    r.push("b", parts[0], 0.0)
    with pytest.raises(MessageError, match="552 bytes of unfinished messages held"):
        r.push("c", parts[0], 0.0)
    assert r.held_bytes == 552


def test_a_claim_of_size_allocates_nothing():
    (data,) = c.push_chunks(Kind.FRAME, 1, bytes(c.MAX_MESSAGE_BYTES), c.MAX_MESSAGE_BYTES + 99)
    first = next(c.push_chunks(Kind.FRAME, 1, bytes(c.MAX_MESSAGE_BYTES), 300))
    r = c.Reassembler()
    r.push("a", first, 0.0)
    assert r.held_bytes == 276
    assert len(data) == c.MAX_MESSAGE_BYTES + c.HEADER_BYTES


def test_half_a_message_is_forgotten():
    r = c.Reassembler()
    r.push("a", publishes()[0], 10.0)
    r.sweep(10.0 + c.PARTIAL_TIMEOUT_S)
    assert r.held_bytes == 276
    r.sweep(10.1 + c.PARTIAL_TIMEOUT_S)
    assert (r.held_bytes, r.dropped) == (0, 1)


def test_the_message_says_when_it_began():
    r = c.Reassembler()
    parts = publishes()
    r.push("a", parts[0], 1.0)
    feed(r, parts[1:-1], now_s=2.0)
    assert r.push("a", parts[-1], 3.0).first_s == 1.0


def test_too_large_a_message_is_refused_at_home():
    with pytest.raises(MessageError, match="at most"):
        publishes(bytes(c.MAX_MESSAGE_BYTES + 1))
    with pytest.raises(MessageError, match="no room"):
        publishes(chunk_bytes=c.HEADER_BYTES)


def test_random_loss_never_delivers_a_damaged_message():
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    r, delivered = c.Reassembler(), 0
    for number in range(300):
        body = rng.randbytes(rng.randrange(1, 900))
        for part in publishes(body, number):
            if rng.random() < 0.1:
                continue
            try:
                message = r.push("a", part, 0.0)
            except MessageError:
                continue
            if message is not None:
                assert bytes(message.body) == body
                delivered += 1
    assert 100 < delivered < 300


def test_senders_that_somebody_invents_are_bounded_in_number():
    reassembler = c.Reassembler()
    first = next(c.push_chunks(Kind.FRAME, 1, bytes(100), c.HEADER_BYTES + 1))
    for i in range(c.MAX_SENDERS):
        assert reassembler.push(f"s{i}", first, 0.0) is None
    with pytest.raises(MessageError, match=f"{c.MAX_SENDERS} senders"):
        reassembler.push("one more", first, 0.0)
    whole = next(c.push_chunks(Kind.FRAME, 1, b"all of it", 1000))
    assert bytes(reassembler.push("one more", whole, 0.0).body) == b"all of it"
    reassembler.sweep(c.PARTIAL_TIMEOUT_S + 1)
    assert reassembler.push("one more", first, 0.0) is None


def test_of_the_first_chunk_nothing_is_held_but_its_bytes():
    """The publication that brought it would be a second copy, of up to 64 kB a sender."""
    reassembler, publication = c.Reassembler(), next(c.push_chunks(Kind.FRAME, 1, bytes(100), 60))
    before = sys.getrefcount(publication)
    reassembler.push("a", publication, 0.0)
    assert sys.getrefcount(publication) == before
