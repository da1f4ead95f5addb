"""Nothing leaves before an op, and only to whom is trusted."""

from __future__ import annotations

import itertools

import pytest

from edge_agent.policies.privacy import Privacy
from tests.edge_agent.planner.making import OPTIONS, state, view, worker

TWO = state(workers=(worker("home"), worker("cloud")))


def allowed(min_cut: int = 0, trusted: tuple[str, ...] | None = None, now=TWO) -> set[str]:
    seen = view(now)
    verdict = Privacy(min_cut, trusted).judge(seen)
    return {seen.candidates.describe(i) for i, ok in enumerate(verdict.allowed) if ok}


def every(cuts: tuple[str, ...], workers: tuple[str, ...]) -> set[str]:
    return {"all local"} | {f"{cut} at {w}{how}" for cut, w, how in itertools.product(
        cuts, workers, ("", ", raced"))}


INPUT, MIDDLE, LATE = (o.name for o in OPTIONS[:3])
BOTH = ("home", "cloud")


def test_without_a_word_everything_may_go_anywhere():
    assert allowed() == every((INPUT, MIDDLE, LATE), BOTH)


@pytest.mark.parametrize("min_cut, cuts", [(1, (MIDDLE, LATE)), (2, (LATE,)), (3, ()), (99, ())])
def test_nothing_before_a_cut(min_cut, cuts):
    assert allowed(min_cut) == every(cuts, BOTH)


@pytest.mark.parametrize("trusted, workers", [
    (("home",), ("home",)), (("cloud", "home"), BOTH), (("stranger",), ()), ((), ())])
def test_only_to_those_trusted(trusted, workers):
    assert allowed(0, trusted) == every((INPUT, MIDDLE, LATE), workers)


def test_both_together():
    assert allowed(2, ("cloud",)) == every((LATE,), ("cloud",))


def test_it_never_leaves_nothing_and_never_gives_way():
    assert Privacy().hard
    assert allowed(99, (), state(workers=())) == {"all local"}


def test_it_says_what_it_forbids():
    assert Privacy(2, ("a", "b")).judge(view()).why == "no cut before op 2, trusted a, b"
    assert Privacy(0, ()).judge(view()).why.endswith("trusted nobody")
