"""What nobody calibrated has no known quality."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.policies.quality import Quality
from tests.edge_agent.planner.making import HERE, INPUT, LATE, MIDDLE, view


def allowed(max_kl: float, options=(INPUT, MIDDLE, LATE, HERE)) -> list[bool]:
    return Quality(max_kl).judge(view(options=options)).allowed.tolist()


def test_unknown_divergence_is_refused_and_none_is_none():
    assert allowed(1e9) == [False, False, True, True, True, True, True]


@pytest.mark.parametrize("max_kl, kept", [(0.08, True), (0.0799, False), (0.02, False)])
def test_the_coarsest_step_that_a_plan_may_take_counts(max_kl, kept):
    assert allowed(max_kl)[2:4] == [kept, kept]


def test_a_hair_of_rounding_is_no_reason():
    middle = msgspec.structs.replace(MIDDLE, coarsest_kl=0.08 * (1 + 1e-12))
    assert allowed(0.08, (INPUT, middle, LATE, HERE))[2]


def test_it_never_leaves_nothing_and_never_gives_way():
    unknown = msgspec.structs.replace(HERE, kl=None, coarsest_kl=None)
    assert allowed(1e-9, (INPUT, unknown)) == [False, False, True]
    assert Quality(0.1).hard
