"""Windows as large as a link carries in a moment, on links slow and fast, in arithmetic time."""

from __future__ import annotations

import heapq

import pytest

from edge_agent.models.pace import LEAST_BYTES, MAX_PATIENCE_S, MOMENT_S, Pace
from split_core.blobs import PART_BYTES, RETRY_S, WINDOW_BYTES


def transfer(rate_Bps: float, rtt_s: float, nbytes: int, lose=lambda n: False):
    """Fetch ``nbytes`` over a link with a queue in front of it. Returns the seconds it took, the
    bytes that were sent, and for each request how long a result would have waited behind it."""
    pace, now_s, received, window_end = Pace(), 0.0, 0, 0
    free_s, sent, coming, waits_s, requests = 0.0, 0, [], [], 0
    while received < nbytes:
        if pace.is_due(now_s):
            pace.on_asked(now_s)
            offset, left = received, min(pace.window_bytes, nbytes - received)
            window_end, requests = offset + left, requests + 1
            if not lose(requests):
                while left:
                    size = min(left, PART_BYTES)
                    free_s = max(free_s, now_s + rtt_s) + size / rate_Bps
                    heapq.heappush(coming, (free_s, offset, size))
                    offset, left, sent = offset + size, left - size, sent + size
                waits_s.append(max(0.0, free_s - now_s - rtt_s))
        now_s += 0.01
        while coming and coming[0][0] <= now_s:
            at_s, offset, size = heapq.heappop(coming)
            if offset == received:
                received += size
                pace.on_part(at_s)
                if received >= window_end:
                    pace.on_window(at_s)
    return now_s, sent, waits_s


@pytest.mark.parametrize("rate_Bps", [5e3, 2e4, 1e5, 1e6, 1e8])
@pytest.mark.parametrize("rtt_s", [0.01, 0.1, 0.6])
def test_nothing_is_sent_twice_on_a_link_that_loses_nothing(rate_Bps, rtt_s):
    nbytes = int(min(40 * rate_Bps, 8e6))
    took_s, sent, waits_s = transfer(rate_Bps, rtt_s, nbytes)
    # The first requests may be repeated before anything is known of the link.
    assert sent <= nbytes + 3 * 8192
    steady = sorted(waits_s[3:])[: max(1, int(0.9 * len(waits_s)))]
    # A window is doubled before it is found too large.
    least_s = LEAST_BYTES / rate_Bps
    assert max(steady) <= max(3 * (MOMENT_S + 2 * least_s), 3 * 8192 / rate_Bps)
    assert took_s <= 3 * (nbytes / rate_Bps) + 12 * rtt_s + (nbytes / WINDOW_BYTES) * 2 * rtt_s + 4


def test_a_fast_link_is_used():
    took_s, _, _ = transfer(1e8, 0.02, 20_000_000)
    assert took_s < 20_000_000 / WINDOW_BYTES * 0.05 + 1.0


def test_lost_windows_are_asked_for_again_ever_later():
    took_s, sent, _ = transfer(1e6, 0.05, 100_000, lose=lambda n: n in (3, 4, 5))
    assert sent == 100_000
    assert RETRY_S * (1 + 2 + 4) <= took_s < RETRY_S * 7 + 2


def test_patience_is_bounded():
    pace = Pace()
    for i in range(20):
        pace.on_asked(100.0 * i)
    assert (pace.patience_s, pace.window_bytes) == (MAX_PATIENCE_S, LEAST_BYTES)
