"""The watchdog is fed while every thread moves, and only then. Time is given."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from split_core.service.watchdog import Watch, Watchdog, watch_calls, watchdog_s
from tests.support.rig import wait_until


class Fed:
    """A notifier that counts."""

    def __init__(self):
        self.times = 0

    def feed_watchdog(self) -> None:
        self.times += 1


class Thread:
    """A watched thread as a number that the test moves."""

    def __init__(self, name: str):
        self.turns, self.poked = 0, 0
        self.watch = Watch(name, self._poke, lambda: self.turns)

    def _poke(self) -> None:
        self.poked += 1


@pytest.fixture
def two():
    fed, head, network = Fed(), Thread("inference"), Thread("network")
    dog = Watchdog([head.watch, network.watch], fed, 30.0, now_s=0.0)
    return dog, fed, head, network


def test_it_is_fed_three_times_in_its_time_while_all_move(two):
    dog, fed, head, network = two
    assert dog.period_s == pytest.approx(10.0)
    for i in (1, 2, 3):
        head.turns += 1
        network.turns += 5
        assert dog.tick(10.0 * i)
    assert fed.times == 3


@pytest.mark.parametrize("which", [0, 1])
def test_one_that_stands_still_starves_it_and_is_named(two, which, caplog):
    dog, fed, *threads = two
    threads[0].turns += 1
    threads[1].turns += 1
    assert dog.tick(10.0)
    moving = threads[1 - which]
    with caplog.at_level(logging.WARNING):
        for now_s in (20.0, 30.0):
            moving.turns += 1
            assert not dog.tick(now_s)
    assert fed.times == 1
    name = ("inference", "network")[which]
    assert dog.standing_still == [name]
    assert [r.levelno for r in caplog.records] == [logging.WARNING, logging.ERROR]
    first, second = (r.getMessage() for r in caplog.records)
    assert f"event=standing-still thread='{name}' for_s=10" in first
    assert f"thread='{name}' for_s=20" in second and "30 s after it was fed last" in second
    assert not any(("inference", "network")[1 - which] in r.getMessage() for r in caplog.records)


def test_a_turn_that_takes_long_is_forgiven_when_it_ends(two, caplog):
    dog, fed, head, network = two
    for now_s, turns in ((10.0, 1), (20.0, 1), (30.0, 2)):
        head.turns, network.turns = turns, network.turns + 1
        dog.tick(now_s)
    assert fed.times == 2 and dog.standing_still == []
    assert "event=moving-again thread='inference'" in caplog.text


def test_movement_counts_from_the_last_feeding_not_the_last_look(two):
    dog, fed, head, network = two
    head.turns = 1                        # the network has not moved: nobody is fed
    assert not dog.tick(10.0)
    network.turns = 1                     # now it has, and the head has since the last feeding
    assert dog.tick(20.0)
    assert not dog.tick(30.0)             # since this one, neither


def test_the_idle_are_poked_every_time(two):
    dog, _, head, network = two
    for i in (1, 2, 3):
        dog.tick(10.0 * i)
        wait_until(lambda: head.poked == network.poked == i, 5, "a poke each")


def test_a_poke_that_hangs_keeps_neither_the_others_nor_the_words_back(caplog):
    """The hung thread holds the lock that its poke wants."""
    fed, network, locked = Fed(), Thread("network"), threading.Event()
    pokes = []

    def stuck() -> None:
        pokes.append(1)
        locked.wait(20)

    dog = Watchdog([Watch("inference", stuck, lambda: 7), network.watch], fed, 30.0, now_s=0.0)
    for i in (1, 2, 3):
        network.turns += 1
        assert not dog.tick(10.0 * i)
        wait_until(lambda: network.poked == i, 5, "the other's poke")
    assert fed.times == 0 and "event=standing-still thread='inference'" in caplog.text
    assert len(pokes) == 1, "one thread that waits for the lock is enough"
    locked.set()


def test_a_thread_that_runs_calls_is_watched_by_a_call():
    calls = []
    watch = watch_calls("network", calls.append)
    watch.poke()
    assert watch.turns() == 0             # not before it was run
    calls.pop()()
    assert watch.turns() == 1


def test_its_own_thread_feeds_in_time():
    fed, count = Fed(), iter(range(10**6))
    dog = Watchdog([Watch("t", lambda: None, lambda: next(count))], fed, 0.15)
    dog.start()
    wait_until(lambda: fed.times >= 3, 5, "three feedings")
    dog.stop()


@pytest.mark.parametrize("environment, expected", [
    ({}, None),
    ({"WATCHDOG_USEC": "30000000"}, 30.0),
    ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
    ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),      # meant for another process
    ({"WATCHDOG_USEC": "0"}, None),
    ({"WATCHDOG_USEC": "soon"}, None),
])
def test_its_time_is_systemds(environment, expected):
    assert watchdog_s(environment) == expected
