"""Which model runs, and what happens to one that does not do well: the rules by themselves."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.models.rollout import (
    MAX_REMEMBERED, Limits, Record, Remembered, Trial, confirmed, on_failures, on_start, on_stop,
    roll_back, swapped, with_configured,
)

FILE, A, B, C = (digit * 64 for digit in "fabc")
LIMITS = Limits(rollback_after=3, trial_frames=10)
AT = "2026-05-01T12:00:00+00:00"


def first() -> Record:
    return with_configured(None, FILE, AT)


def test_a_new_device_runs_its_file():
    assert first() == Record(FILE, since=AT)
    assert (first().running, first().fallback, first().keeps()) == (FILE, FILE, frozenset())


def test_a_swap_is_on_trial_and_counts_as_a_start():
    record = swapped(first(), A, AT)
    assert (record.current, record.previous, record.trial) == (A, None, Trial(starts=1))
    assert (record.running, record.fallback) == (A, FILE)


def test_two_are_kept_once_both_were_good():
    record = swapped(confirmed(swapped(first(), A, AT)), B, AT)
    assert (record.current, record.previous) == (B, A)
    record = swapped(confirmed(record), C, AT)
    assert (record.current, record.previous, record.keeps()) == (C, B, {C, B})


def test_one_that_was_never_confirmed_is_not_gone_back_to():
    on_trial = swapped(confirmed(swapped(first(), A, AT)), B, AT)
    record = swapped(on_trial, C, AT)
    assert (record.current, record.previous) == (C, A), "B is nothing to go back to"
    assert swapped(on_trial, A, AT).previous is None, "nor is A to itself"


def test_back_to_the_file_needs_no_trial():
    record = swapped(swapped(first(), A, AT), FILE, AT)
    assert (record.current, record.previous, record.trial) == (None, None, None)


def test_failed_frames_roll_back_at_the_limit_and_not_before():
    record = confirmed(swapped(first(), A, AT))
    record = swapped(record, B, AT)
    record, why = on_failures(record, 2, LIMITS, AT)
    assert why is None and record.trial == Trial(starts=1, failures=2)
    record, why = on_failures(record, 1, LIMITS, "later")
    assert why == "3 frames failed"
    assert (record.current, record.previous, record.trial) == (A, None, None)
    assert record.refusal(B) == "3 frames failed" and record.refusal(A) is None
    assert record.since == "later"


def test_failures_of_a_confirmed_model_are_not_its_trial():
    record = confirmed(swapped(first(), A, AT))
    assert on_failures(record, 99, LIMITS, AT) == (record, None)
    on_trial = swapped(first(), A, AT)
    assert on_failures(on_trial, 0, LIMITS, AT) == (on_trial, None)


def test_starts_are_counted_before_they_are_survived():
    record, history = swapped(first(), A, AT), []
    for _ in range(4):
        record, why = on_start(record, LIMITS, AT)
        history.append((record.running, record.trial and record.trial.starts, why))
    # The swap itself loaded it once: two more starts, and the one after them finds out.
    assert history == [(A, 2, None), (A, 3, None),
                       (FILE, None, "3 starts, and none came through the trial"),
                       (FILE, None, None)]
    assert record.refusal(A) == "3 starts, and none came through the trial"


def test_orderly_ends_take_their_starts_back():
    record = swapped(first(), A, AT)
    for _ in range(20):
        record = on_stop(record)
        assert record.trial == Trial(starts=0)
        record, why = on_start(record, LIMITS, AT)
        assert why is None and record.trial == Trial(starts=1)
    assert on_stop(on_stop(record)).trial == Trial(starts=0), "never below nothing"
    assert on_stop(first()) == first()


def test_failures_last_over_restarts():
    record, _ = on_failures(swapped(first(), A, AT), 2, LIMITS, AT)
    record, _ = on_start(on_stop(record), LIMITS, AT)
    _, why = on_failures(record, 1, LIMITS, AT)
    assert why == "3 frames failed"


def test_a_confirmed_model_may_start_as_often_as_it_likes():
    record = confirmed(swapped(first(), A, AT))
    for _ in range(50):
        assert on_start(record, LIMITS, AT) == (record, None)


def test_another_file_wins_and_what_was_bad_stays_remembered():
    record = roll_back(swapped(first(), A, AT), "bad", AT)
    record = swapped(record, B, AT)
    assert with_configured(record, FILE, "later") == record
    record = with_configured(record, C, "later")
    assert record == Record(C, refused=(Remembered(A, "bad"),), since="later")


def test_taken_again_it_is_no_longer_remembered():
    record = roll_back(swapped(first(), A, AT), "bad", AT)
    assert swapped(record, A, AT).refusal(A) is None
    assert swapped(record, B, AT).refusal(A) == "bad"


def test_what_is_remembered_is_bounded_and_the_oldest_goes():
    record = first()
    for i in range(MAX_REMEMBERED + 3):
        record = roll_back(swapped(record, f"{i:064x}", AT), f"reason {i}", AT)
    assert len(record.refused) == MAX_REMEMBERED
    assert record.refused[0].reason == "reason 3"
    again = roll_back(swapped(record, f"{9:064x}", AT), "again", AT)
    assert [r.reason for r in again.refused if r.sha256 == f"{9:064x}"] == ["again"]


def test_a_rollback_without_an_update_changes_nothing():
    assert roll_back(first(), "?", AT) == first()


def test_rolled_back_twice_it_is_the_file():
    record = swapped(confirmed(swapped(first(), A, AT)), B, AT)
    once = roll_back(record, "bad", AT)
    assert roll_back(once, "damaged", AT).running == FILE


def test_a_record_is_read_as_it_was_written():
    record = roll_back(swapped(confirmed(swapped(first(), A, AT)), B, AT), "bad", AT)
    assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record


@pytest.mark.parametrize("field", ["configured_sha256", "current", "previous"])
@pytest.mark.parametrize("value", ["../x", "A" * 64, "a" * 63, "a" * 64 + "/.."])
def test_a_record_names_digests_and_nothing_else(field, value):
    data = {"configured_sha256": FILE, field: value}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(data, Record)
