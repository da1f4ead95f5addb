"""The link's arithmetic against a slow and obvious one that walks the opportunities."""

from __future__ import annotations

import random

import numpy as np
import pytest

from split_lab.field.uplink import (
    UNLIMITED_BPS,
    Constant,
    Faulty,
    Opportunities,
    Path,
    Steps,
    Uplink,
    merged,
    synthetic,
)


class Walk:
    """One opportunity after the other, in whole milliseconds: what `Uplink` must agree with."""

    def __init__(self, times_ms, offset_ms, outages_ms):
        self.times_ms, self.offset_ms, self.outages_ms = times_ms, offset_ms, outages_ms
        self.loop, self.i, self.room = 0, 0, 1500
        while self.now_ms() < 0:
            self.step()

    def now_ms(self):
        return self.loop * self.times_ms[-1] + self.times_ms[self.i] - self.offset_ms

    def step(self):
        self.i, self.room = self.i + 1, 1500
        if self.i == len(self.times_ms):
            self.loop, self.i = self.loop + 1, 0

    def usable(self):
        t = self.now_ms()
        return self.room > 0 and not any(s <= t < s + n for s, n in self.outages_ms)

    def send(self, nbytes, at_ms):
        while nbytes > 0:
            if self.now_ms() < at_ms or not self.usable():
                self.step()
                continue
            used = min(nbytes, self.room)
            self.room -= used
            nbytes -= used
            delivered_ms = self.now_ms()
        return delivered_ms


def random_times_ms(rng):
    period = rng.randint(1, 60)
    times = sorted(rng.randint(0, period) for _ in range(rng.randint(0, 20)))
    return [*times, period]


@pytest.mark.parametrize("seed", range(150))
def test_a_queue_agrees_with_walking_the_opportunities(seed):
    rng = random.Random(seed)
    times_ms = random_times_ms(rng)
    offset_ms = rng.choice([0, 0, rng.randint(0, 150)])
    outages_ms = [(rng.randint(0, 300), rng.randint(0, 80)) for _ in range(rng.randint(0, 4))]
    rate = Faulty(Opportunities(times_ms), offset_ms / 1000,
                  [(s / 1000, n / 1000) for s, n in outages_ms])
    uplink, walk = Uplink(rate), Walk(times_ms, offset_ms, outages_ms)
    at_ms, sent = 0, []
    for _ in range(rng.randint(1, 25)):
        at_ms += rng.choice([0, 0, 1, rng.randint(0, 90)])
        nbytes = rng.choice([1, 40, 1499, 1500, 1501, rng.randint(1, 9000)])
        delivered_s = uplink.send(nbytes, at_ms / 1000)
        assert delivered_s * 1000 == pytest.approx(walk.send(nbytes, at_ms), abs=1e-6)
        # A queue of its own, for the stateless question.
        alone_ms = Walk(times_ms, offset_ms, outages_ms).send(nbytes, at_ms)
        assert rate.finish_s(at_ms / 1000, nbytes) * 1000 == pytest.approx(alone_ms, abs=1e-6)
        sent.append((nbytes, delivered_s))
        waiting = [n for n, s in sent if s > at_ms / 1000 + 1e-9]
        backlog = uplink.backlog_bytes(at_ms / 1000)
        # The first that waits may have left in part.
        assert sum(waiting[1:]) <= backlog <= sum(waiting) and bool(waiting) == bool(backlog)
        assert uplink.drained_s(0) == pytest.approx(delivered_s)


@pytest.mark.parametrize("seed", range(30))
def test_capacity_agrees_with_counting(seed):
    rng = random.Random(1000 + seed)
    times_ms = random_times_ms(rng)
    outages_ms = [(rng.randint(0, 200), rng.randint(0, 80)) for _ in range(2)]
    rate = Faulty(Opportunities(times_ms), 0.0, [(s / 1000, n / 1000) for s, n in outages_ms])
    all_ms = [loop * times_ms[-1] + t for loop in range(1000 // times_ms[-1] + 1)
              for t in times_ms]
    all_ms = [t for t in all_ms if not any(s <= t < s + n for s, n in outages_ms)]
    for _ in range(20):
        t0, t1 = sorted(rng.randint(1, 900) for _ in range(2))
        counted = 1500 * sum(t0 <= t < t1 for t in all_ms)
        assert rate.bytes_between(t0 / 1000, t1 / 1000) == counted
        if t1 > t0:
            assert rate.mean_bps(t0 / 1000, t1 / 1000) == pytest.approx(8000 * counted / (t1 - t0))


def test_small_packets_share_an_opportunity_and_what_is_not_used_is_lost():
    uplink = Uplink(Opportunities([10, 20]))
    assert uplink.send(700, 0.0) == 0.010
    assert uplink.send(700, 0.010) == 0.010  # at that very moment
    assert uplink.send(101, 0.010) == 0.020  # one byte too many
    assert uplink.send(1500, 0.021) == 0.030  # the second loop; the rest of 20 is lost
    assert uplink.send(0, 0.5) == 0.5


def test_a_constant_rate_is_a_fluid():
    rate = Constant(1e6)
    assert rate.finish_s(2.0, 12_500) == pytest.approx(2.1)
    assert rate.bytes_between(1.0, 3.0) == 250_000
    assert rate.mean_bps(1.0, 3.0) == 1e6


def rates(rate, seconds):
    return [rate.mean_bps(t, t + 1.0) for t in range(seconds)]


def test_steps_loop_and_may_stand_still():
    rate = Steps([(8e6, 1.0), (8e5, 2.0), (0.0, 1.0)])  # 1000 kB, 200 kB, none
    assert rate.finish_s(0.5, 600_000) == pytest.approx(2.0)
    assert rate.finish_s(0.0, 1_200_000) == pytest.approx(3.0)
    assert rate.finish_s(3.5, 1_000) == pytest.approx(4.001)
    assert rate.finish_s(0.0, 3 * 1_200_000 + 500_000) == pytest.approx(12.5)
    assert rate.mean_bps(0.0, 8.0) == pytest.approx(8 * 1_200_000 / 4)
    assert rates(rate, 4) == pytest.approx([8e6, 8e5, 8e5, 0.0])


@pytest.mark.parametrize("seed", range(30))
def test_times_are_the_inverse_of_positions(seed):
    rng = random.Random(seed)
    steps = [(rng.choice([0.0, rng.uniform(1e4, 1e7)]), rng.uniform(0.1, 3)) for _ in range(4)]
    rate = Faulty(Steps([(1e6, 1.0), *steps]), rng.uniform(0, 5),
                  [(rng.uniform(0, 20), rng.uniform(0, 3)) for _ in range(3)])
    for _ in range(50):
        at_s = rng.uniform(0, 40)
        there_s = rate.time_at_s(rate.position(at_s))
        assert there_s <= at_s + 1e-6
        assert rate.bytes_between(there_s, at_s) == pytest.approx(0.0, abs=0.01)


def test_an_outage_holds_what_was_being_sent():
    rate = Faulty(Constant(8e3), outages=[(1.0, 2.0), (2.5, 1.0)])  # 1000 bytes a second
    assert rate.outages == ((1.0, 2.5),)
    assert rate.finish_s(0.5, 500) == pytest.approx(1.0)
    assert rate.finish_s(0.5, 501) == pytest.approx(3.501)
    assert rate.finish_s(2.0, 100) == pytest.approx(3.6)


def test_spans_that_touch_are_one():
    assert merged([(5, 1), (0, 2), (2, 1), (1, 0.5)]) == ((0, 3), (5, 1))


def test_a_queue_is_first_in_first_out_and_a_copy_goes_its_own_way():
    uplink = Uplink(Constant(1e6))
    assert uplink.send(12_500, 0.0) == pytest.approx(0.1)
    other = uplink.copy()
    assert other.send(125_000, 0.0) == pytest.approx(1.1)
    assert uplink.send(12_500, 0.05) == pytest.approx(0.2)
    assert other.send(12_500, 0.05) == pytest.approx(1.2)
    assert uplink.backlog_bytes(0.15) == pytest.approx(6_250, abs=1)
    assert uplink.backlog_bytes(0.2) == 0


def test_nothing_moves_before_time_zero():
    for rate in (Constant(1e6), Opportunities([5, 10]), Steps([(1e6, 1.0)]),
                 Faulty(Opportunities([5, 10]), 0.007)):
        assert rate.position(-3.0) == rate.position(0.0) == 0.0
        assert rate.finish_s(-3.0, 1) >= 0.0


@pytest.mark.parametrize("rate", [Constant(1e5), Opportunities([3, 3, 4, 30]),
                                  Faulty(Steps([(1e6, 0.1), (1e5, 0.1)]), 0.0, [(0.05, 0.1)])])
def test_pieces_are_the_whole_told_in_parts(rate):
    whole, pieces = Uplink(rate), Uplink(rate)
    for nbytes, at_s in ((10_000, 0.0), (700, 0.01), (1, 0.01), (20_000, 5.0)):
        told = pieces.send_pieces(nbytes, at_s, 0.002)
        assert sum(n for n, _ in told) == nbytes
        assert told[-1][1] == pytest.approx(whole.send(nbytes, at_s))
        times_s = [t for _, t in told]
        assert times_s == sorted(times_s) and whole.end == pytest.approx(pieces.end)


@pytest.mark.parametrize("jitter_s", [0.005, 0.05, 0.3])
def test_jitter_never_reorders_and_repeats_with_its_seed(jitter_s):
    path, again, other = (Path(0.02, jitter_s, seed) for seed in (1, 1, 2))
    times_s = np.arange(0.0, 60.0, 0.0017).tolist()
    arrivals_s = [path.arrives_s(t) for t in times_s]
    assert all(a <= b + 1e-9 for a, b in zip(arrivals_s, arrivals_s[1:], strict=False))
    delays_s = [a - t for a, t in zip(arrivals_s, times_s, strict=True)]
    assert 0.02 <= min(delays_s) + 1e-9 and max(delays_s) <= 0.02 + jitter_s + 1e-9
    assert max(delays_s) - min(delays_s) > 0.8 * jitter_s
    assert arrivals_s == [again.arrives_s(t) for t in times_s]
    assert arrivals_s != [other.arrives_s(t) for t in times_s]


def test_what_would_arrive_in_a_black_hole_arrives_when_it_ends():
    path = Path(0.1, black_holes=[(1.0, 2.0)])
    assert path.arrives_s(0.85) == pytest.approx(0.95)
    assert path.arrives_s(0.95) == 3.0
    assert path.arrives_s(2.95) == pytest.approx(3.05)
    assert path.black_hole_end_s(0.5) is None and path.black_hole_end_s(1.0) == 3.0


def test_no_limit_is_too_fast_to_matter():
    assert Constant(UNLIMITED_BPS).finish_s(100_000.0, 30_000) - 100_000.0 < 0.0001


@pytest.mark.parametrize("times_ms", [[], [0], [3, 2], [-1, 4]])
def test_impossible_opportunities_are_refused(times_ms):
    with pytest.raises(ValueError, match="opportunities"):
        Opportunities(times_ms)


@pytest.mark.parametrize("seed", range(5))
def test_a_synthetic_trace_is_like_a_drive(seed):
    trace = synthetic(seed, 0.9e6, 900.0)
    assert trace.period_s == 900.0
    assert trace.mean_bps(0.0, 900.0) == pytest.approx(0.9e6, rel=0.001)
    gaps_s = np.diff(trace.times_ms) / 1000
    assert 15 <= np.count_nonzero(gaps_s > 0.5) <= 120
    assert 1.0 < gaps_s.max() < 40.0
    bps = np.array(rates(trace, 900))
    served = (bps[1:] > 0) & (bps[:-1] > 0)
    together = np.corrcoef(np.log(bps[1:][served]), np.log(bps[:-1][served]))[0, 1]
    assert 0.5 < together < 0.95


def test_a_short_synthetic_trace_works_at_all():
    for seed in range(200):
        assert synthetic(seed, 1e5, 0.3, outage_every_s=0.2).period_s == 0.3
