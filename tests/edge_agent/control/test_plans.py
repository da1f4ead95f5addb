"""The plan in force, the one frame that goes another way, and what its step is chosen by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.control.plans import Plans
from edge_agent.control.step import StepBelief
from edge_agent.frames import Plan
from split_core.wire.rungs import RAW, Rung
from tests.edge_agent.planner.making import paper_bundle

FIRST = Plan(7, 3, RAW)
RANGED = Plan(8, 1, Rung.parse("kl0.02"), coarsest=Rung.parse("kl0.08"))
PROBE = Plan(9, 1, Rung.parse("kl0.005"), coarsest=Rung.parse("kl0.02"), race=True)
BELIEF = StepBelief(1e-4, 0.2)
NOTHING = 0, 0.0                      # waits


@pytest.fixture
def plans() -> Plans:
    return Plans(paper_bundle(), FIRST)


def test_the_first_is_in_force_until_a_switch(plans):
    assert (plans.peek(), plans.current, plans.switches) == (FIRST, FIRST, 0)
    plans.switch(RANGED, 0.25)
    assert (plans.peek(), plans.current) == (RANGED, RANGED)
    assert (plans.switches, plans.expected_s) == (1, 0.25)


def test_ids_grow_from_the_first(plans):
    assert [plans.next_id() for _ in range(3)] == [8, 9, 10]
    plans.switch(replace(RANGED, plan_id=10))
    assert plans.next_id() == 11


def test_a_probe_is_for_one_frame(plans):
    plans.probe(PROBE)
    assert plans.peek() is PROBE and plans.peek() is PROBE, "looking uses nothing up"
    assert plans.current is FIRST
    plans.used(PROBE)
    assert plans.peek() is FIRST
    plans.used(FIRST)
    assert plans.peek() is FIRST


def test_a_frame_that_was_begun_with_another_plan_leaves_the_probe(plans):
    plans.probe(PROBE)
    plans.used(FIRST)
    assert plans.peek() is PROBE


def test_a_switch_clears_the_probe(plans):
    plans.probe(PROBE)
    plans.switch(RANGED)
    assert plans.peek() is RANGED


def test_without_a_belief_a_frame_is_coded_as_its_rung_says(plans):
    plans.switch(RANGED)
    assert plans.step(RANGED, 0.0, NOTHING) is None
    plans.believe(RANGED, BELIEF)
    assert plans.step(RANGED, 0.0, NOTHING) == 64
    assert plans.step(RANGED, 9.0, NOTHING) == 32
    assert plans.step(RANGED, 9.0, (10**9, 0.0)) == 64


def test_a_probe_has_a_belief_and_bounds_of_its_own(plans):
    plans.switch(RANGED)
    plans.believe(RANGED, BELIEF)
    plans.probe(PROBE)
    assert plans.step(PROBE, 9.0, NOTHING) is None
    plans.believe(PROBE, BELIEF)
    plans.used(PROBE)                 # its step is chosen when its head has run, after that
    assert plans.step(PROBE, 9.0, NOTHING) == 0 and plans.step(PROBE, 0.0, NOTHING) == 32
    assert plans.step(RANGED, 9.0, NOTHING) == 32


def test_a_newer_belief_counts_at_once(plans):
    plans.switch(RANGED)
    plans.believe(RANGED, BELIEF)
    plans.believe(RANGED, StepBelief(10.0, 0.2))
    assert plans.step(RANGED, 9.0, NOTHING) == 64


def test_what_was_believed_of_the_last_plan_is_not_of_this_one(plans):
    plans.switch(RANGED)
    plans.believe(RANGED, BELIEF)
    plans.switch(PROBE)
    assert plans.step(PROBE, 0.0, NOTHING) is None and plans.step(RANGED, 0.0, NOTHING) is None


@pytest.mark.parametrize("plan", [
    FIRST, replace(RANGED, coarsest=None), replace(RANGED, cut=2),
    Plan(8, 0, Rung.parse("jpeg70"), coarsest=Rung.parse("jpeg50"))])
def test_where_there_is_nothing_to_choose_there_is_no_step(plans, plan):
    plans.switch(plan)
    plans.believe(plan, BELIEF)
    assert plans.step(plan, 0.0, NOTHING) is None and plans.asked(plan) is None


def test_what_a_rung_asks_for(plans):
    assert (plans.asked(RANGED), plans.asked(PROBE)) == (32, 0)


def test_probes_leave_nothing_behind(plans):
    plans.switch(RANGED)
    plans.believe(RANGED, BELIEF)
    asked = plans.step(RANGED, 1e9, NOTHING)
    for plan_id in range(10, 110):
        probe = replace(PROBE, plan_id=plan_id)
        plans.probe(probe)
        plans.believe(probe, BELIEF)
        assert plans.step(probe, 1e9, NOTHING) is not None
    assert (len(plans._beliefs), len(plans._ranges)) == (2, 2)
    assert plans.step(RANGED, 1e9, NOTHING) == asked, "the plan in force keeps its own"


def test_two_that_work_side_by_side_give_no_id_twice(plans):
    following = Plans(paper_bundle(), replace(RANGED, plan_id=plans.next_id()), plans)
    ids = [plans.next_id(), following.next_id(), plans.next_id(), following.next_id()]
    assert ids == [9, 10, 11, 12]
