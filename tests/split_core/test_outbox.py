"""What waits to be sent: in which order it leaves, and how it is given up."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from split_core.errors import MessageError
from split_core.outbox import Outbox, Outgoing
from split_core.wire.chunks import HEADER_BYTES, pull_chunk
from split_core.wire.messages import Kind

TOPIC = "t"


@pytest.fixture
def outbox() -> Outbox:
    made = Outbox(clock=lambda: 7.0)
    made.chunk_bytes = HEADER_BYTES + 10
    return made


def message(body: bytes | None, **more) -> Outgoing:
    return Outgoing(TOPIC, Kind.FRAME, len(body or b""), lambda now_s: body, **more)


def left(outbox: Outbox) -> list[bytes]:
    found = []
    while (publication := outbox.next_publication()) is not None:
        found.append(bytes(pull_chunk(publication.payload).data))
    return found


def test_a_message_leaves_in_chunks_and_says_when_it_has(outbox):
    sent = []
    outbox.put(message(b"a" * 25, on_sent=sent.append))
    for size in (10, 10):
        assert len(pull_chunk(outbox.next_publication().payload).data) == size
        assert not sent
    assert len(pull_chunk(outbox.next_publication().payload).data) == 5
    assert sent == [7.0]
    assert outbox.next_publication() is None


def test_frames_go_before_bulk_but_break_into_no_message(outbox):
    outbox.put(message(b"bulk" * 5), bulk=True)
    outbox.next_publication()
    outbox.put(message(b"frame"))
    outbox.put(message(b"more"), bulk=True)
    assert left(outbox) == [b"lkbulkbulk", b"frame", b"more"]


def test_who_sends_is_told_that_it_cannot_be_sent():
    def seal(outgoing, body):
        raise MessageError("no key")

    outbox, told = Outbox(seal=seal), []
    outbox.put(message(b"a", on_sent=told.append, on_refused=lambda: told.append("refused")))
    outbox.put(message(b"b"))
    assert outbox.next_publication() is None
    assert told == ["refused"] and outbox.refused == 2


def test_a_body_is_made_when_its_first_chunk_leaves(outbox):
    asked = []
    outbox.put(Outgoing(TOPIC, Kind.FRAME, 3, lambda now_s: asked.append(now_s) or b"abc"))
    assert not asked and outbox.unsent_bytes == 3
    assert left(outbox) == [b"abc"] and asked == [7.0]


def test_what_is_no_longer_worth_sending_is_passed_over(outbox):
    outbox.put(message(None))
    outbox.put(message(b"next"))
    assert left(outbox) == [b"next"]


def test_a_message_can_be_given_up_before_and_half_way(outbox):
    waiting, begun = message(b"w" * 15), message(b"b" * 25)
    outbox.put(begun)
    outbox.put(waiting)
    outbox.put(message(b"next"))
    outbox.next_publication()
    begun.cancel()
    waiting.cancel()
    assert outbox.unsent_bytes == 4
    assert left(outbox) == [b"next"]


def test_one_that_is_given_up_lets_go_of_its_bytes_at_once(outbox):
    body = np.zeros(100)              # bytes cannot be watched
    watched = weakref.ref(body)
    outgoing = Outgoing(TOPIC, Kind.FRAME, 100, lambda now_s, held=body: held)
    outbox.put(outgoing)
    del body
    assert watched() is not None
    outgoing.cancel()
    gc.collect()
    assert watched() is None


def test_unsent_counts_urgent_bytes_alone(outbox):
    outbox.put(message(b"a" * 25))
    outbox.put(message(b"b" * 7))
    outbox.put(message(b"c" * 100), bulk=True)
    assert outbox.unsent_bytes == 32
    outbox.next_publication()
    # Headers count once chunks are made: three, one of which has left.
    assert outbox.unsent_bytes == 15 + 2 * HEADER_BYTES + 7


def test_a_lost_link_leaves_nothing(outbox):
    outbox.put(message(b"a" * 25))
    outbox.put(message(b"c"), bulk=True)
    outbox.next_publication()
    outbox.clear()
    assert outbox.unsent_bytes == 0 and left(outbox) == []
    outbox.put(message(b"new"))
    assert left(outbox) == [b"new"]


def test_one_that_is_too_large_is_counted_and_passed_over(outbox):
    outbox.chunk_bytes = HEADER_BYTES      # no room for anything
    outbox.put(message(b"a"))
    assert left(outbox) == [] and outbox.refused == 1
