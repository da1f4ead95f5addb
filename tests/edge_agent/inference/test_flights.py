"""When flights must be finished here, so that each answer is on time."""

from __future__ import annotations

import random

import pytest

from edge_agent.inference.flights import Flights
from tests.edge_agent.making import flight

GUARD_S = 0.05


def of(*flights) -> Flights:
    made = Flights()
    for f in flights:
        made.add(f)
    return made


def test_a_fallback_starts_so_that_it_ends_before_the_deadline():
    flights = of(flight(1, 1.0, tail_s=0.2))
    assert flights.fallback_times(GUARD_S) == {1: pytest.approx(1.0 - 0.05 - 0.2)}
    assert flights.next_due_s(GUARD_S) == pytest.approx(0.75)


def test_flights_share_one_interpreter_and_are_planned_backwards():
    # The last ends at 1.05 and starts at 0.85; so the first must be through by 0.85, although
    # its own deadline would let it start at 0.75.
    times = of(flight(1, 1.0, tail_s=0.2), flight(2, 1.1, tail_s=0.2)).fallback_times(GUARD_S)
    assert times == {2: pytest.approx(0.85), 1: pytest.approx(0.65)}


def test_the_next_is_the_earliest_of_all():
    flights = of(flight(1, 3.0, tail_s=0.2), flight(2, 2.0, tail_s=0.2))
    assert flights.next_due_s(GUARD_S) == pytest.approx(1.75)


def test_the_plan_goes_by_deadlines_not_by_order():
    times = of(flight(1, 2.0, tail_s=0.2), flight(2, 1.0, tail_s=0.2)).fallback_times(GUARD_S)
    assert times == {1: pytest.approx(1.75), 2: pytest.approx(0.75)}


def test_every_fallback_is_on_time_when_started_by_plan():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(200):
        flights = of(*(flight(i, rng.uniform(1, 3), tail_s=rng.uniform(0.01, 0.3))
                       for i in range(rng.randint(1, 8))))
        times = flights.fallback_times(GUARD_S)
        now_s = min(times.values())
        for frame_id in sorted(times, key=times.get):
            one = flights.get(frame_id)
            now_s = max(now_s, times[frame_id]) + one.tail_s
            assert now_s <= one.frame.deadline_s - GUARD_S + 1e-9


def test_what_is_finished_already_is_not_planned():
    busy = flight(1, 1.0, tail_s=0.2)
    busy.finishing = True
    flights = of(busy, flight(2, 1.1, tail_s=0.2))
    assert flights.fallback_times(GUARD_S) == {2: pytest.approx(0.85)}
    assert flights.next_due(2.0, GUARD_S).frame.frame_id == 2


def test_none_is_due_before_its_time_and_the_reason_is_given_at_it():
    flights = of(flight(1, 1.0, tail_s=0.2))
    assert flights.next_due(0.74, GUARD_S) is None
    due = flights.next_due(0.76, GUARD_S)
    assert (due.frame.frame_id, due.due) == (1, "no answer in time")


def test_the_most_urgent_of_those_that_are_due_goes_first():
    flights = of(flight(1, 3.0), flight(2, 2.0), flight(3, 9.0))
    assert flights.make_due("link down") == 3
    assert flights.next_due(0.0, GUARD_S).frame.frame_id == 2


def test_one_that_may_still_wait_does_not_hide_one_that_is_due():
    early, late = flight(1, 2.0), flight(2, 3.0)
    late.due = "worker: shed"
    assert of(early, late).next_due(0.0, GUARD_S) is late


def test_only_the_flights_to_a_worker_that_is_gone_come_due():
    flights = of(flight(1, worker="a"), flight(2, worker="b"))
    assert flights.make_due("worker gone", "a") == 1
    assert [f.due for f in flights] == ["worker gone", None]
    assert flights.make_due("link down") == 1, "the first reason stays"
    assert [f.due for f in flights] == ["worker gone", "link down"]


def test_the_oldest_of_those_that_have_left_and_are_waited_for():
    flights = of(flight(1), flight(2, sent_s=5.0), flight(3, sent_s=4.0), flight(4, sent_s=3.0))
    flights.get(4).finishing = True
    assert flights.oldest_sent_s() == 4.0
    assert of(flight(1)).oldest_sent_s() is None


def test_a_flight_is_taken_out_once():
    flights = of(flight(1))
    assert len(flights) == 1 and flights.pop(1).frame.frame_id == 1
    assert flights.pop(1) is None and flights.get(1) is None and len(flights) == 0


def test_without_flights_nothing_is_due():
    assert Flights().next_due(1e9, GUARD_S) is None
    assert Flights().next_due_s(GUARD_S) == float("inf")


def test_a_flight_too_slow_to_finish_here_has_until_its_deadline():
    slow = flight(1, 10.0, tail_s=20.0)
    slow.hopeless = True
    times = of(slow, flight(2, 10.0, tail_s=1.0)).fallback_times(guard_s=0.0)
    assert times == {1: 10.0, 2: 9.0}, "and it is not in the way of others"
