"""The decision, with scores and limits made by hand: the rules themselves are under test."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest

from edge_agent.planner.candidates import candidates_of
from edge_agent.planner.decide import Current, Decision, Rules, decide
from edge_agent.planner.planner import Planner
from edge_agent.policies.base import Verdict
from edge_agent.policies.bytes import ByteBudget
from edge_agent.policies.deadline import Deadline
from edge_agent.policies.energy import EnergyBudget
from edge_agent.policies.latency import Latency
from edge_agent.policies.privacy import Privacy
from edge_agent.policies.thermal import Thermal
from edge_agent.planner.predict import Prices
from edge_agent.planner.state import Battery
from tests.edge_agent.planner.making import (
    AT_HERE, AT_INPUT, AT_LATE, AT_MIDDLE, AT_MIDDLE_RACED, OPTIONS, state, worker,
)

CANDIDATES = candidates_of(OPTIONS, ("w",))
NOW = state()
MIDDLE_SINCE_90 = Current(1, "kl0.02", "w", False, 90.0, 1.0)


@dataclass(frozen=True)
class Scores:
    """An aim that says what the test says."""

    values: tuple[float, ...]
    name: str = "scores"

    def score(self, view):
        return np.array(self.values)


@dataclass(frozen=True)
class Forbids:
    """A limit that takes the named ones away."""

    indices: tuple[int, ...]
    excess: tuple[float, ...] = (0.0,) * 7
    name: str = "limit"
    hard: bool = False

    def judge(self, view):
        allowed = np.ones(len(view.candidates), bool)
        allowed[list(self.indices)] = False
        return Verdict(allowed, np.array(self.excess), f"not {self.indices}")


def scores(best: int = AT_HERE, **others: float) -> Scores:
    """Everything costs 2, the best 1, and what is named as said."""
    values = [2.0] * 7
    values[best] = 1.0
    for name, value in others.items():
        values[globals()[name]] = value
    return Scores(tuple(values))


def decided(aim, *limits, current: Current | None = MIDDLE_SINCE_90, now=NOW,
            **rules) -> Decision:
    return decide(now, CANDIDATES, current, Rules(aim, limits, **rules))


def what(decision: Decision) -> tuple[int, str, str | None, bool]:
    chosen = decision.chosen
    return chosen.cut, chosen.rung, chosen.worker, chosen.race


# -- the plan in force, and another


def test_the_first_is_the_best():
    decision = decided(scores(AT_MIDDLE_RACED), current=None)
    mean_ms = decision.chosen.costs["mean_ms"]
    assert (decision.switched, decision.reason) == (
        True, f"the first; scores: the best of 7, {mean_ms:.0f} ms predicted")
    assert what(decision) == (1, "kl0.02", "w", True)
    assert decision.current == Current(1, "kl0.02", "w", True, 100.0, 1.0)


def test_the_first_says_which_limits_left_it():
    only = decided(scores(AT_HERE), Forbids(tuple(range(6)), (0.0,) * 7), current=None)
    assert only.reason == f"the first; {only.limits[0]}", "nothing was left to choose from"
    some = decided(scores(AT_HERE), Forbids((0,), (0.0,) * 7), current=None)
    assert some.reason.startswith(f"the first; {some.limits[0]}; scores: the best of 6, ")


def test_the_first_without_a_worker_or_a_link_says_so():
    down = msgspec.structs.replace(NOW, link_up=False)
    assert decided(Latency(), current=None, now=down).reason == "the first; link: down"
    alone = decide(state(workers=()), candidates_of(OPTIONS, ()), None, Rules(Latency()))
    assert alone.reason == "the first; workers: none that holds the bundle"
    assert what(decided(Scores((1.0,) * 7), current=None)) == (0, "jpeg90", "w", False)


def test_what_is_the_best_stays_and_keeps_its_promise_and_age():
    decision = decided(scores(AT_MIDDLE, AT_MIDDLE=1.5))
    assert (decision.switched, decision.reason) == (False, "still the best")
    assert decision.current == MIDDLE_SINCE_90


@pytest.mark.parametrize("score, switched", [(0.951, False), (0.949, True)])
def test_another_must_be_better_by_the_margin(score, switched):
    decision = decided(scores(AT_HERE, AT_HERE=score, AT_MIDDLE=1.0), margin=0.05)
    assert decision.switched is switched
    assert decision.reason == ("gain 5%" if switched else "gain 5% under 5%")
    assert (what(decision)[0] == 3) is switched


@pytest.mark.parametrize("since_s, switched", [(98.001, False), (98.0, True), (50.0, True)])
def test_a_plan_lasts_for_its_dwell(since_s, switched):
    current = msgspec.structs.replace(MIDDLE_SINCE_90, since_s=since_s, promised=2.0)
    decision = decided(scores(AT_HERE), current=current, dwell_s=2.0)
    assert decision.switched is switched
    assert decision.reason == ("gain 50%" if switched else "gain 50%, held 2.0 s of 2 s")
    assert decision.current == (Current(3, "raw", None, False, 100.0, 1.0) if switched
                                else current)


@pytest.mark.parametrize("promised, switched", [(1.53, True), (1.54, False)])
def test_worse_news_need_not_wait(promised, switched):
    # 2 now: over or under 1.3 times what it promised.
    current = msgspec.structs.replace(MIDDLE_SINCE_90, since_s=99.9, promised=promised)
    decision = decided(scores(AT_HERE), current=current)
    assert decision.switched is switched
    assert decision.reason == ("gain 50%, 1.3 times what it promised" if switched
                               else "gain 50%, held 0.1 s of 2 s")


def test_but_has_to_be_worth_it_all_the_same():
    decision = decided(Scores((99.0, 99.0, 10.0, 99.0, 99.0, 99.0, 9.6)),
                       current=msgspec.structs.replace(MIDDLE_SINCE_90, since_s=99.9))
    assert (decision.switched, decision.reason) == (False, "gain 4% under 5%")


@pytest.mark.parametrize("change", [
    {"worker": "gone"}, {"rung": "kl0.03"}, {"cut": 7}, {"cut": 2}, {"worker": None}])
def test_a_plan_that_is_no_candidate_any_more_is_left_at_once(change):
    current = msgspec.structs.replace(MIDDLE_SINCE_90, since_s=100.0, **change)
    decision = decided(scores(AT_HERE, AT_HERE=1.999), current=current)
    assert decision.switched and what(decision) == (3, "raw", None, False)
    assert decision.reason == "what was in force is not there any more"


def test_racing_or_not_are_two_plans():
    raced = msgspec.structs.replace(MIDDLE_SINCE_90, race=True)
    decision = decided(scores(AT_MIDDLE, AT_MIDDLE_RACED=1.25), current=raced)
    assert decision.switched and decision.reason == "gain 20%"


def test_the_second_best_is_told_and_is_not_the_chosen():
    decision = decided(scores(AT_HERE, AT_LATE=1.1), current=None)
    assert (decision.runner_up.cut, decision.runner_up.score) == (2, 1.1)
    held = decided(scores(AT_HERE, AT_HERE=1.0, AT_MIDDLE=1.02))
    assert not held.switched and held.runner_up.what == "all local"
    alone = decided(scores(AT_HERE), Forbids(tuple(range(6))), current=None)
    assert alone.runner_up is None


def test_where_everything_is_free_nothing_is_gained_by_a_change():
    decision = decided(Scores((0.0,) * 7))
    assert not decision.switched and decision.reason == "gain 0% under 5%"


def test_a_plan_that_promised_to_be_free_may_be_left_too():
    current = msgspec.structs.replace(MIDDLE_SINCE_90, since_s=99.9, promised=0.0)
    decision = decided(scores(AT_HERE), current=current)
    assert decision.switched and decision.reason == "gain 50%"


# -- limits


def test_a_limit_that_forbids_the_plan_in_force_ends_it_at_once():
    current = msgspec.structs.replace(MIDDLE_SINCE_90, since_s=100.0)
    decision = decided(scores(AT_MIDDLE, AT_LATE=1.99), Forbids((AT_MIDDLE,)), current=current)
    assert decision.switched and what(decision) == (2, "raw", "w", False)
    assert decision.reason == f"limit: not ({AT_MIDDLE},)"
    assert decision.limits == (decision.reason,)


def test_limits_that_take_nothing_away_are_not_told():
    decision = decided(scores(AT_HERE), Forbids(()), Forbids((AT_INPUT,)),
                       Forbids((AT_INPUT,), name="second"), current=None)
    assert decision.limits == (f"limit: not ({AT_INPUT},)",)


def test_a_soft_limit_that_nothing_keeps_takes_the_nearest_and_says_so():
    excess = (9.0, 9.0, 5.02, 5.0, 9.0, 9.0, 8.0)
    decision = decided(scores(AT_HERE, AT_MIDDLE=1.5, AT_MIDDLE_RACED=1.9),
                       Forbids(tuple(range(7)), excess, "energy"), current=None)
    assert what(decision) == (1, "kl0.02", "w", False), "within a hundredth of the nearest"
    assert decision.limits == (f"energy: not {tuple(range(7))}, which nothing keeps: the nearest",)


def test_the_nearest_is_of_what_hard_limits_left():
    excess = (1.0, 9.0, 9.0, 9.0, 9.0, 9.0, 8.0)
    decision = decided(scores(AT_INPUT), Forbids(tuple(range(7)), excess, "soft"),
                       Forbids((AT_INPUT,), name="hard", hard=True), current=None)
    assert what(decision) == (3, "raw", None, False)
    assert [said.split(":")[0] for said in decision.limits] == ["hard", "soft"]


def test_limits_compose_in_any_order():
    limits = (Privacy(1), EnergyBudget(), ByteBudget(), Thermal())
    # 3.2 W: 0.1 J a frame. 400 bytes more than cut 2 sends. A duty of a half.
    now = state(battery=Battery(left_wh=3.5 / 0.97), until_s=3600.0, budget_bytes=1400.0,
                budget_s=1.0, temperature_c=75.0, segment_s=(0.1, 0.1, 0.4))
    made = [decided(Latency(), *order, current=None, now=now)
            for order in itertools.permutations(limits)]
    assert {what(d) for d in made} == {(2, "raw", "w", False)}
    assert all(not said.endswith("nearest") for d in made for said in d.limits)


def test_with_the_link_down_everything_runs_here_and_the_reason_is_told():
    down = msgspec.structs.replace(NOW, link_up=False)
    decision = decided(scores(AT_MIDDLE), now=down)
    assert (what(decision), decision.reason) == ((3, "raw", None, False), "link: down")
    assert decision.runner_up is None


def test_and_also_where_the_workers_went_with_it():
    alone = msgspec.structs.replace(NOW, link_up=False, workers=())
    decision = decide(alone, candidates_of(OPTIONS, ()), MIDDLE_SINCE_90, Rules(Scores((1.0,))))
    assert decision.switched and "link: down" in decision.reason
    back = decide(msgspec.structs.replace(alone, link_up=True), candidates_of(OPTIONS, ()),
                  MIDDLE_SINCE_90, Rules(Scores((1.0,))))
    assert "workers: none that holds the bundle" in back.reason


# -- all of it


def test_the_same_state_is_the_same_decision_to_the_byte():
    rules = Rules(Deadline(), (Privacy(), EnergyBudget()), Prices())
    records = {decide(state(battery=Battery(1.0), until_s=3600.0), CANDIDATES, MIDDLE_SINCE_90,
                      rules).to_json() for _ in range(5)}
    assert len(records) == 1
    record = records.pop()
    assert msgspec.json.decode(record, type=Decision).to_json() == record


def test_a_state_comes_back_from_its_record_exactly():
    now = state(battery=Battery(1 / 3, False), scenarios=NOW.scenarios * 3, now_s=0.1 + 0.2)
    back = msgspec.json.decode(msgspec.json.encode(now), type=type(now))
    assert back == now
    rules = Rules(Latency())
    assert decide(back, CANDIDATES, None, rules) == decide(now, CANDIDATES, None, rules)


def test_a_decision_over_hundreds_is_the_least_of_the_allowed():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    names = [f"w{i:02}" for i in range(40)]
    now = state(workers=tuple(worker(n, queue_s=rng.uniform(0, 0.2)) for n in names))
    c = candidates_of(OPTIONS, tuple(names))
    assert len(c) == 241
    given = [rng.uniform(1, 2) for _ in range(len(c))]
    forbidden = tuple(rng.sample(range(len(c)), 150))
    limit = Forbids(forbidden, (0.0,) * len(c))
    decision = decide(now, c, None, Rules(Scores(tuple(given)), (limit,)))
    best, second = sorted(set(range(len(c))) - set(forbidden), key=given.__getitem__)[:2]
    assert (decision.chosen.what, decision.chosen.score) == (c.describe(best), given[best])
    assert decision.runner_up.what == c.describe(second)
    fastest = decide(now, c, None, Rules(Latency()))
    queues = {w.worker: w.queue_s for w in now.workers}
    assert fastest.chosen.worker == min(queues, key=queues.get)


# -- the planner, which remembers


def test_the_planner_holds_what_it_decided():
    planner = Planner(OPTIONS, Rules(scores(AT_MIDDLE)))
    first = planner.rule(NOW)
    assert first.decision.reason.startswith("the first; ")
    assert planner.current == first.decision.current
    again = planner.rule(msgspec.structs.replace(NOW, now_s=101.0))
    assert again.decision.reason == "still the best" and again.candidates is first.candidates
    assert planner.option(again.decision.chosen) == OPTIONS[1]


def test_the_planner_knows_new_workers_at_once():
    planner = Planner(OPTIONS, Rules(Latency()))
    planner.rule(state(workers=()))
    assert planner.current.worker is None
    quick = state(now_s=103.0, workers=(worker("slow", queue_s=0.3), worker("quick")))
    assert planner.rule(quick).decision.chosen.worker == "quick"


def test_two_planners_that_saw_the_same_rule_the_same():
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    one, other = (Planner(OPTIONS, Rules(Latency())) for _ in range(2))
    for i in range(50):
        slower = rng.choice((0.1, 1.0, 10.0))
        now = state(now_s=100.0 + i, scenarios=tuple(
            replace(s, s_per_byte=slower * s.s_per_byte) for s in NOW.scenarios))
        a, b = one.rule(now), other.rule(now)
        assert a.decision.to_json() == b.decision.to_json() and a.probe == b.probe
