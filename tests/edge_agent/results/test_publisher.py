"""The spool and its publisher: nothing is published twice without need, little is lost."""

from __future__ import annotations

import json

import pytest

from edge_agent.results.publisher import MAX_UNDER_WAY, ResultPublisher, Spool, Waiting
from split_core.errors import LinkDown, MessageError


def waiting(nbytes: int = 10) -> Waiting:
    return Waiting("t", bytes(nbytes), 0.0)


def filled(count: int, nbytes: int = 10, max_results: int = 1000, max_bytes: int = 10**6) -> Spool:
    spool = Spool(max_results, max_bytes)
    for key in range(count):
        spool.add(key, waiting(nbytes))
    return spool


def taken(spool: Spool) -> list[int]:
    keys = []
    while (one := spool.take()) is not None:
        keys.append(one[0])
    return keys


def test_the_oldest_go_when_there_are_too_many():
    spool = filled(5, max_results=3)
    assert (len(spool), spool.lost, taken(spool)) == (3, 2, [2, 3, 4])


def test_the_oldest_go_when_they_are_too_large_together():
    spool = filled(5, nbytes=40, max_bytes=100)
    assert (len(spool), spool.lost, taken(spool)) == (2, 3, [3, 4])


def test_bounds_are_what_still_fits():
    assert len(filled(5, nbytes=20, max_results=5, max_bytes=100)) == 5


def test_one_that_is_too_large_alone_stays_until_the_next():
    spool = filled(1, nbytes=500, max_bytes=100)
    assert (len(spool), spool.lost) == (1, 0)
    spool.add(1, waiting())
    assert (len(spool), spool.lost, taken(spool)) == (1, 1, [1])


def test_room_is_given_back():
    spool = filled(2, nbytes=40, max_bytes=100)
    spool.settle(0, True)
    spool.add(2, waiting(40))
    assert (len(spool), spool.lost) == (2, 0)


def test_each_is_taken_once_a_connection_and_few_at_a_time():
    spool = filled(MAX_UNDER_WAY + 2)
    assert taken(spool) == list(range(MAX_UNDER_WAY))
    spool.settle(0, True)
    assert taken(spool) == [MAX_UNDER_WAY]
    spool.settle(1, False)            # not acknowledged: kept, but not tried again now
    assert taken(spool) == [MAX_UNDER_WAY + 1]
    assert len(spool) == MAX_UNDER_WAY + 1
    spool.renew()
    assert taken(spool) == list(range(1, MAX_UNDER_WAY + 1))


def test_what_could_not_be_handed_over_is_the_next_again():
    spool = filled(3)
    assert spool.take()[0] == 0
    spool.put_back(0)
    spool.put_back(99)                # gone meanwhile
    assert taken(spool) == [0, 1, 2]


def test_one_that_is_evicted_under_way_frees_its_place():
    spool = filled(MAX_UNDER_WAY, max_results=MAX_UNDER_WAY)
    assert len(taken(spool)) == MAX_UNDER_WAY
    spool.add(MAX_UNDER_WAY, waiting())
    assert taken(spool) == [MAX_UNDER_WAY]
    spool.settle(0, True)             # its acknowledgement comes all the same
    assert len(spool) == MAX_UNDER_WAY


def test_what_outlives_a_connection_is_old():
    spool = filled(1)
    assert not spool.take()[1].aged
    spool.renew()
    assert spool.take()[1].aged


class FakeSession:
    """Takes publications while up; acknowledges when told to."""

    def __init__(self):
        self.is_up, self.room, self.sent, self.open = True, 10**6, [], []

    def call_soon(self, fn) -> None:
        fn()

    def publish(self, publication, on_done) -> None:
        if not self.is_up or self.room < len(publication.payload):
            raise LinkDown("no room")
        if len(publication.payload) > 1000:
            raise MessageError("larger than the broker takes")
        assert publication.qos == 1
        self.sent.append(json.loads(publication.payload))
        self.open.append(on_done)

    def acknowledge(self, ok: bool = True) -> None:
        waiting, self.open = self.open, []
        for on_done in waiting:
            on_done(ok)

    def lose(self) -> None:
        self.is_up = False
        self.acknowledge(False)


@pytest.fixture
def session():
    return FakeSession()


@pytest.fixture
def publisher(session):
    times = iter(range(10**6))        # a second passes between any two looks at the clock
    return ResultPublisher(session, max_results=1000, max_bytes=10**6,
                           clock=lambda: float(next(times)))


def test_a_result_is_sent_at_once_and_forgotten_when_acknowledged(session, publisher):
    publisher.publish("t", {"frame_id": 1})
    assert session.sent == [{"frame_id": 1}] and publisher.waiting == 1
    session.acknowledge()
    assert publisher.waiting == 0 and publisher.lost == 0


def test_results_of_an_outage_follow_with_their_age(session, publisher):
    session.is_up = False
    for i in range(3):
        publisher.publish("t", {"frame_id": i})
    assert not session.sent and publisher.waiting == 3
    session.is_up = True
    publisher.on_up()
    # Made at 0, 1 and 2 s, sent at 3, 4 and 5 s.
    assert session.sent == [{"frame_id": i, "age_ms": 3000.0} for i in range(3)]


def test_what_was_not_acknowledged_is_sent_again(session, publisher):
    publisher.publish("t", {"frame_id": 1})
    session.lose()
    publisher.publish("t", {"frame_id": 2})
    session.is_up = True
    publisher.on_up()
    assert [r["frame_id"] for r in session.sent] == [1, 1, 2]
    session.acknowledge()
    publisher.on_up()
    assert len(session.sent) == 3, "and never again"


def test_a_long_outage_leaves_no_result_behind(session, publisher):
    session.is_up = False
    for i in range(500):
        publisher.publish("t", {"frame_id": i})
    session.is_up = True
    publisher.on_up()
    while session.open:
        assert len(session.open) <= MAX_UNDER_WAY
        session.acknowledge()
    assert [r["frame_id"] for r in session.sent] == list(range(500))
    assert publisher.waiting == 0


def test_one_that_the_broker_refuses_does_not_go_round_in_circles(session, publisher):
    publisher.publish("t", {"frame_id": 1})
    session.acknowledge(False)        # refused, and the connection lives
    publisher.publish("t", {"frame_id": 2})
    assert [r["frame_id"] for r in session.sent] == [1, 2]


def test_a_full_session_is_tried_again_with_the_next_result(session, publisher):
    session.room = 0
    publisher.publish("t", {"frame_id": 1})
    session.room = 10**6
    publisher.publish("t", {"frame_id": 2})
    assert [r["frame_id"] for r in session.sent] == [1, 2]


def test_one_larger_than_the_broker_takes_is_given_up_and_counted(session, publisher):
    publisher.publish("t", {"frame_id": 1, "text": "x" * 2000})
    publisher.publish("t", {"frame_id": 2})
    assert [r["frame_id"] for r in session.sent] == [2]
    assert publisher.lost == 1 and publisher.waiting == 1


# -- the round trip of what the broker has taken


@pytest.fixture
def timed(session):
    """A publisher on a clock that the test moves, and the round trips it was told."""
    now, told = [100.0], []
    publisher = ResultPublisher(session, max_results=10, max_bytes=10**6,
                                on_acknowledged=told.append, clock=lambda: now[0])
    return publisher, now, told


def test_each_acknowledgement_tells_how_long_it_took(session, timed):
    publisher, now, told = timed
    publisher.publish("t", {"frame_id": 1})
    now[0] = 100.5
    publisher.publish("t", {"frame_id": 2})
    assert told == []
    now[0] = 100.75
    session.acknowledge()
    assert told == [0.75, 0.25]


def test_what_was_refused_or_lost_tells_nothing(session, timed):
    publisher, now, told = timed
    publisher.publish("t", {"frame_id": 1})
    now[0] = 101.0
    session.acknowledge(False)
    publisher.publish("t", {"frame_id": 2})
    session.lose()
    publisher.publish("t", {"frame_id": 3, "text": "x" * 2000})
    assert told == []


def test_one_that_waited_for_a_connection_tells_of_the_way_alone(session, timed):
    publisher, now, told = timed
    session.is_up = False
    publisher.publish("t", {"frame_id": 1})
    now[0] = 160.0
    session.is_up = True
    publisher.on_up()
    now[0] = 160.125
    session.acknowledge()
    assert told == [0.125]


def test_being_told_is_not_under_the_lock(session):
    publisher = ResultPublisher(session, max_results=10, max_bytes=10**6,
                                on_acknowledged=lambda s: publisher.publish("t", {"frame_id": 2}))
    publisher.publish("t", {"frame_id": 1})
    session.open.pop()(True)          # would wait for itself for ever
    assert [r["frame_id"] for r in session.sent] == [1, 2]
