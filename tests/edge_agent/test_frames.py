"""The ledger: each frame ends once."""

from __future__ import annotations

import threading

from edge_agent.frames import Ledger, Outcome
from split_core.wire.messages import U32_MAX


def test_ids_rise_from_one():
    ledger = Ledger()
    assert [ledger.open() for _ in range(3)] == [1, 2, 3]
    assert ledger.open_frames == {1, 2, 3}


def test_a_frame_ends_once_and_is_counted_once():
    ledger = Ledger()
    frame_id = ledger.open()
    assert ledger.close(frame_id, Outcome.REMOTE)
    assert not ledger.close(frame_id, Outcome.REMOTE)
    assert not ledger.close(frame_id, Outcome.FALLBACK)
    assert not ledger.close(99, Outcome.DROPPED), "never handed in"
    assert ledger.counts == {o: int(o is Outcome.REMOTE) for o in Outcome}
    assert not ledger.open_frames


def test_every_outcome_is_counted_from_the_start():
    assert Ledger().counts == {"remote": 0, "local": 0, "fallback": 0, "dropped": 0, "failed": 0}


def test_of_threads_that_race_to_end_a_frame_one_wins():
    ledger = Ledger()
    ids = [ledger.open() for _ in range(2000)]
    start, won = threading.Barrier(2), []

    def end_all(outcome: Outcome) -> None:
        start.wait(10)
        won.extend(i for i in ids if ledger.close(i, outcome))

    threads = [threading.Thread(target=end_all, args=(o,))
               for o in (Outcome.REMOTE, Outcome.FALLBACK)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(10)
    assert sorted(won) == ids
    assert sum(ledger.counts.values()) == len(ids)


def test_ids_fit_into_a_message_for_ever():
    """At 100 frames a second they come round after 497 days."""
    ledger = Ledger()
    ledger._next_id = U32_MAX
    assert [ledger.open() for _ in range(3)] == [U32_MAX, 1, 2]
