"""Blobs arrive whole, proven, and go on where they stopped."""

from __future__ import annotations

import hashlib
import random

import pytest

from split_core.blobs import PART_BYTES, RETRY_S, WINDOW_BYTES, BlobFetch, answer_request
from split_core.errors import MessageError
from split_core.wire.messages import BlobPart, BlobRequest

DATA = random.Random(5).randbytes(3 * WINDOW_BYTES + 777)
DIGEST = hashlib.sha256(DATA).digest()


@pytest.fixture
def holder(tmp_path):
    path = tmp_path / "held"
    path.write_bytes(DATA)
    return lambda digest: path if digest == DIGEST else None


def exchange(fetch, holder, rounds=100, lose=lambda part: False):
    """Ask and answer until done; the time at the end."""
    now_s = 0.0
    for _ in range(rounds):
        request = fetch.next_request(now_s)
        if request is not None:
            for part in answer_request(request, holder):
                if not lose(part) and fetch.add(part, now_s):
                    return now_s
        now_s += 0.5
    return None


def test_a_blob_arrives_in_windows_without_waiting(tmp_path, holder):
    fetch = BlobFetch(DIGEST, tmp_path / "got")
    assert exchange(fetch, holder) == 1.5                 # four windows, 0.5 s apart
    assert (tmp_path / "got").read_bytes() == DATA
    assert not list(tmp_path.glob("*.part"))


def test_a_lost_part_is_asked_for_again_after_the_retry_time(tmp_path, holder):
    lost = []

    def lose(part):
        if part.offset == PART_BYTES and not lost:
            lost.append(part)
            return True
        return False

    fetch = BlobFetch(DIGEST, tmp_path / "got")
    assert exchange(fetch, holder, lose=lose) == RETRY_S + 1.0      # three windows more
    assert (tmp_path / "got").read_bytes() == DATA


def test_a_transfer_goes_on_after_a_restart(tmp_path, holder):
    first = BlobFetch(DIGEST, tmp_path / "got")
    for part in answer_request(first.next_request(0.0), holder):
        first.add(part, 0.0)
    again = BlobFetch(DIGEST, tmp_path / "got")
    # All but the last part: whole but unproven would leave nothing to ask for.
    assert again.next_request(0.0) == BlobRequest(DIGEST, WINDOW_BYTES - PART_BYTES, WINDOW_BYTES)
    assert exchange(again, holder) is not None
    assert (tmp_path / "got").read_bytes() == DATA


def test_a_wrong_blob_is_thrown_away(tmp_path, holder):
    fetch = BlobFetch(b"\1" * 32, tmp_path / "got")
    with pytest.raises(MessageError, match="has SHA-256"):
        exchange(fetch, lambda digest: holder(DIGEST))
    assert not list(tmp_path.glob("got*"))
    assert fetch.next_request(99.0).offset == 0


def test_who_lacks_it_says_so(tmp_path, holder):
    (part,) = answer_request(BlobRequest(b"\1" * 32, 0, 1000), holder)
    with pytest.raises(MessageError, match="does not hold"):
        BlobFetch(b"\1" * 32, tmp_path / "got").add(part, 0.0)


def test_sizes_are_bounded_and_may_not_change(tmp_path):
    fetch = BlobFetch(DIGEST, tmp_path / "got", max_bytes=1000)
    with pytest.raises(MessageError, match="blob of 1001 bytes, at most 1000"):
        fetch.add(BlobPart(DIGEST, 0, 1001, b"x"), 0.0)
    fetch.add(BlobPart(DIGEST, 0, 900, b"x"), 0.0)
    with pytest.raises(MessageError, match="was 900 before"):
        fetch.add(BlobPart(DIGEST, 1, 901, b"x"), 0.0)


def test_a_holder_sends_at_most_a_window(holder):
    parts = answer_request(BlobRequest(DIGEST, 0, 2**31), holder)
    assert sum(len(p.data) for p in parts) == WINDOW_BYTES


@pytest.mark.parametrize("offset", [len(DATA), len(DATA) + 5, 2**64 - 1])
def test_past_the_end_there_is_nothing_and_that_is_said(holder, offset):
    (part,) = answer_request(BlobRequest(DIGEST, offset, 100), holder)
    assert (part.total_bytes, part.data) == (0, b"")


@pytest.mark.parametrize("size", [len(DATA), len(DATA) + 99])
def test_a_whole_or_overlong_remainder_does_not_block_a_blob(tmp_path, holder, size):
    (tmp_path / "got.part").write_bytes((DATA + bytes(99))[:size])
    for _ in range(3):                                  # each failure throws more away
        fetch = BlobFetch(DIGEST, tmp_path / "got")
        try:
            if exchange(fetch, holder) is not None:
                break
        except MessageError:
            fetch.abandon()
    assert (tmp_path / "got").read_bytes() == DATA
