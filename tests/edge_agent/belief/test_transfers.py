"""Transfers become scenarios: each with numbers worked out by hand."""

from __future__ import annotations

import math
import random

import pytest

from edge_agent.belief.transfers import (
    FAST_HALF_LIFE_S, GIVE_UP_S, MAX_SCENARIOS, OUTAGE_RATIO, OUTAGE_S_PER_BYTE, PRIOR_BPS,
    SLOW_HALF_LIFE_S, SLOW_SHARE, Transfers, weighted_quantile,
)

OUTAGE = (OUTAGE_S_PER_BYTE, OUTAGE_RATIO)


def pairs(transfers: Transfers, now_s: float, rtt_s: float = 0.0) -> list[tuple[float, float]]:
    return [(s.s_per_byte, s.weight) for s in transfers.scenarios(rtt_s, now_s)]


def seen(transfers: Transfers, now_s: float, rtt_s: float = 0.0) -> list[float]:
    """What bytes cost, the outage that is always thought of left out."""
    return [s for s, _ in pairs(transfers, now_s, rtt_s) if s != OUTAGE_S_PER_BYTE]


def test_before_the_first_there_is_a_guess_and_an_outage():
    assert pairs(Transfers(), 5.0) == [(8 / PRIOR_BPS, pytest.approx(1 - OUTAGE_RATIO)), OUTAGE]
    assert seen(Transfers(prior_bps=8e3), 5.0) == [1e-3]


def test_a_byte_costs_what_is_left_without_worker_and_round_trip():
    transfers = Transfers()
    transfers.on_sent(1, 10_000, 2.0)
    transfers.on_answer(1, worker_s=0.25, rtt_s=0.05, now_s=3.0)
    assert seen(transfers, 3.0, rtt_s=0.05) == [pytest.approx(0.7 / 10_000)]
    assert transfers.open_bytes() == 0


def test_a_shorter_round_trip_that_is_found_later_counts_for_what_was_before():
    transfers = Transfers()
    transfers.on_sent(1, 10_000, 2.0)
    transfers.on_answer(1, 0.0, rtt_s=0.5, now_s=3.0)
    assert seen(transfers, 3.0, rtt_s=0.5) == [pytest.approx(5e-5)]
    assert seen(transfers, 4.0, rtt_s=0.1) == [pytest.approx(9e-5)]


def test_an_answer_counts_once_and_only_to_what_is_open():
    transfers = Transfers()
    transfers.on_sent(1, 1000, 0.0)
    transfers.on_answer(2, 0.0, 0.0, 1.0)
    assert transfers.open_bytes() == 1000
    transfers.on_answer(1, 0.0, 0.0, 1.0)
    transfers.on_answer(1, 0.0, 0.0, 9.0)
    assert seen(transfers, 9.0) == [pytest.approx(1e-3)] and transfers.open_bytes() == 0


def test_waiting_behind_our_own_is_not_the_links_fault():
    transfers = Transfers()
    for key in range(4):              # all at once; each takes the link for a second
        transfers.on_sent(key, 1000, 0.0)
    for key in range(4):
        transfers.on_answer(key, 0.2, 0.1, 1.3 + key)
    assert seen(transfers, 4.3, rtt_s=0.1) == [pytest.approx(1e-3)] * 4


def test_a_gap_between_two_is_not_the_links_fault_either():
    transfers = Transfers()
    for key, sent_s in enumerate((0.0, 10.0)):
        transfers.on_sent(key, 1000, sent_s)
        transfers.on_answer(key, 0.0, 0.0, sent_s + 1.0)
    assert seen(transfers, 11.0) == [pytest.approx(1e-3)] * 2


def test_answers_out_of_order_do_not_give_the_link_back():
    transfers = Transfers()
    transfers.on_sent(1, 1000, 0.0)
    transfers.on_sent(2, 1000, 0.0)
    transfers.on_answer(2, 0.0, 0.0, 2.0)
    transfers.on_answer(1, 1.0, 0.0, 2.5)         # was through at 1.5, before the other
    transfers.on_sent(3, 1000, 2.0)
    transfers.on_answer(3, 0.0, 0.0, 3.0)         # the link was free from 2.0 on, not from 1.5
    assert sorted(seen(transfers, 3.0))[-2:] == [pytest.approx(1e-3), pytest.approx(2e-3)]


def test_what_a_round_trip_wobbles_by_is_no_rate():
    transfers = Transfers()
    transfers.on_sent(1, 1000, 0.0)
    transfers.on_answer(1, 0.5, 0.6, 1.0)         # more was taken off than it lasted
    assert seen(transfers, 1.0, rtt_s=0.6) == [pytest.approx(3e-6)], "3 ms at the least"


def test_an_open_transfer_counts_for_as_long_as_it_lasts():
    transfers = Transfers(prior_bps=8e6)          # a microsecond a byte is usual
    transfers.on_sent(1, 1000, 0.0)
    assert seen(transfers, 0.0005) == [1e-6], "not longer than usual yet"
    for now_s in (0.5, 1.0, 4.0):
        assert seen(transfers, now_s, 0.1) == [1e-6, pytest.approx((now_s - 0.1) / 1000)]
    transfers.on_answer(1, 0.0, 0.0, 5.0)
    assert seen(transfers, 5.0) == [pytest.approx(5e-3)], "then it is one that ended"


def test_an_open_one_weighs_as_much_as_all_that_ended():
    transfers = Transfers()
    for key in range(3):
        transfers.on_sent(key, 1000, key)
        transfers.on_answer(key, 0.0, 0.0, key + 0.5)
    transfers.on_sent(9, 1000, 3.0)
    *ended, open_one, outage = pairs(transfers, 5.0)
    assert open_one == (pytest.approx(2e-3), pytest.approx((1 - OUTAGE_RATIO) / 2))
    assert sum(w for _, w in ended) == pytest.approx((1 - OUTAGE_RATIO) / 2)
    assert outage == OUTAGE


def test_only_the_oldest_of_the_open_ones_counts():
    transfers = Transfers(prior_bps=8e6)
    transfers.on_sent(2, 10, 2.5)                 # small and young: 0.05 s a byte, if it counted
    transfers.on_sent(1, 1000, 0.0)
    transfers.on_sent(3, 10, 2.0)
    assert seen(transfers, 3.0) == [1e-6, pytest.approx(3e-3)]
    assert (transfers.open_bytes(), transfers.open_for_s(3.0)) == (1020, 3.0)
    transfers.on_answer(1, 0.0, 0.0, 3.0)         # now key 3 has the link, since then
    assert max(seen(transfers, 3.2)) == pytest.approx(0.2 / 10)
    assert transfers.open_for_s(3.2) == pytest.approx(0.2)


def test_one_that_is_turned_away_says_nothing():
    transfers = Transfers()
    transfers.on_sent(1, 1000, 0.0)
    transfers.on_turned_away(1)
    transfers.on_turned_away(7)
    assert pairs(transfers, 9.0) == [(8 / PRIOR_BPS, pytest.approx(1 - OUTAGE_RATIO)), OUTAGE]
    assert transfers.open_bytes() == 0


def test_one_that_we_stopped_half_way_counts_for_as_long_as_it_lasted():
    transfers = Transfers()
    for key in (1, 2):
        transfers.on_sent(key, 1000, 0.0)
    transfers.on_answer(1, 0.0, 0.0, 1.0)
    transfers.on_given_up(2, 3.0)                 # had the link for two seconds
    transfers.on_given_up(7, 3.0)
    assert seen(transfers, 3.0) == [pytest.approx(1e-3), pytest.approx(2e-3)]
    assert transfers.open_bytes() == 0
    assert pairs(transfers, 3.0)[-1] == OUTAGE, "the link lost nothing"
    before = pairs(transfers, 4.0)
    transfers.on_answer(2, 0.0, 0.0, 4.0)
    assert pairs(transfers, 4.0) == before


def test_what_is_open_too_long_is_given_up_and_counts_as_that_slow():
    transfers = Transfers()
    transfers.on_sent(1, 100_000, 0.0)
    transfers.sweep(GIVE_UP_S)
    assert transfers.open_bytes() == 100_000 and pairs(transfers, GIVE_UP_S)[-1] == OUTAGE
    transfers.sweep(GIVE_UP_S + 0.5)
    lost = [(pytest.approx((GIVE_UP_S + 0.5) / 100_000), pytest.approx(0.9)),
            (OUTAGE_S_PER_BYTE, pytest.approx(0.1))]
    assert transfers.open_bytes() == 0 and pairs(transfers, 16.0) == lost
    transfers.on_answer(1, 0.0, 0.0, 17.0)
    assert pairs(transfers, 17.0) == lost


def test_a_lost_connection_loses_what_is_open_and_frees_the_link():
    transfers = Transfers()
    transfers.on_sent(1, 1000, 0.0)
    transfers.on_answer(1, -5.0, 0.0, 1.0)        # through at 6: ahead of the clock
    transfers.on_sent(2, 1000, 1.0)
    transfers.on_down(3.0)
    assert transfers.open_bytes() == 0
    assert pairs(transfers, 3.0)[-1] == (OUTAGE_S_PER_BYTE, pytest.approx(0.1))
    assert max(seen(transfers, 3.0)) == pytest.approx(6e-3)
    assert min(seen(transfers, 3.0)) == pytest.approx(2e-3)
    transfers.on_sent(3, 1000, 3.0)
    transfers.on_answer(3, 0.0, 0.0, 4.0)
    assert min(seen(transfers, 4.0)) == pytest.approx(1e-3), "nothing of before is in its way"


def test_losses_weigh_more_than_the_least_and_fade_with_answers():
    transfers = Transfers()
    for key in range(10):
        transfers.on_sent(key, 1000, 0.0)
    transfers.on_down(1.0)
    lost = 1 - 0.9 ** 10
    # A millisecond a byte each; the outage scenario has the loss ratio for its weight.
    assert pairs(transfers, 1.0)[-1] == (OUTAGE_S_PER_BYTE, pytest.approx(lost))
    transfers.on_sent(99, 1000, 2.0)
    transfers.on_answer(99, 0.0, 0.0, 3.0)
    assert pairs(transfers, 3.0)[-1] == (OUTAGE_S_PER_BYTE, pytest.approx(0.9 * lost))
    for key in range(100, 160):
        transfers.on_sent(key, 1000, 3.0)
        transfers.on_answer(key, 0.0, 0.0, 3.0)
    assert pairs(transfers, 3.0)[-1] == OUTAGE


def test_a_say_fades_in_two_memories():
    transfers = Transfers()
    for key, at_s in enumerate((0.0, FAST_HALF_LIFE_S, 2 * FAST_HALF_LIFE_S)):
        transfers.on_sent(key, 1000, at_s - (key + 1))
        transfers.on_answer(key, 0.0, 0.0, at_s)
    slow = [0.5 ** (k * FAST_HALF_LIFE_S / SLOW_HALF_LIFE_S) for k in (2, 1, 0)]
    expected = [(1 - SLOW_SHARE) * f / 7 + SLOW_SHARE * s / sum(slow)
                for f, s in zip((1, 2, 4), slow)]
    weights = [w / (1 - OUTAGE_RATIO) for s, w in pairs(transfers, 2 * FAST_HALF_LIFE_S)[:3]]
    assert weights == pytest.approx(expected)


def test_every_byte_is_an_observation():
    transfers = Transfers()
    for key, nbytes in enumerate((1000, 3000)):
        transfers.on_sent(key, nbytes, 0.0)
        transfers.on_answer(key, 0.0, 0.0, 1.0 + key)     # a second each, one after the other
    # A second between them is 0.4 fast half-lives, and a thirtieth of the slow ones.
    fast, slow = 0.5 ** (1 / FAST_HALF_LIFE_S), 0.5 ** (1 / SLOW_HALF_LIFE_S)
    large = (1 - SLOW_SHARE) * 3 / (3 + fast) + SLOW_SHARE * 3 / (3 + slow)
    assert pairs(transfers, 2.0) == [
        (pytest.approx(1 / 3000), pytest.approx((1 - OUTAGE_RATIO) * large)),
        (pytest.approx(1e-3), pytest.approx((1 - OUTAGE_RATIO) * (1 - large))), OUTAGE]


def test_but_a_large_one_does_not_outvote_all_others():
    transfers = Transfers()
    for key, nbytes in enumerate((10**6, 8000)):
        transfers.on_sent(key, nbytes, 0.0)
        transfers.on_answer(key, 0.0, 0.0, 1.0)
    assert pairs(transfers, 1.0)[0][1] == pytest.approx((1 - OUTAGE_RATIO) / 2)


def test_nothing_open_has_had_no_time():
    assert Transfers().open_for_s(5.0) == 0.0


def test_only_the_last_are_kept():
    transfers = Transfers()
    for key in range(2 * MAX_SCENARIOS):
        transfers.on_sent(key, 1000, key)
        transfers.on_answer(key, 0.0, 0.0, key + 0.5)
    assert len(pairs(transfers, 80.0)) == MAX_SCENARIOS + 1


def test_hours_of_silence_change_nothing():
    transfers = Transfers()
    for key, took_s in enumerate((0.9, 0.1, 0.5)):
        transfers.on_sent(key, 1000, 10.0 * key)
        transfers.on_answer(key, 0.0, 0.0, 10.0 * key + took_s)
    at_once = pairs(transfers, 21.0)
    assert len(at_once) == 4
    for idle_s in (200.0, 3600.0, 1e5, 1e9):
        assert pairs(transfers, idle_s) == at_once
        # Ten seconds are four fast half-lives: the newest is the middle.
        assert transfers.bps(0.0, idle_s) == pytest.approx(8 / 5e-4)


@pytest.mark.parametrize("_", range(20))
def test_whatever_happens_scenarios_are_in_order_and_sum_to_one(_):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    transfers, now_s, key = Transfers(), 0.0, 0
    for _ in range(200):
        now_s += rng.choice((0.0, 0.001, 0.3, 4.0, 5000.0))
        what = rng.random()
        if what < 0.5:
            key += 1
            transfers.on_sent(key, rng.choice((0, 1, 500, 10**6)), now_s)
        elif what < 0.8:
            transfers.on_answer(rng.randint(0, key), rng.uniform(0, 2), rng.uniform(0, 1), now_s)
        elif what < 0.85:
            transfers.on_down(now_s)
        elif what < 0.9:
            transfers.on_given_up(key, now_s)
        else:
            transfers.sweep(now_s)
        found = pairs(transfers, now_s, rng.uniform(0, 1))
        assert found == sorted(found)
        assert all(math.isfinite(s) and s > 0 and w >= 0 for s, w in found)
        assert math.fsum(w for _, w in found) == pytest.approx(1.0)
        assert any(s == OUTAGE_S_PER_BYTE and w >= OUTAGE_RATIO for s, w in found)


@pytest.mark.parametrize("given, middle", [
    ([(3.0, 1.0)], 3.0),
    ([(9.0, 1.0), (1.0, 1.0), (2.0, 1.0)], 2.0),
    ([(9.0, 3.0), (1.0, 1.0), (2.0, 1.0)], 9.0),
    ([(1.0, 1.0), (2.0, 1.0)], 1.0),
])
def test_the_middle_by_weight(given, middle):
    assert weighted_quantile(given, 0.5) == middle


@pytest.mark.parametrize("share, value", [(0.0, 1.0), (0.2, 1.0), (0.21, 2.0), (0.95, 3.0),
                                          (1.0, 3.0)])
def test_and_any_other_share_of_it(share, value):
    assert weighted_quantile([(3.0, 1.0), (1.0, 0.4), (2.0, 0.6)], share) == value
