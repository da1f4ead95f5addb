"""The frozen peer: its averages, its search, and the mistakes it is kept with."""

from __future__ import annotations

import random

import pytest

from split_lab.field.peer import FIRST_BYTES_PER_S, FORCED_LOCAL, PeerPolicy

# 300 kB go in, 100 kB cross after the first segment, 50 kB after the second; all-local is 3.
SIZES = (300_000, 100_000, 50_000, 0)


class Never(random.Random):
    """No frame is forced local."""

    def random(self) -> float:
        return 1.0


def policy(*, skew_s: float = 0.0, rng: random.Random | None = None, bytes_per_s: float = 1e6,
           device_s=(0.1, 0.1, 0.1), edge_s=(0.01, 0.01, 0.01)) -> PeerPolicy:
    return PeerPolicy(SIZES, list(device_s), list(edge_s), skew_s, rng or Never(),
                      bytes_per_s=bytes_per_s)


@pytest.mark.parametrize("bytes_per_s, chosen", [
    # 100 + 100 + 20, 200 + 50 + 10 and 300 ms; sending everything takes 330.
    (1e6, 1),
    # 100 + 250 + 20, 200 + 125 + 10 and 300.
    (0.4e6, 3),
    # 100 + 154 + 20, 200 + 77 + 10 and 300.
    (0.65e6, 1),
])
def test_the_least_sum_of_the_three_averages(bytes_per_s, chosen):
    assert policy(bytes_per_s=bytes_per_s).choose() == chosen


def test_a_slow_edge_is_left_alone():
    assert policy(edge_s=(0.5, 0.5, 0.5)).choose() == 3


def test_among_equals_the_first():
    assert PeerPolicy((9, 0, 0, 0), [0.0] * 3, [0.0] * 3, 0.0, Never()).choose() == 1


def test_averages_move_by_a_fifth():
    peer = policy()
    peer.on_segments(1, [0.2, 0.0], edge=False)
    assert peer.device_s == pytest.approx([0.1, 0.12, 0.08])
    peer.on_segments(2, [0.06], edge=True)
    assert peer.edge_s == pytest.approx([0.01, 0.01, 0.02])
    peer.on_transfer(100_000, 0.05)                              # 2 MB/s
    assert peer.bytes_per_s == pytest.approx(1.2e6)


def test_it_begins_with_a_megabit():
    assert FIRST_BYTES_PER_S == 1e6 / 8
    assert PeerPolicy(SIZES, [], [], 0.0, Never()).bytes_per_s == FIRST_BYTES_PER_S


def test_a_clock_that_is_ahead_makes_the_link_slow():
    peer = policy(skew_s=0.4)
    peer.on_transfer(100_000, 0.1)                               # seen: 500 ms, 0.2 MB/s
    assert peer.bytes_per_s == pytest.approx(0.84e6)


def test_a_time_of_zero_is_a_speed_of_one():
    peer = policy(skew_s=-0.125)
    peer.on_transfer(100_000, 0.125)
    assert peer.bytes_per_s == pytest.approx(1e6 + 0.2 * (1 - 1e6))


def test_with_a_negative_time_the_largest_tensor_wins():
    peer = policy(skew_s=-0.15)
    # Seen as -100 ms for 100 kB, -1 MB/s: three such are enough to believe in a negative speed.
    for _ in range(4):
        peer.on_transfer(100_000, 0.05)
    assert peer.bytes_per_s == pytest.approx(-1e6 + 2e6 * 0.8 ** 4)
    assert peer.bytes_per_s < 0
    assert peer.choose() == 1, "the largest but for cut 0, which is never chosen"
    # However slow the edge is: the more bytes, the more time it takes to have won.
    peer.edge_s = [0.2] * 3
    assert peer.choose() == 1
    # And what is sent is no matter of which cut is early, but of its bytes.
    turned = PeerPolicy((300_000, 50_000, 100_000, 0), [0.1] * 3, [0.01] * 3, 0.0, Never(),
                        bytes_per_s=peer.bytes_per_s)
    assert turned.choose() == 2


@pytest.mark.parametrize("seed", range(5))
def test_cut_0_is_never_chosen(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(2000):
        cuts = rng.randrange(2, 8)
        # Often sending everything would be by far the best.
        sizes = [rng.randrange(1, 1000), *(rng.randrange(1, 10 ** 6) for _ in range(cuts - 2)), 0]
        peer = PeerPolicy(
            sizes, [rng.uniform(0, 2) for _ in range(cuts - 1)],
            [rng.uniform(0, 0.01) for _ in range(cuts - 1)], 0.0, rng,
            bytes_per_s=rng.choice((-1, 1)) * 10 ** rng.uniform(0, 9))
        assert 1 <= peer.choose() < cuts


def test_now_and_then_a_frame_is_forced_local():
    seed, frames = 11, 20_000
    print(f"seed {seed}")
    peer = policy(rng=random.Random(seed))
    local = sum(peer.choose() == 3 for _ in range(frames))
    # Four deviations of a binomial: sqrt(0.05 x 0.95 / 20000) is 0.0015.
    assert FORCED_LOCAL == 0.05
    assert local / frames == pytest.approx(0.05, abs=0.0062)


def test_with_a_seed_the_same_frames_are_forced():
    chosen = [[peer.choose() for _ in range(200)]
              for peer in (policy(rng=random.Random(s)) for s in (5, 5, 6))]
    assert chosen[0] == chosen[1] != chosen[2]
