"""The numbers of a field test and what they say; all worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from split_lab.field.records import FieldRun, FrameRow
from split_lab.field.summary import (
    as_json, byte_size, chunks, clock, comparable, deadline_ms, figures, joules, milliseconds,
    oracle_ratios, percent, remarks, stage_groups, subject_of, summarize, verdict,
)


def row(arm="adaptive", index=0, total_ms=100.0, outcome="remote", late=False, cut=3, nbytes=1000,
        energy_j=0.5, **more) -> FrameRow:
    return FrameRow(arm, index, 0.25 * index, outcome, "", late, total_ms, cut, "q8", "w", nbytes,
                    energy_j, **more)


def arm(name: str, *latencies_ms: float) -> list[FrameRow]:
    return [row(name, i, ms) for i, ms in enumerate(latencies_ms)]


def run_of(*frames: FrameRow, **settings) -> FieldRun:
    return FieldRun(settings, tuple(frames))


# -- figures

MIXED = FieldRun({"deadline_ms": 250.0}, (
    row(index=0, total_ms=100.0, nbytes=1000, energy_j=0.5),
    row(index=1, total_ms=200.0, nbytes=2000, energy_j=0.1),
    row(index=2, total_ms=300.0, nbytes=0, energy_j=0.2, late=True, outcome="local", cut=9),
    row(index=3, total_ms=900.0, nbytes=1000, energy_j=0.0, late=True, outcome="dropped"),
), switches={"adaptive": 2})


def test_unanswered_frames_miss_the_deadline_and_have_no_latency():
    found = summarize(MIXED)["arms"]["adaptive"]
    assert found == {
        "frames": 4, "mean_ms": pytest.approx(200.0), "p50_ms": pytest.approx(200.0),
        "p95_ms": pytest.approx(290.0),          # 200 + 0.9 of the way to 300
        "deadline_met_ratio": 0.5, "bytes_per_frame": pytest.approx(1000.0),
        "energy_j_per_frame": pytest.approx(0.2), "switches": 2,
        "outcomes": {"remote": 2, "local": 1, "fallback": 0, "dropped": 1, "failed": 0}}


def test_a_failed_frame_that_was_not_called_late_still_misses_its_deadline():
    run = run_of(row(index=0), row(index=1, outcome="failed", late=False))
    assert summarize(run)["arms"]["adaptive"]["deadline_met_ratio"] == 0.5


def test_an_arm_without_answers_has_null_latencies():
    run = run_of(row(outcome="failed", late=True), row(index=1, total_ms=math.nan))
    found = summarize(run)["arms"]["adaptive"]
    assert [found[k] for k in ("mean_ms", "p50_ms", "p95_ms")] == [None] * 3
    assert found["deadline_met_ratio"] == 0.0 and found["frames"] == 2


def test_nothing_in_the_summary_is_infinite():
    run = run_of(row(energy_j=math.inf), row(index=1, energy_j=0.5), limit=math.inf,
                 nested={"a": [math.nan, 1.5]}, path=np.float32(2.0))
    text = json.dumps(summarize(run), allow_nan=False)
    assert json.loads(text)["settings"] == {"limit": None, "nested": {"a": [None, 1.5]},
                                            "path": 2.0}
    assert json.loads(text)["arms"]["adaptive"]["energy_j_per_frame"] == 0.5


def test_no_frames_no_arms():
    assert summarize(FieldRun({}, ())) == {"arms": {}, "settings": {}}
    assert verdict(FieldRun({}, ())) == "No frames were recorded."
    assert remarks(FieldRun({}, ())) == [] and subject_of(FieldRun({}, ())) is None


def test_an_outcome_that_is_new_is_counted_too():
    assert figures(run_of(row(outcome="shed")))["adaptive"].outcomes["shed"] == 1


def test_the_99th_percentile():
    run = run_of(*arm("adaptive", *range(1, 102)))       # the 99th of 100 steps from 1 to 101
    assert figures(run)["adaptive"].p99_ms == pytest.approx(100.0)


def test_stages_are_grouped_and_the_rest_is_other():
    spent = stage_groups(row(total_ms=100.0, stages_ms={
        "wait": 5.0, "head": 20.0, "encode": 3.0, "link": 30.0, "queue": 1.0, "decode": 2.0,
        "tail": 10.0, "reply": 4.0}))
    assert spent == {"device": 28.0, "link": 30.0, "worker": 17.0, "fallback": 0.0, "other": 25.0}
    assert stage_groups(row(total_ms=5.0, stages_ms={"head": 9.0}))["other"] == 0.0


def test_mean_stages_are_of_answered_frames():
    run = run_of(row(total_ms=10.0, stages_ms={"link": 10.0}),
                 row(index=1, total_ms=20.0, stages_ms={"link": 20.0}),
                 row(index=2, outcome="dropped", stages_ms={"link": 900.0}))
    assert figures(run)["adaptive"].stages_ms["link"] == pytest.approx(15.0)


def test_shares_of_cuts_leave_out_what_was_not_cut():
    assert figures(MIXED)["adaptive"].cuts == {3: pytest.approx(2 / 3)}
    assert figures(MIXED)["adaptive"].outcome_shares["dropped"] == 0.25


def test_multiples_of_the_oracle():
    run = run_of(*arm("adaptive", 120.0, 130.0), *arm("oracle", 100.0, 100.0),
                 row("dead", outcome="failed"))
    assert oracle_ratios(figures(run)) == {"adaptive": pytest.approx(1.25), "oracle": 1.0}
    assert oracle_ratios(figures(run_of(*arm("adaptive", 1.0)))) == {}


@pytest.mark.parametrize(("settings", "wanted"), [
    ({"deadline_ms": 400}, 400.0), ({"deadline_s": 0.25}, 250.0), ({}, None),
    ({"deadline_ms": math.inf}, None), ({"deadline_ms": "soon"}, None), ({"deadline_ms": 0}, None)])
def test_the_deadline_comes_from_the_settings(settings, wanted):
    assert deadline_ms(FieldRun(settings, ())) == wanted


@pytest.mark.parametrize(("count", "most", "sizes"), [
    (0, 3, []), (3, 3, [1, 1, 1]), (4, 3, [2, 2]), (7, 3, [3, 3, 1])])
def test_neighbours_are_put_together(count, most, sizes):
    assert [len(c) for c in chunks(list(range(count)), most)] == sizes
    assert [i for c in chunks(list(range(count)), most) for i in c] == list(range(count))


def test_json_knows_what_it_is_given():
    assert as_json({1: {"b", "a"}, "t": (True, None), "o": object}) == {
        "1": ["a", "b"], "t": [True, None], "o": "<class 'object'>"}


# -- words

def test_the_winner_is_measured_against_the_bound_and_the_best_rival():
    run = run_of(*arm("adaptive", 212.0), *arm("static", 402.8), *arm("jpeg", 800.0),
                 *arm("oracle", 200.0))
    assert verdict(run) == ("Adaptive answered in 212 ms in the mean, 6 % above the clairvoyant"
                            " oracle and 1.9 times as fast as the best other arm, static, with"
                            " 403 ms.")


def test_when_another_arm_wins_it_is_named_first():
    run = run_of(*arm("adaptive", 230.0), *arm("jpeg", 200.0), *arm("oracle", 184.0))
    assert verdict(run) == ("Jpeg was fastest, with 200 ms in the mean; adaptive took 230 ms, 15 %"
                            " more, and was 25 % above the clairvoyant oracle.")


@pytest.mark.parametrize(("rival_ms", "said"), [
    (110.0, "9 % below the best other arm"),             # 1 - 100 / 110
    (100.5, "level with the best other arm"), (99.5, "level with the best other arm"),
    (98.0, "Static was fastest")])
def test_close_ones_are_said_to_be_close(rival_ms, said):
    assert said in verdict(run_of(*arm("adaptive", 100.0), *arm("static", rival_ms)))


def test_an_arm_that_answers_little_is_not_fast():
    silent = [row("raw", i, 10.0) if i == 0 else row("raw", i, 0.0, "dropped", True)
              for i in range(4)]
    run = run_of(*arm("adaptive", *[100.0] * 4), *silent, *arm("static", *[150.0] * 4),
                 deadline_ms=120.0)
    assert "the best other arm, static" in verdict(run)
    assert remarks(run) == [
        "Adaptive met the deadline of 120 ms with 100 % of its frames; of the others static was"
        " best, with 100 %.",
        "Not compared in latency, for they left frames without an answer: raw (answered 25 %)."]


def test_a_silent_subject_does_not_win():
    mine = [row(index=0), *(row(index=i, outcome="dropped", late=True) for i in range(1, 4))]
    said = verdict(run_of(*mine, *arm("static", *[402.0] * 4)))
    assert said == ("Adaptive answered only 25 % of its frames, those in 100 ms in the mean, too"
                    " few to be compared; static was fastest, with 402 ms in the mean of the 100 %"
                    " it answered.")
    assert verdict(run_of(row(outcome="failed"), *arm("static", 7.0))).startswith(
        "Adaptive answered none of its 1 frames; static was fastest, with 7.0 ms")


def test_the_oracle_is_no_rival():
    run = run_of(*arm("adaptive", 100.0), *arm("oracle", 50.0))
    assert [f.arm for f in comparable(figures(run))] == ["adaptive"]
    assert verdict(run) == ("Adaptive answered in 100 ms in the mean, 100 % above the clairvoyant"
                            " oracle.")


def test_without_an_adaptive_arm_the_first_is_the_subject():
    assert verdict(run_of(*arm("local", 100.0))) == "Local answered in 100 ms in the mean."


@pytest.mark.parametrize(("value", "write", "wanted"), [
    (9.94, milliseconds, "9.9 ms"), (1234.4, milliseconds, "1234 ms"),
    (0.0, percent, "0 %"), (0.0001, percent, "0.1 %"), (0.5, percent, "50 %"),
    (0.9999, percent, "99.9 %"), (1.0, percent, "100 %"),
    (0.0, byte_size, "0 B"), (999.0, byte_size, "999 B"), (1650.0, byte_size, "1.65 kB"),
    (999_900.0, byte_size, "1000 kB"), (2.5e6, byte_size, "2.5 MB"),
    (0.0, joules, "0 mJ"), (0.1432, joules, "143 mJ"), (2.0, joules, "2 J"),
    (0.04, clock, "0:00.0"), (59.96, clock, "1:00.0"), (65.25, clock, "1:05.2"),
    (7384.0, clock, "2:03:04")])
def test_numbers_as_people_read_them(value, write, wanted):
    assert write(value) == wanted
