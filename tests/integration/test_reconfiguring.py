"""Settings and models change under running frames: none is lost, each is answered by one model,
and what cannot be leaves everything as it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from edge_agent.control.adaptation import Adaptation
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig, ResultConfig
from edge_agent.control.decisions import read_moments
from edge_agent.frames import Outcome
from edge_agent.observers.base import Observer
from edge_agent.whatif.replay import check as replay
from edge_agent.policies.config import PolicyConfig
from edge_agent.sensors import SensorsConfig
from edge_agent.settings import changes
from split_core.config import BrokerConfig
from split_core.errors import BundleError, ConfigError, InputError, SplitError
from split_core.model.bundle import open_bundle
from split_core.model.runner import Runner
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.history import History
from tests.support.rig import Device, Rig, wait_until

WAIT_S = 20.0
RATE_HZ = 40.0
replace = msgspec.structs.replace


class Seen(Observer):
    """What an observer was told."""

    def __init__(self):
        self.configs, self.models, self.plans, self.answers = [], [], [], []

    def on_config(self, config):
        self.configs.append(config)

    def on_model(self, bundle):
        self.models.append(bundle.id_hex)

    def on_plan(self, plan, ruling):
        self.plans.append(plan)

    def on_answer(self, answer):
        self.answers.append(answer)


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """The camera's model with other weights, and one whose picture is smaller."""
    folder = tmp_path_factory.mktemp("others")
    found = {}
    for name, data in (("weights", tiny_models.camera_model(seed=7)),
                       ("small", tiny_models.skip_model())):
        model = folder / f"{name}.tflite"
        model.write_bytes(data)
        found[name] = folder / f"{name}.split.tflite"
        found[name].write_bytes(split_model(model, cuts="all"))
    return found


@pytest.fixture
def device_of(rig, tmp_path):
    """Agents that are stopped at the end."""
    agents = []

    def make(bundle, **sections) -> tuple[Device, Seen]:
        (tmp_path / "no-sensors").mkdir(exist_ok=True)
        sections = {"plan": PlanConfig(cut=1, rung="raw"),
                    "frame": FrameConfig(deadline_ms=3000.0)} | sections
        config = AgentConfig(
            model=ModelConfig(str(bundle)), id="device-1", broker=BrokerConfig(url=rig.url),
            sensors=SensorsConfig(root=str(tmp_path / "no-sensors"), battery="none"),
            state_dir=str(tmp_path / "state"), **sections)
        history, seen = History(keep_outputs=True), Seen()
        agent = EdgeAgent(config, on_answer=history.on_answer)
        agent.attach(seen)
        agents.append(agent)
        agent.start()
        return Device(agent, history, seed=20), seen

    yield make
    for agent in agents:
        agent.stop()


def outputs_by(path, inputs) -> list[dict[str, np.ndarray]]:
    bundle = open_bundle(path)
    runner = Runner(bundle)
    return [{n: a for n, a in runner.run(dict(i), 0, bundle.last_cut).items()
             if n in bundle.manifest.outputs} for i in inputs]


def check_none_lost(device: Device) -> None:
    """Every frame ended once, in time, and none for want of who would run it. On a machine that has
    other work one may make room for the next."""
    device.history.check(device.agent)
    bad = [e for e in device.history.ends if e.late or e.outcome == Outcome.FAILED
           or (e.outcome == Outcome.DROPPED and e.reason != "newer frame came")]
    assert not bad, "\n".join(map(str, bad))


def is_one_of(answer, made) -> bool:
    return any(all(np.array_equal(m[n], a) for n, a in answer.outputs.items()) for m in made)


def test_another_model_takes_over_between_two_frames(rig, device_of, camera, others):
    rig.worker()
    device, seen = device_of(camera.bundle)
    device.wait_until_ready()
    agent = device.agent
    old_id, threads = agent.bundle.id_hex, threading.active_count()
    with device.feeding(RATE_HZ):
        device.wait_for_frames(20, WAIT_S)
        config = replace(agent.config, model=ModelConfig(str(others["weights"])))
        assert agent.reconfigure(config) == ()
        swapped = len(device.history.ends)
        device.wait_until_ready()
        device.wait_for_frames(20, WAIT_S)
    history = device.history
    history.wait(lambda: len(history.offered) == len(history.ends), WAIT_S, "all answers")
    check_none_lost(device)
    assert agent.bundle.id_hex != old_id and seen.models == [agent.bundle.id_hex]
    answers = [history.answers[i] for i in sorted(history.answers)]
    assert {a.outcome for a in answers} <= {Outcome.REMOTE, Outcome.FALLBACK, Outcome.DROPPED}
    assert [a for a in answers[swapped:] if a.outcome is Outcome.REMOTE], "the new one is remote"
    # Each is the whole answer of one model: first all of the old one, then all of the new one.
    old, new = (outputs_by(p, device.inputs) for p in (camera.bundle, others["weights"]))
    answered = [a for a in answers if a.outputs is not None]
    by_new = [is_one_of(a, new) for a in answered]
    assert all(n or is_one_of(a, old) for n, a in zip(by_new, answered))
    assert by_new == sorted(by_new) and 0 < sum(by_new) < len(by_new)
    wait_until(lambda: threading.active_count() <= threads, WAIT_S, "the old threads' end")
    record = rig.observer.on(rig.topics.device_up("device-1", "info"))[-1].record
    assert record["bundle"] == agent.bundle.id_hex


def test_frames_of_the_old_shape_are_finished_by_the_old_model(device_of, camera, others):
    device, _ = device_of(camera.bundle, plan=PlanConfig())
    agent = device.agent
    rng = np.random.default_rng(3)
    small = {"image": rng.random((1, 8, 8, 3), np.float32)}
    stop, offered = threading.Event(), []

    def feed():
        while not stop.is_set():
            for frame in (device.inputs[0], small):
                try:
                    agent.prepare(frame)
                except SplitError:
                    continue                 # of the other model
                offered.append(agent.offer(frame))
            time.sleep(0.01)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        time.sleep(0.2)
        agent.reconfigure(replace(agent.config, model=ModelConfig(str(others["small"]))))
        time.sleep(0.2)
    finally:
        stop.set()
        thread.join(WAIT_S)
    history = device.history
    history.wait(lambda: len(history.ends) >= len(offered), WAIT_S, "all answers")
    sizes = [len(history.answers[i].outputs["scores"][0]) for i in offered
             if history.answers[i].outputs is not None]
    assert sizes == sorted(sizes, reverse=True) and set(sizes) == {10, 5}
    # At the moment of the swap a frame may have been looked at by one and prepared by the other.
    failed = [history.answers[i] for i in offered if history.answers[i].outcome is Outcome.FAILED]
    assert len(failed) <= 1


def test_state_goes_on_where_it_was(device_of, counter):
    device, seen = device_of(counter.bundle, plan=PlanConfig(cut=3))
    agent = device.agent
    ones = {"in/x": np.ones((1, 4), np.float32)}
    found = [agent.infer(ones).outputs["raw_outputs/sum"][0, 0] for _ in range(2)]
    agent.reconfigure(replace(agent.config, model=replace(agent.config.model, threads=2)))
    found += [agent.infer(ones).outputs["raw_outputs/sum"][0, 0] for _ in range(2)]
    assert found == [1.0, 2.0, 3.0, 4.0]
    assert len(seen.models) == 1


def test_a_file_that_was_replaced_is_loaded_only_when_asked_to(device_of, camera, others, tmp_path):
    path = tmp_path / "model.split.tflite"
    path.write_bytes(camera.bundle.read_bytes())
    device, seen = device_of(path)
    agent, first = device.agent, device.agent.bundle.id_hex
    part = tmp_path / "part"
    part.write_bytes(others["weights"].read_bytes())
    part.rename(path)
    agent.reconfigure(agent.config)
    assert agent.bundle.id_hex == first
    agent.reconfigure(agent.config, reread_model=True)
    assert agent.bundle.id_hex != first and seen.models == [agent.bundle.id_hex]
    agent.reconfigure(agent.config, reread_model=True)
    assert len(seen.models) == 1


def test_what_cannot_be_leaves_everything_as_it_was(rig, device_of, camera, layered, tmp_path):
    rig.worker()
    device, seen = device_of(camera.bundle)
    device.wait_until_ready()
    agent = device.agent
    before, plan, deployment = agent.config, agent.plan, agent.deployment
    damaged = tmp_path / "damaged.split.tflite"
    data = bytearray(camera.bundle.read_bytes())
    data[-1000] ^= 1
    damaged.write_bytes(data)
    threads = threading.active_count()
    for error, words, changed in (
            (BundleError, "no such file", {"model": ModelConfig(str(tmp_path / "none"))}),
            (BundleError, "damaged", {"model": ModelConfig(str(damaged))}),
            (BundleError, "has no cut 99", {"plan": PlanConfig(cut=99)}),
            (ConfigError, "calibrated at cut 5", {"plan": PlanConfig(cut=5, rung="kl0.02")}),
            (ConfigError, "min_cut", {"policy": PolicyConfig(min_cut=3)}),
            (ConfigError, "deadline_ms", {"frame": FrameConfig(deadline_ms=-1)}),
            (ConfigError, "soft_c", {"policy": PolicyConfig(soft_c=90)}),
            (ConfigError, "cannot write the journal", {
                "result": ResultConfig(journal=str(tmp_path)), "plan": PlanConfig(cut=5)}),
            # Loads, but its own plan is none of that bundle's.
            (BundleError, "has no cut 20", {"model": ModelConfig(str(layered.bundle)),
                                           "plan": PlanConfig(cut=20, rung="raw")})):
        with device.feeding(RATE_HZ):
            with pytest.raises(error, match=words):
                agent.reconfigure(replace(before, **changed))
            device.wait_for_frames(3, WAIT_S)
        assert agent.config is before and agent.plan is plan and agent.deployment is deployment
    history = device.history
    history.wait(lambda: len(history.offered) == len(history.ends), WAIT_S, "all answers")
    assert {a.outcome for a in history.answers.values()} <= {Outcome.REMOTE, Outcome.DROPPED}
    assert not seen.configs and not seen.models
    assert threading.active_count() <= threads
    # And it still can.
    agent.reconfigure(replace(before, plan=PlanConfig(cut=5, rung="raw")))
    assert agent.infer(device.inputs[0]).cut == 5 and agent.deployment is deployment


def test_keys_that_take_a_restart_are_named_and_left(device_of, camera, rig):
    device, seen = device_of(camera.bundle)
    agent = device.agent
    before = agent.config
    wanted = replace(
        before, id="other", broker=replace(before.broker, url="mqtt://127.0.0.1:1", keepalive_s=9),
        frame=FrameConfig(deadline_ms=500.0))
    assert set(agent.reconfigure(wanted)) == {"id", "broker.url", "broker.keepalive_s"}
    assert agent.config == replace(before, frame=FrameConfig(deadline_ms=500.0))
    info = rig.topics.device_up("device-1", "info")
    wait_until(lambda: [s.record["deadline_ms"] for s in rig.observer.on(info)][-1:] == [500],
               WAIT_S, "the retained record to say so")
    assert seen.configs == [agent.config]
    assert changes(agent.config, wanted)[1] == ("id", "broker.url", "broker.keepalive_s")


def test_other_rules_know_the_link_already(rig, device_of, layered, tmp_path):
    rig.worker()
    journal = tmp_path / "decisions.jsonl"
    device, seen = device_of(layered.bundle, plan=PlanConfig(),
                             policy=PolicyConfig(journal=str(journal), mb_per_day=100.0))
    agent = device.agent
    device.wait_until_ready()
    with device.feeding(RATE_HZ):
        device.wait_for_frames(40, WAIT_S)
        transfers = agent.adaptation.beliefs.transfers
        bps = agent.adaptation.beliefs.bps(time.monotonic())
        agent.reconfigure(replace(agent.config, policy=replace(
            agent.config.policy, kl=0.03, aim="deadline", slack_price=1e6)))
        assert agent.adaptation.beliefs.transfers is transfers
        assert agent.adaptation.beliefs.bps(time.monotonic()) == pytest.approx(bps, rel=0.5)
        assert agent.adaptation.beliefs.options[1].rung in ("raw", "kl0.03", "q4", "jpeg90")
        device.wait_for_frames(40, WAIT_S)
        # A floor that was raised binds at once.
        agent.reconfigure(replace(agent.config, policy=replace(agent.config.policy, min_cut=5)))
        floor_from = len(device.history.ends)
        device.wait_for_frames(20, WAIT_S)
    history = device.history
    history.wait(lambda: len(history.offered) == len(history.ends), WAIT_S, "all answers")
    check_none_lost(device)
    begun = sorted(history.answers)[floor_from + 4:]
    assert all(history.answers[i].cut >= 5 for i in begun)
    agent.stop()
    found = replay(str(journal))
    assert found.difference is None and found.decisions > 3


def test_the_decisions_of_two_models_stand_apart_in_the_journal(device_of, camera, layered,
                                                                 tmp_path, monkeypatch):
    journal = tmp_path / "decisions.jsonl"
    device, _ = device_of(camera.bundle, plan=PlanConfig(),
                          policy=PolicyConfig(journal=str(journal), mb_per_day=100.0))
    agent, old = device.agent, device.agent.deployment
    # What the old one has begun takes it another second, in which it must decide no more.
    busy_until_s = time.monotonic() + 2.5
    monkeypatch.setattr(type(old), "is_idle", property(
        lambda self: self is not old or time.monotonic() > busy_until_s))
    agent.reconfigure(replace(agent.config, model=ModelConfig(str(layered.bundle))))
    wait_until(lambda: len(list(read_moments(str(journal)))) > 5, WAIT_S, "decisions")
    agent.stop()
    found = replay(str(journal))
    assert found.difference is None
    options = [len(m.settings.options) for m in read_moments(str(journal))]
    assert sum(a != b for a, b in pairwise(options)) == 1, "first one model's, then the other's"


def test_who_was_to_be_replaced_decides_again_if_the_other_cannot(device_of, camera, layered,
                                                                  monkeypatch):
    device, _ = device_of(camera.bundle, plan=PlanConfig())
    agent, old = device.agent, device.agent.deployment

    def fail(self):
        raise ConfigError("it decides nothing")

    with monkeypatch.context() as patch:
        patch.setattr(Adaptation, "start", fail)
        patch.setattr(old, "decide_again", lambda: None)
        with pytest.raises(ConfigError, match="it decides nothing"):
            agent.reconfigure(replace(agent.config, model=ModelConfig(str(layered.bundle))))
    assert agent.deployment is old and agent.adaptation.stopped
    old.decide_again()
    assert not agent.adaptation.stopped
    wait_until(lambda: agent.adaptation.controller.last is not None, WAIT_S, "a decision")


def test_between_a_fixed_plan_and_planning(rig, device_of, layered):
    rig.worker()
    device, _ = device_of(layered.bundle)
    agent = device.agent
    device.wait_until_ready()
    assert agent.adaptation is None
    agent.reconfigure(replace(agent.config, plan=PlanConfig()))
    assert agent.adaptation is not None
    device.wait_until_ready()
    wait_until(lambda: agent.adaptation.controller.last.decision.current is not None, WAIT_S,
               "a decision")
    assert agent.infer(device.inputs[0]).outcome in (Outcome.REMOTE, Outcome.LOCAL)
    agent.reconfigure(replace(agent.config, plan=PlanConfig(cut=1, rung="raw")))
    device.wait_until_ready()
    answer = agent.infer(device.inputs[0])
    assert (answer.cut, answer.rung, agent.adaptation) == (1, "raw", None)


def test_another_result_journal_is_begun_where_the_old_one_ends(device_of, camera, tmp_path):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    device, _ = device_of(camera.bundle, result=ResultConfig(journal=str(first)))
    agent = device.agent
    agent.infer(device.inputs[0])
    for result in (ResultConfig(journal=str(second)),
                   ResultConfig(journal=str(second), journal_mb=0.5)):
        agent.reconfigure(replace(agent.config, result=result))
        agent.infer(device.inputs[0])
    agent.reconfigure(replace(agent.config, result=ResultConfig()))
    agent.infer(device.inputs[0])
    assert [len(p.read_text().splitlines()) for p in (first, second)] == [1, 2]


def test_what_is_known_of_a_battery_outlives_other_settings(rig, device_of, layered, tmp_path):
    def settings(config, topic):
        return replace(config, sensors=replace(config.sensors, battery="mqtt", topic=topic))

    device, _ = device_of(layered.bundle, plan=PlanConfig())
    agent = device.agent
    wait_until(lambda: agent.node.is_up, WAIT_S, "a connection")
    rig.observer.publish("ups/one", b'{"battery_percent": 55}', retain=True)
    agent.reconfigure(settings(agent.config, "ups/one"))

    def battery():
        return agent.adaptation.reports.read(time.monotonic()).battery_ratio

    wait_until(lambda: battery() == 0.55, WAIT_S, "the retained report")
    # It is retained, so it comes no second time: other settings have to keep it.
    agent.reconfigure(replace(agent.config, policy=replace(agent.config.policy, kl=0.03)))
    assert battery() == 0.55 and agent.adaptation.monitor.latest.battery_ratio == 0.55
    agent.reconfigure(replace(agent.config, model=replace(agent.config.model, threads=2)))
    assert battery() == 0.55
    # Of another topic nothing is known, and the old one has no say any more.
    agent.reconfigure(settings(agent.config, "ups/two"))
    assert battery() is None
    rig.observer.publish("ups/one", b'{"battery_percent": 44}')
    rig.observer.publish("ups/two", b'{"battery_percent": 33}', retain=True)
    wait_until(lambda: battery() is not None, WAIT_S, "a report")
    assert battery() == 0.33


def test_a_frame_for_a_model_that_has_gone_meanwhile_ends(device_of, camera, monkeypatch):
    device, _ = device_of(camera.bundle)
    agent = device.agent
    prepared, refused = agent.deployment.prepare(device.inputs[0]), iter([False, True])

    def prepare(frame):
        if next(refused):
            raise InputError("it is too large for this one")
        return prepared

    monkeypatch.setattr(agent.deployment, "prepare", prepare)
    monkeypatch.setattr(agent.deployment, "put", lambda frame: False)
    answer = agent.infer(device.inputs[0])
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, "it is too large for this one")
    assert not agent.ledger.open_frames


def test_a_model_that_is_not_in_force_ends_nothing(device_of, camera, others):
    device, _ = device_of(camera.bundle)
    agent, old = device.agent, device.agent.deployment
    agent.reconfigure(replace(agent.config, model=ModelConfig(str(others["weights"]))))
    agent.on_failure(old, RuntimeError("too late to matter"))
    assert not agent.stopping.is_set() and agent.infer(device.inputs[0]).outputs is not None
    agent.on_failure(agent.deployment, RuntimeError("the one in force"))
    with pytest.raises(RuntimeError, match="the one in force"):
        agent.wait()


def test_a_model_that_was_replaced_is_offered_to_no_worker(rig, device_of, camera, others):
    worker = rig.worker("worker-1")
    device, _ = device_of(camera.bundle)
    device.wait_until_ready()
    agent, old = device.agent, device.agent.deployment
    agent.reconfigure(replace(agent.config, model=ModelConfig(str(others["weights"]))))
    assert old.sender.worker is None
    worker.stop()
    rig.worker("worker-2")
    device.wait_until_ready()
    assert agent.deployment.sender.worker == "worker-2" and old.sender.worker is None


def test_an_agent_that_has_stopped_takes_no_other_settings(device_of, camera):
    device, seen = device_of(camera.bundle)
    agent = device.agent
    agent.stop()
    threads = threading.active_count()
    for changed in ({"frame": FrameConfig(deadline_ms=500.0)}, {"plan": PlanConfig()}):
        with pytest.raises(SplitError, match="stopping"):
            agent.reconfigure(replace(agent.config, **changed))
    assert not seen.configs and threading.active_count() <= threads


def test_a_stop_during_a_change_ends_both(device_of, camera, others):
    device, _ = device_of(camera.bundle)
    agent, broken = device.agent, []

    def change():
        try:
            agent.reconfigure(replace(agent.config, model=ModelConfig(str(others["weights"]))))
        except SplitError as e:
            broken.append(str(e))

    thread = threading.Thread(target=change)
    with device.feeding(RATE_HZ):
        thread.start()
        time.sleep(0.02)
        agent.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive() and (not broken or "stopped" in broken[0])
    device.history.wait(lambda: len(device.history.offered) == len(device.history.ends), WAIT_S,
                        "all ends")
    assert not agent.ledger.open_frames
