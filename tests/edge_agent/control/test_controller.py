"""One round of the controller, and the thread that calls it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import msgspec
import pytest

from edge_agent.belief.beliefs import Beliefs, Outlook
from edge_agent.control.controller import Controller, ControlThread, JournalEntry
from edge_agent.control.decisions import DecisionJournal, Settings, read_journal, state_of
from edge_agent.control.plans import Plans
from edge_agent.frames import Plan
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.inference.workers import Workers
from edge_agent.planner.candidates import options_of
from edge_agent.planner.decide import Decision
from edge_agent.planner.planner import Planner
from edge_agent.planner.state import Battery
from edge_agent.policies.config import CostConfig, PolicyConfig, rules_of
from split_core.errors import InputError
from split_core.wire.records import WorkerStatus
from split_core.wire.rungs import RAW
from tests.edge_agent.planner.making import paper_bundle

BUNDLE = paper_bundle()
POLICY = PolicyConfig(min_cut=1, max_kl=0.08)
OPTIONS = options_of(BUNDLE, POLICY.kl, POLICY.max_kl)
FIRST = Plan(1, 3, RAW)


class World:
    """A controller with what it needs, a link that is as fast as the test says, and notes."""

    def __init__(self, device_s: float = 0.6, write=None):
        self.now_s, self.free_s, self.outlook = 100.0, 0.0, Outlook()
        self.wake = threading.Condition(threading.Lock())     # not to be taken twice
        self.switches_s, self.told = [], []
        times = SegmentTimes(3, [device_s * share for share in (1 / 6, 1 / 3, 1 / 2)])
        self.beliefs = Beliefs(BUNDLE, OPTIONS, times, deadline_s=1.0, encode_s={})
        self.beliefs.workers.on_profile("w", (0.06, 0.05, 0.03, 0.0))
        self.beliefs.round_trip.add(0.04, 100.0)
        self.workers = Workers("device")
        self.workers.on_status("w", WorkerStatus("ready", "s", (BUNDLE.id_hex,)))
        gate = SimpleNamespace(on_switch=self.switches_s.append)
        self.node = SimpleNamespace(is_up=True, backlog_bytes=0)
        self.plans = Plans(BUNDLE, FIRST)
        rules = rules_of(POLICY, CostConfig())
        self.controller = Controller(
            self.beliefs, Planner(OPTIONS, rules), self.plans,
            SimpleNamespace(workers=self.workers, bundle=BUNDLE, gate=gate, node=self.node),
            self.wake, outlook=lambda: self.outlook,
            next_frame=lambda: (self.free_s, None), on_plan=self.on_plan, write=write,
            clock=lambda: self.now_s)

    def on_plan(self, plan, ruling) -> None:
        with self.wake:               # waits for ever if the lock is held
            self.told.append((plan, ruling))

    def transfer(self, s_per_byte: float) -> None:
        """One of a thousand bytes, just ended."""
        self.beliefs.transfers.on_sent(1, 1000, self.now_s)
        self.now_s += 1000 * s_per_byte
        self.beliefs.transfers.on_answer(1, 0.0, 0.0, self.now_s)


def test_a_decision_becomes_the_plan_in_force():
    world = World()
    world.transfer(1e-6)
    ruling = world.controller.tick()
    plan = world.plans.current
    assert (plan.cut, plan.rung.name, plan.coarsest.name, plan.worker) == (
        1, "kl0.02", "kl0.08", "w")
    assert plan.plan_id > FIRST.plan_id and plan.reason.startswith(
        "the first; privacy: no cut before op 1; latency: the best of 7, 20")
    assert world.told == [(plan, ruling)] and world.controller.last is ruling
    # On the good scenario: 100 here, 40 of round trip, 50 there, and 2 ms for 2170 bytes.
    assert world.plans.expected_s == pytest.approx(
        1e-3 * ruling.decision.chosen.costs["mean_ms"])
    assert 0.19 < world.plans.expected_s < 0.23
    assert world.switches_s == [world.plans.expected_s]
    assert world.plans.step(plan, 0.9, (0, 0.0)) == 32, "its steps can be chosen from now on"


def test_a_plan_that_stays_is_not_handed_over_again_but_believed_anew():
    world = World()
    world.transfer(1e-6)
    world.controller.tick()
    plan, expected_s = world.plans.current, world.plans.expected_s
    world.now_s += 3.0
    world.beliefs.workers.on_load("w", 0.02, 0.0)
    ruling = world.controller.tick()
    assert not ruling.decision.switched and world.plans.current is plan
    assert world.plans.switches == len(world.told) == len(world.switches_s) == 1
    assert world.plans.expected_s > expected_s + 0.01
    assert ruling.decision.reason == "still the best"


def test_what_the_interpreter_still_does_is_in_the_prediction():
    world = World()
    world.transfer(1e-6)
    world.controller.tick()
    soon_s = world.plans.expected_s
    world.free_s = world.now_s + 0.1
    world.controller.tick()
    assert world.plans.expected_s == pytest.approx(soon_s + 0.1)


def test_a_lost_link_is_all_local_until_it_is_back():
    world = World()
    world.transfer(1e-6)
    world.controller.tick()
    world.node.is_up = False
    world.workers.forget_all()
    world.controller.tick()
    assert world.plans.current.cut == 3 and world.plans.current.worker is None
    assert "link: down" in world.plans.current.reason
    assert world.plans.current.coarsest is None and not world.plans.current.race


def test_only_workers_that_hold_the_bundle_are_asked():
    world = World()
    world.workers.on_status("w", WorkerStatus("ready", "s", ()))
    assert world.controller.tick().decision.chosen.what == "all local"
    assert world.plans.current.worker is None


def test_a_probe_is_for_one_frame():
    world = World()
    world.transfer(5e-3)                          # 5 s for a kilobyte: nothing to be sent there
    ruling = world.controller.tick()
    assert world.plans.current.cut == 3 and ruling.probe is not None
    probe = world.plans.peek()
    assert (probe.cut, probe.race, probe.worker) == (2, True, "w")
    assert probe.reason == ruling.probe.reason and probe.plan_id > world.plans.current.plan_id
    world.plans.used(probe)
    world.controller.tick()
    assert world.plans.peek() is world.plans.current, "the next one waits"


def test_everybody_who_waits_is_woken():
    world = World()
    waiting, woken = threading.Event(), threading.Event()

    def wait() -> None:
        with world.wake:
            waiting.set()
            if world.wake.wait(10):
                woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(10)
    world.controller.tick()
    thread.join(10)
    assert woken.is_set()


def test_sensors_reach_the_decision():
    world = World()
    world.transfer(1e-6)
    world.outlook = Outlook(Battery(None, False), until_s=3600.0)
    decision = world.controller.tick().decision
    assert decision.limits[-1] == "energy: battery unknown, which nothing keeps: the nearest"


def test_a_journal_entry_holds_all_that_the_decision_was_made_from(tmp_path):
    journal = DecisionJournal(msgspec.structs.replace(POLICY, journal=str(tmp_path / "d.jsonl")),
                              CostConfig(), BUNDLE, OPTIONS)
    world = World(write=journal.write)
    world.transfer(5e-3)
    rulings = [world.controller.tick()]
    for _ in range(6):
        world.now_s += 4.0
        world.transfer(1e-6)
        rulings.append(world.controller.tick())
    journal.close()
    (_, settings), *entries = read_journal(tmp_path / "d.jsonl")
    assert isinstance(settings, Settings) and settings.options == OPTIONS
    again = Planner(settings.options, rules_of(settings.policy, settings.cost))
    assert len(entries) == len(rulings)
    assert any(r.probe is not None for r in rulings) and len({
        r.decision.chosen.what for r in rulings}) > 1
    for (_, entry), ruling in zip(entries, rulings):
        assert bytes(entry.decision) == ruling.decision.to_json()
        assert msgspec.json.decode(entry.decision, type=Decision) == ruling.decision
        repeated = again.rule(state_of(entry))
        assert repeated.decision.to_json() == bytes(entry.decision)
        assert msgspec.json.encode(repeated.probe) == bytes(entry.probe)


def test_a_journal_that_was_cut_off_is_read_up_to_there(tmp_path):
    path = tmp_path / "d.jsonl"
    journal = DecisionJournal(msgspec.structs.replace(POLICY, journal=str(path)), CostConfig(),
                              BUNDLE, OPTIONS)
    world = World(write=journal.write)
    world.controller.tick()
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-100:-20])
    lines = [line for _, line in read_journal(path)]
    assert [type(line) for line in lines] == [Settings, JournalEntry]
    path.write_bytes(whole + b"{}\n" + whole)
    with pytest.raises(InputError, match="line 3"):
        list(read_journal(path))


# -- the thread


class Ticks:
    """Counts calls; each can be waited for, and may be held up or fail."""

    def __init__(self, error: BaseException | None = None):
        self._calls, self._error = threading.Semaphore(0), error
        self.fatal: list[BaseException] = []
        self.died = threading.Event()

    def __call__(self) -> None:
        self._calls.release()
        if self._error is not None:
            raise self._error

    def on_fatal(self, error: BaseException) -> None:
        self.fatal.append(error)
        self.died.set()

    def came(self) -> bool:
        return self._calls.acquire(timeout=10)


@pytest.fixture
def patient(monkeypatch):
    """Nothing happens by itself."""
    monkeypatch.setattr(ControlThread, "EVERY_S", 3600.0)
    monkeypatch.setattr(ControlThread, "LEAST_S", 0.0)


def test_a_poke_leads_to_a_tick_and_so_does_the_next(patient):
    ticks = Ticks()
    thread = ControlThread(ticks, ticks.on_fatal)
    thread.start()
    for _ in range(3):
        thread.poke()
        assert ticks.came()
    thread.stop()
    assert not thread._thread.is_alive() and not ticks.fatal


def test_a_poke_before_the_start_is_not_lost(patient):
    ticks = Ticks()
    thread = ControlThread(ticks, ticks.on_fatal)
    thread.poke()
    thread.start()
    assert ticks.came()
    thread.stop()


def test_it_ticks_by_itself_every_so_often(monkeypatch):
    monkeypatch.setattr(ControlThread, "EVERY_S", 0.001)
    monkeypatch.setattr(ControlThread, "LEAST_S", 0.0)
    ticks = Ticks()
    thread = ControlThread(ticks, ticks.on_fatal)
    thread.start()
    assert ticks.came() and ticks.came()
    thread.stop()


def test_a_tick_that_raises_is_fatal_once(patient):
    ticks = Ticks(ZeroDivisionError("a mistake"))
    thread = ControlThread(ticks, ticks.on_fatal)
    thread.start()
    thread.poke()
    assert ticks.died.wait(10) and str(ticks.fatal[0]) == "a mistake"
    thread.poke()
    thread.stop()
    assert len(ticks.fatal) == 1 and not thread._thread.is_alive()


def test_stop_ends_it_in_the_middle_of_a_pause_without_another_tick(monkeypatch):
    monkeypatch.setattr(ControlThread, "EVERY_S", 3600.0)
    monkeypatch.setattr(ControlThread, "LEAST_S", 3600.0)
    ticks = Ticks()
    thread = ControlThread(ticks, ticks.on_fatal)
    thread.start()
    thread.poke()
    assert ticks.came()
    thread.poke()
    thread.stop()
    assert not thread._thread.is_alive()
    assert not ticks._calls.acquire(blocking=False)


def test_one_that_never_started_can_be_stopped(patient):
    ticks = Ticks()
    ControlThread(ticks, ticks.on_fatal).stop()
