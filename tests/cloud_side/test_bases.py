"""What waits for a refinement: bounded, by whom it was sent, and for how long."""

from __future__ import annotations

import numpy as np
import pytest

from cloud_side.admission import Job
from cloud_side.bases import MAX_WAIT_S, Base, Bases, RefinementJob, give_up_s
from split_core.wire.messages import Codec, Frame, Refinement, Result, StageTimes
from split_core.wire.payload import Layers


def base(frame_id: int, *, sender: str = "a", session: int = 1, until_s: float = 5.0) -> Base:
    """One of 100 bytes: 30 symbols of two, 28 of arrays, 7 of result, 5 of frame."""
    frame = Frame(b"b" * 32, session, frame_id, 1, 1_000_000, 3, Codec.LAYERED, 1, b"frame")
    layers = Layers(0, (), 0.5, {"t": np.zeros(30, np.int16)}, {"t": np.zeros(7, np.float32)})
    return Base(Job(sender, frame, 0.0, 0.0), layers,
                Result(session, frame_id, 1, StageTimes(), 1, b"outputs"), until_s)


def test_what_is_held_is_taken_once_by_whom_it_is_of():
    bases = Bases()
    assert bases.hold(base(1)) == []
    for other in (("b", 1, 1), ("a", 2, 1), ("a", 1, 2)):
        assert bases.take(*other) is None
    assert bases.take("a", 1, 1).key == ("a", 1, 1)
    assert bases.take("a", 1, 1) is None and len(bases) == 0


def test_the_oldest_make_room_and_are_handed_back():
    bases = Bases(max_bases=2)
    assert bases.hold(base(1)) == bases.hold(base(2)) == []
    assert [b.key[2] for b in bases.hold(base(3))] == [1]
    assert len(bases) == 2


def test_bytes_are_bounded_but_the_newest_stays():
    assert base(1).nbytes == 100
    bases = Bases(max_bytes=250)
    bases.hold(base(1))
    bases.hold(base(2))
    assert [b.key[2] for b in bases.hold(base(3))] == [1]
    tight = Bases(max_bytes=50)
    tight.hold(base(1))
    assert [b.key[2] for b in tight.hold(base(2))] == [1] and len(tight) == 1


def test_what_was_taken_does_not_count():
    bases = Bases(max_bytes=250)
    for i in range(20):
        assert bases.hold(base(i)) == []
        bases.take("a", 1, i)


def test_those_that_have_waited_long_enough_are_due():
    bases = Bases()
    for i, until_s in ((1, 5.0), (2, 3.0), (3, 4.0)):
        bases.hold(base(i, until_s=until_s))
    assert bases.take_due(2.9) == []
    assert [b.key[2] for b in bases.take_due(4.0)] == [2, 3]
    assert [b.key[2] for b in bases.take_due(5.0)] == [1] and len(bases) == 0


def test_a_device_that_began_anew_has_left_what_it_sent_before():
    bases = Bases()
    bases.hold(base(1))
    bases.hold(base(1, sender="b"))
    assert bases.hold(base(1, session=2)) == [], "nobody would take that answer"
    assert len(bases) == 2 and bases.take("a", 1, 1) is None


def test_a_frame_that_came_twice_is_held_once():
    bases = Bases()
    bases.hold(base(1))
    assert bases.hold(base(1)) == [] and len(bases) == 1


def test_half_of_what_is_left_is_waited_but_never_long():
    assert give_up_s(deadline_s=11.0, now_s=10.0) == pytest.approx(10.5)
    assert give_up_s(deadline_s=4000.0, now_s=10.0) == pytest.approx(10.0 + MAX_WAIT_S)


def test_the_second_pass_has_a_budget_of_its_own():
    first = base(1)
    job = RefinementJob("a", first.job.frame, 7.0, 7.1, first, Refinement(1, 1, 250_000, b""))
    assert job.deadline_s == pytest.approx(7.25)
