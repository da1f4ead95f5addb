"""The history checker finds what it is for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.support.history import End, ends_of_journal, problems

DEADLINE_MS = 500.0


def end(frame_id: int, outcome: str = "remote", **more) -> End:
    given = {"reason": "" if outcome in ("remote", "local") else "why", "late": False,
             "total_ms": 40.0, "worker": "w" if outcome == "remote" else None} | more
    return End(frame_id, outcome, **given)


GOOD = [end(1), end(2, "fallback"), end(3, "dropped"), end(4, "local"), end(5, "failed"),
        end(6, "fallback", late=True, total_ms=510.0)]
COUNTS = {"remote": 1, "fallback": 2, "dropped": 1, "local": 1, "failed": 1}


def judge(ends, offered=(1, 2, 3, 4, 5, 6), counts=None):
    return problems(offered, ends, deadline_ms=DEADLINE_MS, counts=counts)


def test_a_clean_history_is_clean_in_any_order():
    assert judge(GOOD, counts=COUNTS) == []
    assert judge(reversed(GOOD), counts=COUNTS) == []


@pytest.mark.parametrize("ends, sentence", [
    (GOOD + [end(2, "remote")], "frame 2 ended 2 times"),
    (GOOD[1:], "frame 1 has no end"),
    (GOOD + [end(7)], "frame 7 ended but was never handed in"),
    ([replace(GOOD[0], total_ms=500.5)] + GOOD[1:], "late by 0.5 ms and not marked"),
    ([replace(GOOD[0], arrived_ms=700.0)] + GOOD[1:], "handed on at 700.0 ms"),
    ([replace(GOOD[0], late=True)] + GOOD[1:], "marked late at 40.0 ms of 500 ms"),
    ([replace(GOOD[0], worker=None)] + GOOD[1:], "worker is None"),
    ([GOOD[0], replace(GOOD[1], worker="w")] + GOOD[2:], "worker is 'w'"),
    ([GOOD[0], replace(GOOD[1], reason="")] + GOOD[2:], "no reason given"),
    ([replace(GOOD[0], outcome="lost")] + GOOD[1:], "no such outcome"),
])
def test_what_is_planted_is_found(ends, sentence):
    found = judge(ends)
    assert any(sentence in problem for problem in found), found


def test_ids_rise():
    assert judge(GOOD, offered=(1, 3, 2, 4, 5, 6)) == ["frame id 2 was given out after 3"]
    assert "frame id 2 was given out after 2" in judge(GOOD, offered=(1, 2, 2, 3, 4, 5, 6))


@pytest.mark.parametrize("counts, sentence", [
    (COUNTS | {"remote": 2}, "1 frames ended remote, counted were 2"),
    (COUNTS | {"other": 1}, "no frame ended other, counted were 1"),
    (COUNTS | {"dropped": 0}, "counts add up to 5, handed in were 6"),
])
def test_counts_are_held_against_the_ends(counts, sentence):
    assert sentence in judge(GOOD, counts=counts)


def test_a_journal_says_the_same(tmp_path):
    path = tmp_path / "journal.jsonl"
    fields = ("frame_id", "outcome", "reason", "late", "total_ms", "worker")
    lines = [json.dumps({f: getattr(e, f) for f in fields} | {"cut": 1}) for e in GOOD]
    path.write_text("\n".join(lines) + "\n")
    assert ends_of_journal(path) == GOOD
    assert judge(ends_of_journal(path), counts=COUNTS) == []
