"""The agent's own code in virtual time, on links and boards of round numbers.

The model takes 20, 60 and 120 ms here and a tenth of that there. 307 kB go in, 30 kB as a picture;
at the calibrated cut 20 kB cross, at the next 100 kB or 12 in four bits.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.belief.beliefs import MESSAGE_BYTES
from edge_agent.frames import Plan
from edge_agent.planner.candidates import options_of
from edge_agent.policies.config import CostConfig, PolicyConfig, rules_of
from split_core.cost.profile import CodingTime, Profile, Timing
from split_core.model.bundle import Bundle
from split_core.model.manifest import PictureRate, RatePoint
from split_core.wire import messages as m
from split_core.wire.messages import Codec
from split_core.wire.rungs import RAW, Rung
from split_lab.field.device import Setting, VirtualDevice
from split_lab.field.link_spec import LinkSpec
from split_lab.field.oracle import run_oracle
from split_lab.field.records import FrameRow
from split_lab.field.uplink import Constant
from split_lab.field.virtual import (
    Board, PayloadSizes, VirtualCondition, VirtualTime, VirtualWorker,
)
from split_lab.split import split_model
from tests.edge_agent.planner.making import paper_bundle
from tests.support import tiny_models

RATE = (RatePoint(0, 0.005, 40e3), RatePoint(32, 0.02, 20e3), RatePoint(64, 0.08, 10e3))
PICTURES = tuple(PictureRate("jpeg", *p) for p in ((50, 0.08, 15e3), (70, 0.02, 30e3),
                                                   (90, 0.005, 60e3)))
BOARD = Board((0.02, 0.06, 0.12), {(0, "jpeg70"): 0.003, (1, "kl0.02"): 0.004},
              (0.02, 0.018, 0.012, 0.0))
OVERHEAD_MS = 1e3 * BOARD.overhead_s
RTT_S = 0.04
HERE, MIDDLE = Plan(1, 3, RAW), Plan(1, 1, Rung.parse("kl0.02"))
POLICY = PolicyConfig(kl=0.02, max_kl=0.08)
RULES = rules_of(POLICY, CostConfig())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    """Made up, but for a file in which there are no tables."""
    folder = tmp_path_factory.mktemp("virtual")
    (folder / "m.tflite").write_bytes(tiny_models.skip_model())
    (folder / "m.split.tflite").write_bytes(split_model(folder / "m.tflite", cuts="all"))
    return replace(paper_bundle(rate=RATE, pictures=PICTURES, scale=100),
                   path=folder / "m.split.tflite")


@pytest.fixture
def setting(bundle):
    def make(rate: str | float, *, frames: int = 40, spread: float = 0.0, seed: int = 3,
             **changes) -> Setting:
        link = (LinkSpec(Constant(rate), RTT_S) if isinstance(rate, float)
                else LinkSpec.parse(rate, rtt_s=RTT_S))
        options = options_of(bundle, POLICY.kl, POLICY.max_kl)
        mean_bytes = {(0, "raw"): 307_200, (0, "jpeg70"): 30e3, (2, "q4"): 12e3, (2, "raw"): 1e5}
        return replace(Setting(bundle, options, BOARD, link,
                               PayloadSizes(bundle, mean_bytes, seed, spread),
                               deadline_s=0.25, period_s=0.25, frames=frames), **changes)

    return make


def run(setting: Setting, plan: Plan) -> list[FrameRow]:
    return VirtualDevice("fixed", setting, plan).run()


def adaptive(setting: Setting) -> list[FrameRow]:
    return VirtualDevice("adaptive", setting, HERE, RULES).run()


def mean_ms(rows: list[FrameRow], deadline_s: float = 0.25) -> float:
    """A frame that nobody answered counts as twice the deadline."""
    return sum(2e3 * deadline_s if r.outcome in ("dropped", "failed") else r.total_ms
               for r in rows) / len(rows)


# -- a fixed plan on a constant link: nothing is left to chance


@pytest.mark.parametrize("plan, total_ms", [
    # Head, coding, (payload + message) at 1 kB/ms, round trip, worker.
    (MIDDLE, 20 + 4 + (20_000 + MESSAGE_BYTES) / 1000 + 40 + 18 + OVERHEAD_MS),
    (Plan(1, 0, Rung.parse("jpeg70")), 3 + (30_000 + MESSAGE_BYTES) / 1000 + 40 + 20
     + OVERHEAD_MS),
    (Plan(1, 2, Rung.parse("q4")), 80 + (12_000 + MESSAGE_BYTES) / 1000 + 40 + 12 + OVERHEAD_MS),
    (Plan(1, 2, RAW), 80 + (100_000 + MESSAGE_BYTES) / 1000 + 40 + 12 + OVERHEAD_MS),
    (HERE, 200),
])
def test_a_frame_takes_what_its_parts_take(setting, plan, total_ms):
    rows = run(setting(8e6), plan)
    assert {r.outcome for r in rows} == {"local" if plan is HERE else "remote"}
    assert [r.total_ms for r in rows] == pytest.approx([total_ms] * len(rows), abs=1.0)
    assert not any(r.late for r in rows)


def test_a_device_that_is_slower_is_so_in_all_it_computes(setting):
    profile = Profile(
        "0" * 64, "desk", "litert", 1, tuple(Timing(s, 0.0) for s in BOARD.segment_s),
        tuple(CodingTime(*k, s, 0.0, 1) for k, s in BOARD.encode_s.items()), 0.2, "")
    now = setting(8e6)
    rows = run(replace(now, board=Board.of(profile.scaled_to(0.4), now.options, BOARD.worker_s)),
               MIDDLE)
    total_ms = 2 * (20 + 4) + (20_000 + MESSAGE_BYTES) / 1000 + 40 + 18 + OVERHEAD_MS
    assert [r.total_ms for r in rows] == pytest.approx([total_ms] * len(rows), abs=1.0)


def test_a_race_on_a_slow_link_is_won_by_the_device(setting):
    rows = run(setting(0.4e6), replace(MIDDLE, race=True))       # 400 ms for the bytes
    assert {(r.outcome, r.reason) for r in rows if r.outcome != "fallback"} <= {
        ("local", "faster here")}
    assert rows[0].total_ms == pytest.approx(20 + 4 + 180, abs=1.0)


def test_and_on_a_fast_one_by_the_worker(setting):
    rows = run(setting(8e6), replace(MIDDLE, race=True))
    # The worker's answer is there in the middle of a segment and counts at once.
    assert {r.outcome for r in rows} == {"remote"}
    assert mean_ms(rows) == pytest.approx(102.97, abs=1.0)


def test_a_fallback_is_on_time_and_as_late_as_that_allows(setting):
    row = run(setting(0.4e6, frames=1, deadline_s=0.4), MIDDLE)[0]
    assert (row.outcome, row.reason, row.late) == ("fallback", "no answer in time", False)
    # Kept in hand are the longest segment, the coding, and 5 ms.
    assert row.total_ms == pytest.approx(400 - 120 - 4 - 5, abs=1.0)


def test_one_that_cannot_be_on_time_leaves_the_worker_until_the_deadline(setting):
    row = run(setting(0.4e6, frames=1, deadline_s=0.15), MIDDLE)[0]
    assert (row.outcome, row.late) == ("fallback", True)
    assert row.total_ms == pytest.approx(150 + 180, abs=1.0)
    answered = run(setting(1.6e6, frames=1, deadline_s=0.15), MIDDLE)[0]
    assert (answered.outcome, answered.late) == ("remote", True)
    assert answered.total_ms == pytest.approx(
        20 + 4 + (20_000 + MESSAGE_BYTES) / 200 + 40 + 18 + OVERHEAD_MS, abs=1.0)


def test_a_frame_that_waits_behind_another_is_replaced_by_a_newer(setting):
    rows = run(setting(8e6, period_s=0.05), HERE)                # four times what the device can
    dropped = [r for r in rows if r.outcome == "dropped"]
    assert {r.reason for r in dropped} == {"newer frame came"}
    assert len(dropped) == pytest.approx(30, abs=2)
    assert all(r.late for r in dropped)


@pytest.mark.parametrize("plan", [HERE, MIDDLE, None])
@pytest.mark.parametrize("rate", [
    8e6, 0.3e6, "step:2Mbit@2,0@3", "synthetic:5,0.5Mbit"])
@pytest.mark.parametrize("period_s", [0.25, 0.06])
def test_every_frame_ends_exactly_once(setting, plan, rate, period_s):
    now = setting(rate, frames=80, period_s=period_s, spread=0.12)
    rows = adaptive(now) if plan is None else run(now, plan)
    assert sorted(r.index for r in rows) == list(range(80))
    assert all(r.total_ms >= 0 and r.outcome != "failed" for r in rows)
    for row in rows:
        assert row.offered_s == pytest.approx((row.index + 0.5) * period_s)
        assert row.late or row.total_ms <= 250 + 1e-6


# -- an agent that plans for itself


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_step_down_makes_two_frames_late_at_most_and_a_step_up_is_used_in_ten_seconds(
        setting, seed):
    rows = adaptive(setting("step:10Mbit@20,0.5Mbit@20", frames=240, spread=0.12, seed=seed))
    assert sum(r.late for r in rows) <= 2
    before, slow, after = ([r for r in rows if low <= r.offered_s < high]
                           for low, high in ((10, 20), (25, 40), (50, 60)))
    # On 10 Mbit/s 30 kB of picture are answered in 88 ms, on 0.5 in 550; the device takes 200.
    assert mean_ms(before) < 110 and mean_ms(after) < 110
    assert sum(r.outcome != "remote" for r in after) <= 1, "all but a probe"
    assert mean_ms(slow) < 1.1 * 200, "about as fast as without a link"


def test_a_link_that_never_carries_anything_is_all_local(setting):
    rows = adaptive(setting(1e3, frames=60))
    assert all(r.cut == 3 or r.outcome in ("local", "fallback") for r in rows)
    assert sum(r.late for r in rows) == 0
    assert mean_ms(rows[20:]) < 205


@pytest.mark.parametrize("rate", [20e6, 2e6, 0.5e6])
def test_it_is_about_as_fast_as_the_best_fixed_choice(setting, rate):
    now = setting(rate, frames=120, spread=0.12)
    best = min(mean_ms(run(now, Plan(1, o.cut, Rung.parse(o.rung)))[40:]) for o in now.options)
    assert mean_ms(adaptive(now)[40:]) < 1.1 * best


def test_with_the_same_seed_the_same_rows(setting):
    one, again, other = (adaptive(setting("synthetic:7,4Mbit", frames=60, spread=0.12, seed=s))
                         for s in (3, 3, 4))
    assert one == again
    assert [r.nbytes for r in one] != [r.nbytes for r in other]


# -- the clairvoyant choice


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_oracle_is_never_slower_than_any_fixed_plan(setting, seed):
    now = setting(f"synthetic:{seed},1.5Mbit", frames=120, spread=0.12, seed=seed)
    oracle = run_oracle(now)
    assert [r.index for r in oracle] == list(range(120))
    for option in now.options:
        for race in (False, True):
            fixed = run(now, Plan(1, option.cut, Rung.parse(option.rung), race=race and
                                  option.cut < 3))
            assert mean_ms(oracle) <= mean_ms(fixed) + 1e-6, option.name


def test_on_a_constant_link_the_oracle_takes_what_is_fastest(setting):
    rows = run_oracle(setting(8e6))
    # The picture: see above.
    assert {(r.cut, r.rung, r.outcome) for r in rows} == {(0, "jpeg70", "remote")}
    assert mean_ms(rows) == pytest.approx(93.97, abs=1.0)
    slow = run_oracle(setting(1e3))
    assert {(r.cut, r.outcome) for r in slow} == {(3, "local")}


# -- the worker


def test_a_worker_serves_one_after_another_and_says_how_long_each_waited(bundle):
    worker, digest = VirtualWorker(bundle, BOARD), bytes(32)
    frames = [m.Frame(digest, 1, i, 1, 10**6, 1, Codec.CALIBRATED, 1, b"") for i in range(3)]
    served = [worker.serve(f, at_s) for f, at_s in zip(frames, (1.0, 1.0, 2.0))]
    assert [left_s for left_s, _ in served] == pytest.approx([1.018, 1.036, 2.018])
    assert [r.stages.queue_us for _, r in served] == [0, 18_000, 0]
    assert [r.stages.tail_us for _, r in served] == [18_000] * 3
    assert [r.frame_id for _, r in served] == [0, 1, 2]


# -- the clock


def test_events_happen_in_their_order_and_the_clock_is_theirs():
    time, seen = VirtualTime(), []
    for name, at_s in (("late", 2.0), ("first", 1.0), ("second", 1.0), ("past", -5.0)):
        time.at(at_s, lambda name=name: seen.append((name, time.now_s)))
    time.run_until(1.5)
    assert seen == [("past", 0.0), ("first", 1.0), ("second", 1.0)] and time() == 1.5
    time.run_until(1.2)
    assert time() == 1.5, "never back"
    time.run_until(9.0)
    assert seen[-1] == ("late", 2.0) and time() == 9.0
    time.run_until(99.0)
    assert len(seen) == 4, "each happened once"


def test_what_happens_may_make_more_happen():
    time, seen = VirtualTime(), []
    time.at(1.0, lambda: time.at(1.5, lambda: seen.append(time())))
    time.run_until(1.4)
    assert seen == []
    time.run_until(2.0)
    assert seen == [1.5]


def test_a_wait_ends_when_notified_or_in_time():
    time = VirtualTime()
    wake = VirtualCondition(time)
    time.at(1.0, wake.notify_all)
    time.at(5.0, lambda: None)
    wake.notify_all()                 # before the wait: not for it
    wake.wait(3.0)
    assert time() == 1.0
    wake.wait(3.0)
    assert time() == 4.0
