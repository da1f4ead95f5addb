"""A transfer from a worker: asked for, bounded, patient, and deaf to everybody else."""

from __future__ import annotations

import hashlib
import itertools
import math
import random

import pytest

from edge_agent.models.fetch import Fetch, Stopped
from edge_agent.models.pace import FIRST_BYTES
from split_core.blobs import PART_BYTES, WINDOW_BYTES, BlobFetch, answer_request
from split_core.errors import MessageError
from split_core.wire.messages import BlobPart

DATA = random.Random(11).randbytes(2 * WINDOW_BYTES + 99)
DIGEST = hashlib.sha256(DATA).digest()
HALF = len(DATA) // 2


class World:
    """A worker that answers, unless it is told not to, and a clock that moves with each look."""

    def __init__(self, tmp_path, *, answers=lambda request: True, nbytes=len(DATA), holds=True,
                 up=lambda now_s: True, give_up_s=10.0):
        held = tmp_path / "held"
        held.write_bytes(DATA)
        self.now_s, self.requests = 0.0, []
        self._answers, self._find = answers, lambda digest: held if holds else None
        self.path = tmp_path / "got.tflite"
        self.fetch = Fetch(BlobFetch(DIGEST, self.path), "w1", nbytes, self.send,
                           lambda: up(self.now_s), clock=lambda: self.now_s, give_up_s=give_up_s)

    def send(self, request):
        self.requests.append(request)
        if self._answers(request):
            for part in answer_request(request, self._find):
                self.fetch.push("w1", part)

    def look(self):
        if self.fetch._parts.empty():
            self.now_s += 0.5


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The clock is the test's own; what is waited for has come, or never will."""
    monkeypatch.setattr("edge_agent.models.fetch._LOOK_S", 0.001)


def test_a_model_arrives_window_by_window(tmp_path):
    world = World(tmp_path)
    world.fetch.run(world.look)
    assert world.path.read_bytes() == DATA
    sizes = [r.max_bytes for r in world.requests]
    # Each came at once, so that the next was twice as large.
    assert sizes == [min(FIRST_BYTES << i, WINDOW_BYTES) for i in range(len(sizes))]
    assert [r.offset for r in world.requests] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert sum(sizes[:-1]) < len(DATA) <= sum(sizes)


def test_what_is_lost_is_asked_for_again(tmp_path):
    lost = itertools.cycle([True, False, False])
    world = World(tmp_path, answers=lambda request: not next(lost))
    world.fetch.run(world.look)
    assert world.path.read_bytes() == DATA
    offsets = [r.offset for r in world.requests]
    for i in range(0, len(offsets) - 1, 3):
        assert offsets[i] == offsets[i + 1], "again"
    assert len(set(offsets)) == len(offsets) - math.ceil(len(offsets) / 3)


def test_a_silent_worker_is_given_up_and_what_came_is_kept(tmp_path):
    world = World(tmp_path, answers=lambda request: request.offset < HALF)
    with pytest.raises(MessageError, match="worker w1 has sent nothing for 10 s"):
        world.fetch.run(world.look)
    held = world.path.with_suffix(".part").stat().st_size
    assert HALF <= held < len(DATA)
    again = World(tmp_path)
    again.fetch.run(again.look)
    assert 0 < held - again.requests[0].offset <= PART_BYTES, "the last part again"
    assert again.path.read_bytes() == DATA


def test_an_outage_is_no_silence_and_nothing_is_sent_into_it(tmp_path):
    world = World(tmp_path, up=lambda now_s: not 1.0 < now_s < 500.0)
    world.fetch.run(world.look)
    assert world.path.read_bytes() == DATA and world.now_s > 500.0
    world = World(tmp_path, up=lambda now_s: now_s > 500.0)
    world.fetch.run(world.look)
    assert len({r.offset for r in world.requests}) == len(world.requests), "none in vain"
    assert world.now_s > 500.0


def test_only_the_worker_and_the_blob_that_were_asked_for_count(tmp_path):
    world = World(tmp_path)
    for sender, digest in (("w2", DIGEST), ("w1", b"\2" * 32)):
        with pytest.raises(MessageError, match=f"which {sender} was not asked for"):
            world.fetch.push(sender, BlobPart(digest, 0, len(DATA), b"x"))


def test_more_than_was_asked_for_is_dropped(tmp_path):
    world = World(tmp_path)
    for _ in range(10_000):
        world.fetch.push("w1", BlobPart(DIGEST, 0, len(DATA), DATA[:PART_BYTES]))
    assert world.fetch._parts.qsize() == 2 * WINDOW_BYTES // PART_BYTES
    world.fetch.run(world.look)
    assert world.path.read_bytes() == DATA


def test_another_size_than_was_said_is_refused_and_forgotten(tmp_path):
    world = World(tmp_path, nbytes=len(DATA) - 1)
    with pytest.raises(MessageError, match=f"has a bundle of {len(DATA)} bytes, the command says"):
        world.fetch.run(world.look)
    assert not list(tmp_path.glob("got*"))


def test_who_does_not_hold_it_says_so(tmp_path):
    world = World(tmp_path, holds=False)
    with pytest.raises(MessageError, match="does not hold"):
        world.fetch.run(world.look)


def test_a_stop_ends_it_and_keeps_what_came(tmp_path):
    world = World(tmp_path, answers=lambda request: request.offset < HALF)

    def look():
        world.look()
        if world.now_s > 20.0:
            raise Stopped("the agent stops")

    world.fetch._give_up_s = 100.0
    with pytest.raises(Stopped):
        world.fetch.run(look)
    assert HALF <= world.path.with_suffix(".part").stat().st_size < len(DATA)
