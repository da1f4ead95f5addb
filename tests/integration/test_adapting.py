"""An agent that plans for itself, on a real broker with real workers.

Its board is made up: the whole model takes 300 or 150 ms there, a worker a few. So an answer from
a worker is the faster one on a good link, on 60 kbit/s it is not, and no test depends on this
machine.
Whatever a test does, the decisions that were made meanwhile can be made again.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.belief.beliefs import MESSAGE_BYTES
from edge_agent.belief.transfers import quantile_of
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig
from edge_agent.control import adaptation, profiles
from edge_agent.control.budget import DAY_S
from edge_agent.control.decisions import read_moments
from edge_agent.frames import Answer, Outcome
from edge_agent.planner.candidates import options_of
from edge_agent.policies.config import EnergyConfig, PolicyConfig
from edge_agent.sensors import SensorsConfig
from edge_agent.whatif.replay import check as replay
from split_core.config import BrokerConfig
from split_core.cost.profile import CodingTime, Profile, Timing
from split_core.model.bundle import Bundle, open_bundle
from split_core.wire import messages as m
from split_core.wire.chunks import Reassembler
from split_lab.field.emulator import Emulator
from split_lab.field.link_spec import LinkSpec
from split_lab.field.stretch import SlowMachine
from split_lab.field.virtual import Board
from tests.support.history import History
from tests.support.observer import Observer
from tests.support.rig import Device, Rig, WorkerProcess, wait_until

# 300 ms in all; 3 kB cross behind the first.
SEGMENT_S = (0.02, 0.06, 0.06, 0.06, 0.04, 0.03, 0.02, 0.01)
# Of any boundary, an eighth of the whole: on a bad link a race is not worth it.
ENCODE_S = 0.04
DEADLINE_MS = 700.0
RATE_HZ = 3.0
# On a link that changes: the board, and a rate that it keeps up with when it races, 340 ms a frame.
BOARD_S = 0.3
CHANGING_RATE_HZ = 2.7
SLOW_BPS = 0.06e6
# After this long on the slow link the agent has seen it.
KNOWN_S = 10.0
SOON_S = 10.0
# In place of 2 s, which would only be waited for.
DWELL_S = 0.2
# Decisions are made at most every 100 ms; the rest is for a machine with other things to do.
AT_ONCE_S = 1.0


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


@pytest.fixture
def made(rig, layered) -> Iterator[Callable[..., Device]]:
    """Makes agents that plan for themselves, and replays what they decided at the end."""
    agents: list[EdgeAgent] = []
    bundle = open_bundle(layered.bundle)
    (rig.directory / "no-sensors").mkdir()

    def make(name: str = "device-1", *, url: str = "", slow: bool = True, board_s: float = 0.15,
             policy: dict = {}, sensors: dict = {}, energy: EnergyConfig = EnergyConfig()
             ) -> Device:
        sensors = {"battery": "none", "root": str(rig.directory / "no-sensors")} | sensors
        policy = {"journal": str(rig.directory / f"{name}.jsonl"), "dwell_s": DWELL_S} | policy
        config = AgentConfig(
            model=ModelConfig(str(layered.bundle)), id=name,
            broker=BrokerConfig(url=url or rig.url), policy=PolicyConfig(**policy),
            energy=energy, sensors=SensorsConfig(**sensors),
            frame=FrameConfig(deadline_ms=DEADLINE_MS),
            state_dir=str(rig.directory / f"state-{name}"))
        history = History(keep_outputs=True)
        profile = profile_of(bundle).scaled_to(board_s)
        machine = SlowMachine(board_of(bundle, profile), profile) if slow else None
        agent = EdgeAgent(config, history.on_answer, machine=machine)
        agents.append(agent)
        agent.start()
        return Device(agent, history, seed=20)

    yield make
    for agent in agents:
        agent.stop()
    for name in {a.config.policy.journal for a in agents}:
        found = replay(name)
        print(f"{Path(name).name}: {found.decisions} decisions")
        assert found.difference is None, found.difference


def board_of(bundle: Bundle, profile: Profile) -> Board:
    options = options_of(bundle, PolicyConfig().kl, PolicyConfig().max_kl)
    return Board.of(profile, options, (0.0,) * len(bundle.manifest.cuts))


def profile_of(bundle: Bundle) -> Profile:
    codings = tuple(CodingTime(c.cut, "raw", ENCODE_S, 0.001, 1000)
                    for c in bundle.manifest.cuts[:-1])
    return Profile(bundle.id_hex, "made-up", "litert", 1,
                   tuple(Timing(s, 0.0) for s in SEGMENT_S), codings, sum(SEGMENT_S),
                   "2026-01-01T00:00:00+00:00")


def is_local(device: Device) -> bool:
    return device.agent.plan.cut == device.agent.bundle.last_cut


def wait_for_plan(rig: Rig, name: str, local: bool, since_s: float, last_cut: int = 8) -> dict:
    """The first plan of the kind that was told of since."""
    topic = rig.topics.device_up(name, "plan")
    return rig.observer.wait(
        lambda s: s.topic == topic and not s.retain
        and (s.record["cut"] == last_cut) is local and s.record["reason"] != "",
        SOON_S, f"a plan that is {'all-local' if local else 'remote'}", after_s=since_s).record


def wait_until_remote(device: Device) -> None:
    """A plan is in force by which a worker answers, and one has."""
    wait_until(lambda: not is_local(device), SOON_S, "a plan with a worker")
    begun_s = time.monotonic()
    device.history.wait_for_remote(begun_s, SOON_S)


def answers_of(device: Device, begin_s: float = 0.0, end_s: float = float("inf")) -> list[Answer]:
    """Of frames captured then."""
    return [a for a in list(device.history.answers.values()) if begin_s <= a.captured_s < end_s]


# -- a link that changes


@pytest.mark.check
def test_answers_follow_the_link(rig, made):
    """Too short for the plan to be given up: it races, so it costs its coding alone."""
    follow_the_link(rig, made, 3.0)


@pytest.mark.check
@pytest.mark.parametrize("slow_s", [15.0, 25.0])
def test_plans_follow_the_link(rig, made, slow_s):
    cuts, decided = follow_the_link(rig, made, slow_s)
    assert cuts[0] == 8 and cuts[-1] != 8
    assert slow_s < 20 or 8 in cuts[2:-1], "all-local again in between"
    # Once it is known how slow it is, all-local or a race, which takes that and its coding; and
    # it is known, so nothing is promised that only a worker could keep.
    slow = [d for d in decided if KNOWN_S <= d.at_s < slow_s]
    assert len(slow) >= 5
    for decision in slow:
        assert decision.cut == 8 or decision.race, decision
        assert decision.promised_s > 0.9 * BOARD_S, decision
        assert decision.believed_bps < 3 * SLOW_BPS, decision


@dataclass(frozen=True)
class Decided:
    """A line of the decision journal."""

    at_s: float                      # after the step down
    cut: int
    race: bool
    promised_s: float                # predicted mean
    believed_bps: float              # middle scenario


def decided_by(device: Device, down_s: float) -> list[Decided]:
    found = []
    for moment in read_moments(device.agent.config.policy.journal):
        chosen = json.loads(bytes(moment.entry.decision))["chosen"]
        middle = quantile_of(moment.state.scenarios, 0.5)
        found.append(Decided(moment.state.now_s - down_s, chosen["cut"], chosen["race"],
                             1e-3 * chosen["costs"]["mean_ms"], 8 / middle))
    return found


def follow_the_link(rig: Rig, made, slow_s: float) -> tuple[list[int], list[Decided]]:
    """Few frames are late for a step down, and a step up is used within ten seconds. Which cuts
    were told of, and what was decided."""
    fast_s = 3.5
    spec = LinkSpec.parse(f"step:10Mbit@{fast_s},{SLOW_BPS / 1e6}Mbit@{slow_s},10Mbit@600",
                          rtt_s=0.03)
    worker = rig.worker()
    with Emulator(spec, rig.broker.port) as link:
        # Of noise a JPEG is tiny.
        device = made(url=f"mqtt://127.0.0.1:{link.port}", board_s=BOARD_S,
                      policy={"min_cut": 1, "dwell_s": PolicyConfig().dwell_s})
        assert is_local(device), "before there is a worker"
        rig.wait_for_worker(worker, device.agent.bundle)
        device.wait_until_ready()
        with device.feeding(CHANGING_RATE_HZ):
            link.start(t0_s := time.monotonic())
            down_s, up_s = t0_s + fast_s, t0_s + fast_s + slow_s
            device.history.wait(lambda: time.monotonic() > up_s, fast_s + slow_s + SOON_S,
                                "the step up")
            # One may be a probe; three in a row are a plan, which is used from the first on.
            device.history.wait(
                lambda: [a.outcome for a in answers_of(device, up_s)][-3:] ==
                [Outcome.REMOTE] * 3, SOON_S + 3 / CHANGING_RATE_HZ, "answers by a worker")
            used_s = answers_of(device, up_s)[-3].captured_s
            assert used_s - up_s < SOON_S
    device.history.check(device.agent)
    fast, slow = answers_of(device, t0_s + 2.0, down_s - 0.3), answers_of(device, down_s, up_s)
    assert {a.outcome for a in fast} == {Outcome.REMOTE}
    assert max(a.total_ms for a in fast) < 1e3 * sum(SEGMENT_S)
    late = [e for e in device.history.ends if e.late]
    assert len(late) <= 2, late
    # Finished here, by plan or because the device was the first.
    then = {a.outcome for a in slow[2:] if a.captured_s < up_s - 0.5}
    assert then <= {Outcome.LOCAL, Outcome.FALLBACK}
    assert not [a for a in slow if a.outcome in (Outcome.DROPPED, Outcome.FAILED)]
    told = [s.record for s in rig.observer.on(rig.topics.device_up("device-1", "plan"))]
    cuts = [t["cut"] for t in told if t["reason"]]
    print(f"used {used_s - up_s:.1f} s after the step up; late {len(late)}; cuts {cuts}")
    return cuts, decided_by(device, down_s)


# -- a worker that goes and comes


def test_without_its_worker_it_is_all_local_at_once_and_says_why(rig, made, layered):
    worker = rig.worker()
    device = made()
    with device.feeding(10):
        wait_until_remote(device)
        killed_s = time.monotonic()
        worker.kill()
        lost = rig.wait_for_worker(worker, state="lost", after_s=killed_s)
        told = wait_for_plan(rig, "device-1", True, killed_s)
        assert time.monotonic() - lost.seen_s < AT_ONCE_S
        assert told["reason"] == ("what was in force is not there any more; workers: none that"
                                  " holds the bundle")
        assert told["worker"] is None and told["predicted"]["mean_ms"] >= 150
        began_s = time.monotonic()
        worker.start()
        ready = rig.wait_for_worker(worker, device.agent.bundle, after_s=began_s)
        back = wait_for_plan(rig, "device-1", False, began_s)
        assert back["worker"] == "worker-1" and "gain" in back["reason"]
        device.history.wait_for_remote(ready.seen_s, SOON_S)
    device.history.check(device.agent)
    assert not [e for e in device.history.ends if e.late]


@pytest.mark.check
def test_without_its_broker_it_is_all_local_too(rig, made):
    rig.worker()
    device = made()
    with device.feeding(10):
        wait_until_remote(device)
        rig.kill_broker()
        wait_until(lambda: is_local(device), AT_ONCE_S + 1.0, "an all-local plan")
        assert "link: down" in device.agent.plan.reason
        device.wait_for_frames(3, SOON_S)
        rig.broker.start()
        wait_until_remote(device)
    device.history.check(device.agent)


# -- what may leave the device


class Inboxes:
    """Everything that is sent to any worker, put together."""

    def __init__(self, rig: Rig):
        self._topics = rig.topics
        self.observer = Observer(rig.url, f"{rig.topics.root}/_pool/+/in/+").start()

    def messages(self) -> list[tuple[str, m.Kind, bytes]]:
        """(worker, kind, body) of every message."""
        found, parts = [], Reassembler()
        for seen in list(self.observer.seen):
            inbox = self._topics.parse_inbox(seen.topic)
            message = parts.push(seen.topic, seen.payload, seen.seen_s)
            if message is not None:
                found.append((inbox.node, message.kind, bytes(message.body)))
        return found

    def frames(self) -> list[tuple[str, m.Frame]]:
        return [(worker, m.pull_frame(body)) for worker, kind, body in self.messages()
                if kind is m.Kind.FRAME]


@pytest.fixture
def inboxes(rig) -> Iterator[Inboxes]:
    inboxes = Inboxes(rig)
    yield inboxes
    inboxes.observer.stop()


def hand_bundle(rig: Rig, bundle: Path, worker: WorkerProcess) -> None:
    """Let a worker fetch the bundle from a device that is gone afterwards."""
    config = AgentConfig(ModelConfig(str(bundle)), id=f"giver-to-{worker.id}",
                         broker=BrokerConfig(url=rig.url),
                         plan=PlanConfig(cut=1, worker=worker.id))
    with EdgeAgent(config, ephemeral=True):
        rig.wait_for_worker(worker, open_bundle(bundle))


def test_nothing_leaves_for_a_worker_that_is_not_trusted(rig, made, inboxes, layered):
    """One that is not trusted holds the bundle all the time; one that is goes and comes."""
    bad, good = rig.worker("bad"), None
    device = made(policy={"trusted_workers": ("good",)})
    with device.feeding(20):
        rig.wait_for_worker(bad)
        hand_bundle(rig, layered.bundle, bad)
        device.wait_for_frames(5, SOON_S)
        good = rig.worker("good")
        wait_until_remote(device)
        for _ in range(2):
            # In the moment before the next decision its plan is still in force.
            killed_s = time.monotonic()
            good.kill()
            rig.wait_for_worker(good, state="lost", after_s=killed_s)
            wait_until(lambda: is_local(device), SOON_S, "an all-local plan")
            device.wait_for_frames(5, SOON_S)
            good.start()
            wait_until_remote(device)
    device.history.check(device.agent)
    assert not inboxes.observer.on(rig.topics.worker_inbox("bad", "device-1")), (
        "not even an offer of the bundle")
    assert inboxes.observer.on(rig.topics.worker_inbox("good", "device-1"))
    assert {a.worker for a in answers_of(device)} == {"good", None}
    told = [s.record for s in rig.observer.on(rig.topics.device_up("device-1", "plan"))]
    assert {t["worker"] for t in told} == {"good", None}


@pytest.mark.check
def test_with_nobody_trusted_everything_stays_here(rig, made, inboxes, layered):
    worker = rig.worker()
    hand_bundle(rig, layered.bundle, worker)
    device = made(policy={"trusted_workers": ()})
    rig.wait_for_worker(worker, device.agent.bundle)
    with device.feeding(10):
        device.wait_for_frames(8, SOON_S)
    device.history.check(device.agent)
    assert not inboxes.observer.on(rig.topics.worker_inbox("worker-1", "device-1"))
    assert {a.outcome for a in answers_of(device)} <= {Outcome.LOCAL, Outcome.FALLBACK,
                                                       Outcome.DROPPED}


def test_nothing_leaves_from_a_cut_before_the_least(rig, made, inboxes):
    """Though the earlier cuts are by far the faster, and probes and races look for such."""
    worker = rig.worker()
    device = made(policy={"min_cut": 4})
    with device.feeding(6):
        wait_until_remote(device)
        device.wait_for_frames(12, 2 * SOON_S)
        killed_s = time.monotonic()
        worker.kill()
        rig.wait_for_worker(worker, state="lost", after_s=killed_s)
        worker.start()
        rig.wait_for_worker(worker, device.agent.bundle, after_s=killed_s)
        wait_until_remote(device)
    device.history.check(device.agent)
    frames = [f for _, f in inboxes.frames()]
    assert len(frames) > 5
    assert {f.cut for f in frames} <= {4, 5, 6, 7}
    assert {a.cut for a in answers_of(device)} <= {4, 5, 6, 7, 8}


# -- bytes and batteries


def test_a_budget_of_nearly_nothing_is_all_local(rig, made, inboxes, layered):
    worker = rig.worker()
    hand_bundle(rig, layered.bundle, worker)
    device = made(policy={"mb_per_day": 1e-5})
    rig.wait_for_worker(worker, device.agent.bundle)
    with device.feeding(RATE_HZ):
        device.wait_for_frames(7, 2 * SOON_S)
    device.history.check(device.agent)
    assert is_local(device)
    limits = {limit for moment in read_moments(device.agent.config.policy.journal)
              for limit in json.loads(bytes(moment.entry.decision))["limits"]}
    assert any(limit.startswith("bytes: 0 bytes a frame") for limit in limits), limits
    assert not inboxes.frames()


def report(path: Path, **said) -> None:
    """As a script for a UPS board would: whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(said))
    os.replace(part, path)


def test_a_battery_that_falls_changes_the_plan_and_the_reason_says_so(rig, made):
    """A byte costs 10 mJ, so 3 kB three times a second are 90 W; computing here takes half a watt.
    For an hour 1000 Wh are plenty, and 5 Wh only for computing here."""
    battery = rig.directory / "battery.json"
    report(battery, battery_wh=1000.0, mains=False)
    rig.worker()
    device = made(
        sensors={"battery": "file", "path": str(battery), "interval_s": 0.1},
        energy=EnergyConfig(hours=1.0, j_per_cpu_s=1.2, j_per_byte=0.01, base_w=0.1))
    with device.feeding(RATE_HZ):
        wait_until_remote(device)
        fell_s = time.monotonic()
        report(battery, battery_wh=5.0, mains=False)
        told = wait_for_plan(rig, "device-1", True, fell_s)
        # 5 Wh but for 3 % kept back, over what is left of the hour: 4.85 W and a little.
        assert re.match(r"energy: 5 Wh for (0.99\d|1) h is 4.8\d W", told["reason"]), told
        device.wait_for_frames(3, SOON_S)
        plugged_s = time.monotonic()
        report(battery, battery_wh=5.0, mains=True)
        told = wait_for_plan(rig, "device-1", False, plugged_s)
        assert "gain" in told["reason"]
    device.history.check(device.agent)


# -- a control thread that dies, and what outlives a restart


def test_a_control_thread_that_raises_ends_the_agent_with_its_error(made, caplog):
    device = made()

    def rule(state):
        raise ZeroDivisionError("made up")

    device.agent.adaptation.controller.planner.rule = rule
    device.agent.adaptation.thread.poke()
    assert device.agent.stopping.wait(SOON_S), "the agent went on without deciding"
    with pytest.raises(ZeroDivisionError, match="made up"):
        device.agent.wait()
    with pytest.raises(ZeroDivisionError, match="made up"):
        device.agent.infer(device.inputs[0])
    assert "event=thread-died" in caplog.text
    device.agent.offer(device.inputs[0])
    device.history.wait(lambda: len(device.history.ends) == 2, SOON_S, "both frames' ends")
    assert not device.agent.ledger.open_frames


def test_the_days_bytes_are_remembered_after_a_restart(rig, made, monkeypatch):
    monkeypatch.setattr(adaptation, "_local_s", lambda: 20_000 * DAY_S + DAY_S / 2)
    rig.worker()
    first = made(policy={"mb_per_day": 1e6})
    with first.feeding(10):
        wait_until_remote(first)
        first.wait_for_frames(10, SOON_S)
    first.history.check(first.agent)
    first.agent.stop()
    used = sum(a.payload_bytes + MESSAGE_BYTES for a in answers_of(first) if a.payload_bytes)
    assert used > 10_000
    kept = json.loads((Path(first.agent.config.state_dir) / "sent-today.json").read_text())
    assert kept == {"day": 20_000, "used": used}
    second = made(policy={"mb_per_day": 1e6})
    outlook = second.agent.adaptation.outlook()
    assert outlook.budget_bytes == 1e12 - used and outlook.budget_s == DAY_S / 2


def test_what_was_measured_is_measured_once(made, monkeypatch):
    first = made(slow=False)
    for _ in range(5):
        first.agent.infer(first.inputs[0])
    first.agent.stop()
    (path,) = (Path(first.agent.config.state_dir) / "profiles").iterdir()
    kept = json.loads(path.read_bytes())
    learned = [first.agent.head.times.mean_s(i) for i in range(8)]
    assert [t["median_s"] for t in kept["segments"]] == pytest.approx(learned)

    def measure(*_args, **_fields):
        raise AssertionError("measured again")

    monkeypatch.setattr(profiles, "measure", measure)
    second = made(slow=False)
    assert [t.median_s for t in second.agent.deployment.profile.segments] == pytest.approx(learned)
    assert second.agent.infer(second.inputs[0]).outcome is Outcome.LOCAL
