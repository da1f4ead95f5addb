"""What the last frames were like, by a clock that the test moves; and observers in each other's
company."""

from __future__ import annotations

import logging

import pytest

from edge_agent.frames import Answer, Outcome
from edge_agent.observers.base import Observer, Observers
from edge_agent.observers.recent import Recent


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def recent(clock):
    return Recent(window_s=60.0, clock=clock)


def answer(total_ms: float, outcome=Outcome.REMOTE, *, late=False, nbytes=0, **stages) -> Answer:
    return Answer(1, outcome, "", "", 0.0, total_ms, late, 3, "q4", 1, nbytes, stages_ms=stages)


def test_before_the_first_frame_nothing_is_claimed(recent, clock):
    clock.now_s += 10
    summary = recent.summary()
    assert (summary.p50_ms, summary.p95_ms, summary.payload_bytes) == (None, None, None)
    assert summary.fps == 0 and summary.stages_ms == {} and summary.late == 0
    assert summary.outcomes == {o.value: 0 for o in Outcome}


def test_rates_and_percentiles_are_of_answered_frames(recent, clock):
    for ms in range(1, 101):
        clock.now_s += 0.1
        recent.on_answer(answer(float(ms), late=ms > 98, nbytes=10 if ms % 2 else 0, head=ms / 10))
    recent.on_answer(answer(9999.0, Outcome.DROPPED))
    recent.on_answer(answer(9999.0, Outcome.FAILED))
    summary = recent.summary()
    assert summary.fps == pytest.approx(10.0, rel=0.01)
    assert (summary.p50_ms, summary.p95_ms, summary.late) == (50.5, 95.0, 2)
    assert summary.outcomes["dropped"] == summary.outcomes["failed"] == 1
    assert summary.payload_bytes == 10 and summary.stages_ms["head"] == pytest.approx(5.05)


def test_what_is_older_than_the_window_is_forgotten(recent, clock):
    recent.on_answer(answer(500.0))
    clock.now_s += 50
    recent.on_answer(answer(5.0))
    assert recent.summary(window_s=10.0).p95_ms == 5.0
    assert recent.summary().p95_ms == 500.0
    clock.now_s += 20
    assert recent.summary().outcomes["remote"] == 1
    assert recent.summary().fps == pytest.approx(1 / 60)


def test_a_fast_source_takes_no_more_memory(recent, clock):
    for _ in range(10_000):
        clock.now_s += 0.001
        recent.on_answer(answer(1.0))
    summary = recent.summary()
    assert summary.outcomes["remote"] == 3000
    assert summary.fps == pytest.approx(1000, rel=0.01)


def test_an_observer_that_raises_harms_no_other(caplog):
    class Broken(Observer):
        def on_up(self):
            raise RuntimeError("mine")

    class Fine(Observer):
        ups = 0

        def on_up(self):
            self.ups += 1

    observers, fine = Observers(), Fine()
    observers.attach(Broken())
    observers.attach(fine)
    with caplog.at_level(logging.ERROR):
        observers.on_up()
        observers.on_up()
    assert fine.ups == 2
    assert caplog.text.count("event=observer-failed observer=Broken call=on_up") == 1, "not each"
