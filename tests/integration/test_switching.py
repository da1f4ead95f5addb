"""Plans change under running frames: none is lost, repeated or late for it, and each is answered
under the plan that it was begun with.

While one agent is switched through every plan of a bundle, another keeps the worker busy.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, ModelConfig
from edge_agent.frames import Answer, Outcome, Plan
from edge_agent.planner.candidates import Option, options_of
from edge_agent.sensors import SensorsConfig
from split_core.errors import BundleError, ConfigError
from split_core.model.runner import Runner
from tests.support.rig import Device, Rig, wait_until

SEED = 31
# Nobody should be late on a worker that shares two cores with everything else here.
DEADLINE_MS = 3000.0
WAIT_S = 10.0


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


class Feeder:
    """Hands in one frame after another and keeps every answer."""

    def __init__(self, device: Device):
        self.device, self.answers = device, {}
        self._wholes = [_whole(device.agent, i) for i in device.inputs]

    def frame(self) -> Answer:
        """The next frame's answer, waited for."""
        device = self.device
        frame_id = device.offer()
        device.history.wait(lambda: frame_id in device.history.answers, WAIT_S,
                            f"frame {frame_id}")
        return device.history.answers.pop(frame_id)

    def is_exact(self, answer: Answer) -> bool:
        """Whether it is the whole model's, bit by bit."""
        whole = self._wholes[(answer.frame_id - 1) % len(self._wholes)]
        return all(np.array_equal(whole[n], a) for n, a in answer.outputs.items())


def _whole(agent: EdgeAgent, inputs) -> dict[str, np.ndarray]:
    made = Runner(agent.bundle).run(dict(inputs), 0, agent.bundle.last_cut)
    return {n: made[n] for n in agent.bundle.manifest.outputs}


@contextlib.contextmanager
def busy_worker(rig: Rig, bundle) -> Iterator[Device]:
    """Another agent's frames, one after another, until the end."""
    other = rig.device(bundle, device_id="load", cut=1, rung="raw", deadline_ms=DEADLINE_MS)
    stop, broken = threading.Event(), []

    def load() -> None:
        try:
            while not stop.is_set():
                frame_id = other.offer()
                # One at a time, so the last end is this frame's.
                other.history.wait(lambda: other.history.ends
                                   and other.history.ends[-1].frame_id == frame_id, WAIT_S,
                                   f"frame {frame_id}")
        except BaseException as e:
            broken.append(e)

    thread = threading.Thread(target=load, name="load")
    thread.start()
    try:
        yield other
    finally:
        stop.set()
        thread.join(2 * WAIT_S)
    assert not broken, broken
    assert not thread.is_alive()


def switch_through(rig: Rig, bundle, switches: int) -> None:
    """Every plan follows every other sooner or later; each has one to three frames."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    device = rig.device(bundle, cut=0, rung="raw", keep_outputs=True, deadline_ms=DEADLINE_MS)
    agent, feeder = device.agent, Feeder(device)
    options = options_of(agent.bundle, 0.02, 0.05)
    assert {"kl0.02", "q4", "raw"} < {o.rung for o in options}
    sent, used = 0, set()
    with busy_worker(rig, bundle) as other:
        option = options[0]
        for _ in range(switches):
            option = rng.choice([o for o in options if o is not option])
            plan = agent.set_plan(option.cut, option.rung)
            for _ in range(rng.randrange(1, 4)):
                answer = feeder.frame()
                sent += 1
                used.add((answer.cut, answer.rung))
                check(answer, plan, option, feeder)
        assert len(other.history.ends) > switches / 4, "the worker was busy meanwhile"
    device.history.check_all_answered_in_time(agent)
    other.history.check_all_answered_in_time(other.agent)
    assert len(device.history.ends) == sent
    assert agent.ledger.late_results == 0, "no answer came twice"
    assert used == {(o.cut, o.rung) for o in options}
    # Local answers are those of the plan without a worker; the worker answers the others.
    outcomes = device.history.outcomes()
    print(dict(outcomes))
    assert outcomes[Outcome.FALLBACK] == 0


def check(answer: Answer, plan: Plan, option: Option, feeder: Feeder) -> None:
    assert (answer.plan_id, answer.cut, answer.rung) == (plan.plan_id, option.cut, option.rung)
    here = option.cut == feeder.device.agent.bundle.last_cut
    assert answer.outcome is (Outcome.LOCAL if here else Outcome.REMOTE), answer.reason
    if option.rung == "raw":
        assert feeder.is_exact(answer), option.name


def test_two_hundred_switches(rig, layered):
    rig.worker()
    switch_through(rig, layered.bundle, 200)


@pytest.mark.check
def test_ten_thousand_switches(rig, layered):
    rig.worker()
    switch_through(rig, layered.bundle, 10_000)


def test_frames_under_way_end_under_their_own_plans(rig, layered):
    """Frames come as fast as they can, and the plan changes between any two."""
    seed = 32
    print(f"seed {seed}")
    rng = random.Random(seed)
    rig.worker()
    device = rig.device(layered.bundle, cut=5, rung="raw", keep_outputs=True,
                        deadline_ms=DEADLINE_MS)
    agent = device.agent
    options = options_of(agent.bundle, 0.02, 0.05)
    plans = {agent.plan.plan_id: (agent.plan.cut, agent.plan.rung.name)}
    feeder = Feeder(device)
    for _ in range(120):
        option = rng.choice(options)
        plan = agent.set_plan(option.cut, option.rung)
        plans[plan.plan_id] = option.cut, option.rung
        for _ in range(rng.randrange(1, 4)):
            # Begun, not answered: several are on the way.
            device.offer()
            wait_until(lambda: agent.deployment._mailbox is None, WAIT_S, "a frame that begins")
        history = device.history
        history.wait(lambda: len(history.offered) - len(history.ends) <= 2, WAIT_S, "answers")
    device.history.check_all_answered_in_time(agent)
    answers = list(device.history.answers.values())
    for answer in answers:
        assert plans[answer.plan_id] == (answer.cut, answer.rung)
        if answer.rung == "raw":
            assert feeder.is_exact(answer)
    ids = [a.plan_id for a in answers]
    assert ids != sorted(ids), "a frame of a later plan was answered before one of an earlier"


REFUSED = [
    (99, "raw", BundleError, "has no cut 99"),
    (-1, "raw", BundleError, "has no cut -1"),
    (5, "kl0.02", ConfigError, "calibrated at cut 5"),
    (5, "b2500", ConfigError, "calibrated at cut 5"),
    (5, "jpeg90", ConfigError, "is for cut 0"),
    (1, "z9", ConfigError, "z9"),
]


def test_a_plan_that_cannot_be_leaves_the_old_one(rig, layered):
    rig.worker()
    device = rig.device(layered.bundle, cut=1, rung="q4", keep_outputs=True,
                        deadline_ms=DEADLINE_MS)
    feeder, before = Feeder(device), device.agent.plan
    assert feeder.frame().plan_id == before.plan_id
    for cut, rung, error, words in REFUSED:
        with pytest.raises(error, match=words):
            device.agent.set_plan(cut, rung)
        assert device.agent.plan is before
        answer = feeder.frame()
        assert (answer.plan_id, answer.cut, answer.rung, answer.outcome) == (
            before.plan_id, 1, "q4", Outcome.REMOTE)
    # And what is refused uses up nothing: the next plan is as good as ever.
    plan = device.agent.set_plan(1, "kl0.02")
    assert plan.plan_id > before.plan_id and feeder.frame().plan_id == plan.plan_id


def test_an_agent_that_plans_for_itself_takes_no_plan(layered, tmp_path):
    (tmp_path / "no-sensors").mkdir()
    agent = EdgeAgent(AgentConfig(
        ModelConfig(str(layered.bundle)), id="self", state_dir=str(tmp_path / "state"),
        sensors=SensorsConfig(root=str(tmp_path / "no-sensors"), battery="none")))
    before = agent.plan
    with pytest.raises(ConfigError, match="plans for itself"):
        agent.set_plan(1, "raw")
    assert agent.plan is before


def test_every_plan_is_told_to_who_listens(rig, layered):
    rig.worker()
    device = rig.device(layered.bundle, cut=1, rung="raw", deadline_ms=DEADLINE_MS)
    plan = device.agent.set_plan(5, "q4", "worker-1")
    topic = rig.topics.device_up("device-1", "plan")
    told = rig.observer.wait(
        lambda s: s.topic == topic and s.record.get("plan_id") == plan.plan_id, WAIT_S,
        "the plan's record").record
    assert (told["cut"], told["rung"], told["worker"], told["reason"]) == (
        5, "q4", "worker-1", "set")
