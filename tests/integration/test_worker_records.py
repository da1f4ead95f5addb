"""What a worker tells of itself on a real broker, and what devices make of that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.planner.profiled import service_times
from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig
from edge_agent.frames import Outcome
from split_core.config import BrokerConfig
from split_core.cost.profile import Profile, WorkerProfiles
from split_core.model.bundle import open_bundle
from split_core.wire import records
from split_core.wire.records import WorkerLoad
from tests.support.history import History
from tests.support.observer import Seen
from tests.support.rig import Device, Rig, WorkerProcess, wait_until

SOON_S = 10.0


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


def new_worker(rig: Rig, *options: str) -> WorkerProcess:
    return rig.worker("worker-1", "--state", str(rig.directory / "state-worker"), *options)


@pytest.fixture
def planning(rig) -> Iterator:
    """Makes agents that plan for themselves."""
    agents = []

    def make(bundle: Path, name: str = "device-1") -> Device:
        config = AgentConfig(
            model=ModelConfig(str(bundle)), id=name, broker=BrokerConfig(url=rig.device_url),
            frame=FrameConfig(deadline_ms=5000), state_dir=str(rig.directory / "state-device"))
        history = History()
        agent = EdgeAgent(config, on_answer=history.on_answer)
        agents.append(agent)
        agent.start()
        return Device(agent, history, seed=20)

    yield make
    for agent in agents:
        agent.stop()


def wait_for_profiles(rig: Rig, worker: str, *, count: int = 1, after_s: float = 0.0) -> Seen:
    topic = rig.topics.worker_up(worker, "profile")
    return rig.observer.wait(
        lambda s: s.topic == topic and len(s.record.get("profiles", ())) == count, SOON_S,
        f"{count} profiles", after_s=after_s)


def known_of(device: Device, worker: str):
    """What the device believes of a worker; None before it has heard of it."""
    agent = device.agent
    with agent.wake:
        return agent.adaptation.beliefs.workers._known.get(worker)


def knows(device: Device, worker: str, profile: Profile) -> bool:
    known = known_of(device, worker)
    return known is not None and known.profile_s == service_times(profile, device.agent.bundle)


def test_profile_and_load_of_a_worker_reach_an_agent_that_plans(rig, camera, planning):
    worker = new_worker(rig)
    rig.wait_for_worker(worker)
    device = planning(camera.bundle)
    bundle = device.agent.bundle
    # The bundle comes from the device; before it is named as held it has been measured.
    held = rig.wait_for_worker(worker, bundle)
    assert "event=profiled" in worker.log()
    seen = wait_for_profiles(rig, worker.id)
    (profile,) = records.load(seen.payload, WorkerProfiles).profiles
    assert profile.matches(bundle) and len(profile.segments) == len(bundle.manifest.segments)
    assert profile.whole_s > 0
    wait_until(lambda: knows(device, worker.id, profile), SOON_S, "belief in the profile")

    topic = rig.topics.worker_up(worker.id, "load")
    told = rig.observer.wait(lambda s: s.topic == topic, SOON_S, "the load")
    load = records.load(told.payload, WorkerLoad)
    assert load.queue_s == 0.0 and load.busy_ratio == 0.0
    assert told.seen_s < held.seen_s, "it is told on connect"
    assert device.agent.infer(device.inputs[0]).outcome in (Outcome.REMOTE, Outcome.LOCAL)


def test_both_are_there_for_who_comes_later_and_after_a_restart(rig, camera, planning):
    worker = new_worker(rig)
    first = rig.device(camera.bundle, cut=5, deadline_ms=5000)
    (profile,) = records.load(wait_for_profiles(rig, worker.id).payload, WorkerProfiles).profiles
    late = planning(camera.bundle, "late")
    wait_until(lambda: knows(late, worker.id, profile), SOON_S, "a retained profile")
    assert worker.stop() == 0
    (kept,) = (rig.directory / "state-worker" / "profiles").iterdir()
    assert json.loads(kept.read_bytes()) == json.loads(records.dump(profile))
    stopped = rig.wait_for_worker(worker, state="stopped")
    worker.start()
    # It takes it from there: the very same one, and nothing was measured again.
    again = wait_for_profiles(rig, worker.id, after_s=stopped.seen_s)
    assert records.load(again.payload, WorkerProfiles).profiles == (profile,)
    assert worker.log().count("event=profiled") == 1
    first.wait_until_ready()
    assert first.agent.infer(first.inputs[0]).outcome == Outcome.REMOTE


def test_a_state_directory_that_cannot_be_written_is_no_end(rig, camera):
    (rig.directory / "state-worker").write_text("a file")
    worker = new_worker(rig)
    device = rig.device(camera.bundle, cut=5, deadline_ms=5000)
    wait_for_profiles(rig, worker.id)
    assert "event=profile-not-kept" in worker.log()
    assert device.agent.infer(device.inputs[0]).outcome == Outcome.REMOTE


def test_records_of_a_hostile_worker_are_refused_and_hurt_nobody(rig, camera, planning):
    worker = new_worker(rig)
    rig.wait_for_worker(worker)
    device = planning(camera.bundle)
    rig.wait_for_worker(worker, open_bundle(camera.bundle))
    (profile,) = records.load(wait_for_profiles(rig, worker.id).payload, WorkerProfiles).profiles
    wait_until(lambda: knows(device, worker.id, profile), SOON_S, "belief in the profile")

    whole = json.loads(records.dump(WorkerProfiles((profile,))))
    (entry,) = whole["profiles"]
    short = {"profiles": [entry | {"segments": entry["segments"][:-1]}]}
    brackets = b"[" * 100_000
    refused = [("profile", b"\x00garbage"), ("profile", brackets), ("load", b"garbage"),
               ("profile", b'{"unknown":' + brackets), ("load", brackets),
               ("profile", json.dumps({"profiles": [entry] * 65}).encode()),
               ("profile", json.dumps({"profiles": [entry | {"whole_s": -1}]}).encode())]
    passed_over = [("profile", json.dumps(short).encode()), ("profile", b""), ("load", b""),
                   ("profile", json.dumps({"profiles": [entry | {"codings": [
                       entry["codings"][0] | {"cut": 999}]}]}).encode())]
    before = device.agent.node.refused
    for channel, payload in passed_over + refused:
        rig.observer.publish(rig.topics.worker_up("bad", channel), payload, retain=True)
    wait_until(lambda: device.agent.node.refused >= before + len(refused), SOON_S, "refusals")
    assert device.agent.node.refused == before + len(refused)
    bad = known_of(device, "bad")
    assert bad is None or bad.profile_s is None
    assert knows(device, worker.id, profile)
    assert device.agent.infer(device.inputs[0]).outcome in (Outcome.REMOTE, Outcome.LOCAL)
    # Nor do they keep a device from starting, for whom they are retained.
    late = planning(camera.bundle, "late")
    wait_until(lambda: knows(late, worker.id, profile), SOON_S, "belief in the good one")
    assert late.agent.node.session.stats.callback_errors == 0
    assert device.agent.node.session.stats.callback_errors == 0
    assert worker.stop() == 0
