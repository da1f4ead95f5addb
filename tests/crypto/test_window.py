"""The replay window: every counter once, against a set that remembers all."""

from __future__ import annotations

import random

from split_core.crypto.window import WINDOW, ReplayWindow, Sessions


def test_each_counter_is_taken_once():
    window = ReplayWindow()
    assert [window.take(c) for c in (0, 1, 1, 0, 5, 3, 5, 3, 4, 2)] == [
        True, True, False, False, True, True, False, False, True, True]


def test_what_is_older_than_the_window_counts_as_taken():
    window = ReplayWindow()
    assert window.take(1000)
    assert not window.take(1000 - WINDOW)
    assert window.take(1000 - WINDOW + 1)
    assert not window.take(1000 - WINDOW + 1)


def test_a_jump_forgets_nothing_that_could_come_again():
    window = ReplayWindow()
    assert window.take(7) and window.take(7 + WINDOW - 1)
    assert not window.take(7)
    assert window.take(2**64 - 1) and not window.take(2**64 - 1)
    assert not window.take(7 + WINDOW - 1)


def test_looking_takes_nothing():
    window = ReplayWindow()
    assert window.is_fresh(3) and window.is_fresh(3)
    assert window.take(3) and not window.is_fresh(3)


def test_random_orders_against_a_set():
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(50):
        window, taken, highest, at = ReplayWindow(), set(), -1, 0
        for _ in range(400):
            at = max(0, at + rng.choice((1, 1, 1, 2, -1, -5, 40, -40, 90)))
            fresh = at not in taken and at > highest - WINDOW
            assert window.take(at) == fresh, (at, highest)
            if fresh:
                taken.add(at)
                highest = max(highest, at)


def test_sessions_are_bounded_and_the_longest_unheard_goes():
    sessions: Sessions[bytes, int] = Sessions(limit=3)
    for k in range(3):
        sessions.keep(bytes([k]), k)
    sessions.keep(b"\0", 0)                    # heard again
    sessions.keep(b"\3", 3)
    assert [sessions.get(bytes([k])) for k in range(4)] == [0, None, 2, 3]
    assert len(sessions) == 3
