"""Sizes seen over sizes predicted."""

from __future__ import annotations

import pytest

from edge_agent.belief.sizes import Sizes


def test_what_was_never_sent_is_as_predicted():
    sizes = Sizes()
    sizes.add(1, "kl0.02", 1000, 2000)
    assert sizes.ratio(1, "kl0.05") == sizes.ratio(2, "kl0.02") == 1.0


def test_a_message_moves_the_ratio_by_a_twentieth():
    sizes = Sizes()
    sizes.add(1, "kl0.02", 1000, 2000)
    assert sizes.ratio(1, "kl0.02") == pytest.approx(1.05)
    sizes.add(1, "kl0.02", 1000, 1000)
    assert sizes.ratio(1, "kl0.02") == pytest.approx(1.0475)


def test_many_messages_make_it_what_they_are():
    sizes = Sizes()
    for _ in range(200):
        sizes.add(1, "q4", 1000, 700)
    assert sizes.ratio(1, "q4") == pytest.approx(0.7, rel=0.001)


def test_nothing_expected_teaches_nothing():
    sizes = Sizes()
    sizes.add(1, "q4", 0, 700)
    assert sizes.ratio(1, "q4") == 1.0
