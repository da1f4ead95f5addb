"""What others on a real broker see of an agent, and what they may ask of it."""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, FrameConfig, ModelConfig, PlanConfig, ResultConfig
from edge_agent.observers.recent import Recent
from edge_agent.policies.config import PolicyConfig
from edge_agent.remote.config import CommandsConfig, HealthConfig, HomeAssistantConfig
from edge_agent.remote.desk import Desk
from edge_agent.remote.discovery import birth_topic, discovery_topic
from edge_agent.sensors.config import SensorsConfig
from split_core.config import BrokerConfig
from split_core.session import BrokerOptions, Session
from split_core.wire.records import DeviceHealth, load
from split_core.wire.topics import matches
from tests.support.brokers import Mosquitto
from tests.support.home_assistant import command_of, entities, is_available, state_of
from tests.support.observer import Observer, Seen
from tests.support.rig import Rig, wait_until
from tests.support.topics_page import topic_filters

UP = "si/v1/pi/up/"


@pytest.fixture
def broker(tmp_path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as broker:
        yield broker


class Station:
    """An agent with its desk, and somebody who listens and commands."""

    def __init__(self, agent: EdgeAgent, desk: Desk, observer: Observer):
        self.agent, self.desk, self.observer = agent, desk, observer
        self._rng = np.random.default_rng(5)

    def frame(self):
        spec = next(iter(self.agent.bundle.specs[n] for n in self.agent.bundle.manifest.inputs))
        name = self.agent.bundle.manifest.inputs[0]
        return self.agent.infer({name: self._rng.random(spec.shape, np.float32)})

    def send(self, name: str, payload: bytes | dict, **properties) -> float:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        now_s = time.monotonic()
        self.observer.publish(f"si/v1/pi/dn/cmd/{name}", data, **properties)
        return now_s

    def ask(self, name: str, payload: bytes | dict, topic: str | None = None,
            **properties) -> dict:
        """The reply to a command."""
        since_s = self.send(name, payload, qos=1, **properties)
        topic = topic or f"{UP}reply/{name}"
        return self.wait(topic, since_s=since_s).record

    def wait(self, topic: str, timeout_s: float = 15.0, since_s: float = 0.0,
             **fields) -> Seen:
        """The first publication on a topic with these values."""
        def fits(seen: Seen) -> bool:
            return seen.topic == topic and all(
                seen.record.get(k) == v for k, v in fields.items())
        return self.observer.wait(fits, timeout_s, f"{topic} with {fields}", after_s=since_s)


@contextlib.contextmanager
def station(broker: Mosquitto, bundle: Path, tmp_path: Path, *, fixed: bool = False,
            updater=None, url: str | None = None, **sections) -> Iterator[Station]:
    config = AgentConfig(
        model=ModelConfig(str(bundle)), id="pi", broker=BrokerConfig(url=url or broker.url),
        plan=PlanConfig(cut=1, rung="raw") if fixed else PlanConfig(),
        state_dir=str(tmp_path / "state"), **sections)
    observer = Observer(broker.url, "si/v1/+/up/#", "si/v1/_reply/#", "homeassistant/#",
                        "other/#", "home/#").start()
    agent = EdgeAgent(config)
    recent = Recent()
    desk = Desk(agent, recent, updater=updater)
    agent.attach(recent)
    agent.attach(desk)
    try:
        with desk, agent:
            found = Station(agent, desk, observer)
            found.wait(UP + "health")
            yield found
    finally:
        observer.stop()


# -- health


def test_health_comes_at_once_and_on_time_and_says_what_frames_did(broker, camera, tmp_path):
    with Rig(tmp_path) as rig:
        worker = rig.worker()
        with station(rig.broker, camera.bundle, tmp_path, fixed=True,
                     health=HealthConfig(every_s=1.0)) as pi:
            wait_until(lambda: pi.agent.missing() is None, 30, "the worker")
            answers = [pi.frame() for _ in range(12)]
            reply = pi.ask("health", {"id": "now"})
            assert reply["status"] == "ok" and reply["id"] == "now"
            record = msgspec.convert(reply["data"], DeviceHealth)
            remote = [a for a in answers if a.outcome == "remote"]
            assert record.totals.get("remote", 0) == len(remote) > 0
            assert sum(record.frames.values()) == sum(record.totals.values()) == 12
            assert record.sent_bytes == sum(a.payload_bytes for a in answers)
            totals = sorted(a.total_ms for a in answers)
            assert record.p50_ms == pytest.approx((totals[5] + totals[6]) / 2, abs=0.1)
            assert record.p95_ms == pytest.approx(totals[11], abs=0.1)
            assert (record.cut, record.rung, record.worker) == (1, "raw", worker.id)
            assert record.bundle == pi.agent.bundle.id_hex and record.link.up
            assert 10e6 < record.memory_bytes < 4e9
            assert {"head", "encode", "link", "tail"} <= set(record.stages_ms)
            # The same record is on the topic, and the next comes in a second.
            on_topic = [load(s.payload, DeviceHealth) for s in pi.observer.on(UP + "health")]
            assert record in on_topic
            seen = len(on_topic)
            wait_until(lambda: len(pi.observer.on(UP + "health")) >= seen + 2, 4, "two more")
            assert not any(s.retain for s in pi.observer.on(UP + "health"))


def test_power_is_told_at_once_also_where_the_plan_is_fixed(broker, camera, tmp_path):
    sensors = SensorsConfig(battery="mqtt", topic="home/ups", interval_s=0.1)
    with station(broker, camera.bundle, tmp_path, fixed=True, sensors=sensors,
                 health=HealthConfig(every_s=3600)) as pi:
        def report(**fields) -> float:
            pi.observer.publish("home/ups", json.dumps(fields).encode())
            return time.monotonic()

        report(mains=True, battery_percent=90)
        wait_until(lambda: pi.desk.pulse.sensors.mains is True, 5, "the first report")
        time.sleep(1.5)                                  # two looks
        since_s = report(mains=False, battery_percent=9)
        event = pi.wait(UP + "event", event="mains", since_s=since_s)
        assert event.record["mains"] is False and event.record["text"] == "the mains are lost"
        pi.wait(UP + "event", event="battery", low=True, since_s=since_s)
        health = pi.wait(UP + "health", mains=False, since_s=since_s, timeout_s=5)
        assert health.record["battery_ratio"] == 0.09


# -- commands


def test_policy_and_bounds_change_what_runs(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path) as pi:
        reply = pi.ask("policy", {"id": "1", "aim": "deadline"})
        assert reply["status"] == "ok" and reply["data"]["aim"] == "deadline"
        assert pi.agent.config.policy.aim == "deadline"
        pi.wait(UP + "health", aim="deadline", timeout_s=5)
        pi.wait(UP + "event", event="config", changed=["policy.aim"])
        reply = pi.ask("bounds", {"id": "2", "deadline_ms": 321, "max_kl": 0.2})
        assert (reply["data"]["deadline_ms"], reply["data"]["max_kl"]) == (321, 0.2)
        assert pi.agent.config.frame.deadline_ms == 321
        assert pi.agent.config.policy.aim == "deadline"      # as the first command left it


def test_what_is_wrong_is_said_and_changes_nothing(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path,
                 commands=CommandsConfig(accept=("policy", "bounds"))) as pi:
        before = pi.agent.config
        for name, payload, words in (
                ("policy", b'{"id": "7", "aimm": "deadline"}', "did you mean aim?"),
                ("policy", b"{", "not JSON"),
                ("bounds", b'{"id": "8", "deadline_ms": -1}', "frame.deadline_ms is -1"),
                ("bounds", b"x" * 20_000, "wanted at most 16384"),
                ("reload", b"{}", "does not accept reload"),
                ("model", b"{}", "does not accept model")):
            reply = pi.ask(name, payload)
            assert reply["status"] == "error" and words in reply["error"], reply
        reply = pi.ask("polcy", b'{"id": 9}', topic=UP + "reply/unknown")
        assert reply == {"id": 9, "status": "error",
                         "error": "unknown command 'polcy'; did you mean policy?"}
        assert pi.agent.config == before


def test_privacy_only_tightens(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path, policy=PolicyConfig(
            min_cut=2, trusted_workers=("w1", "w2"))) as pi:
        assert pi.ask("bounds", {"min_cut": 5, "trusted_workers": ["w2"]})["status"] == "ok"
        assert pi.agent.config.policy.min_cut == 5
        for laxer in ({"min_cut": 1}, {"trusted_workers": None}, {"trusted_workers": ["w3"]}):
            reply = pi.ask("bounds", laxer)
            assert reply["status"] == "error" and "file" in reply["error"]
        assert pi.ask("bounds", {"min_cut": 2, "trusted_workers": ["w1", "w2"]})["status"] == "ok"
        # Settings that somebody else has made stricter become the floor; the file can lower it.
        pi.agent.reconfigure(lambda c: msgspec.structs.replace(
            c, policy=msgspec.structs.replace(c.policy, min_cut=4)))
        assert pi.ask("bounds", {"min_cut": 3})["status"] == "error"
        laxer = msgspec.structs.replace(pi.agent.config, policy=PolicyConfig(min_cut=1))
        pi.agent.reconfigure(laxer)
        pi.desk.on_file(laxer)
        assert pi.ask("bounds", {"min_cut": 1})["status"] == "ok"
        assert pi.ask("bounds", {"min_cut": 0})["status"] == "error"


def test_a_command_that_comes_again_is_not_carried_out_again(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path) as pi:
        first = pi.ask("bounds", {"id": "a", "deadline_ms": 400})
        pi.ask("bounds", {"id": "b", "deadline_ms": 500})
        assert pi.ask("bounds", {"id": "a", "deadline_ms": 400}) == first
        assert pi.agent.config.frame.deadline_ms == 500
        other = pi.ask("bounds", {"id": "a", "deadline_ms": 999})
        assert other["status"] == "error" and "was another command's" in other["error"]
        assert pi.agent.config.frame.deadline_ms == 500


def test_retained_commands_are_refused_at_every_connect(broker, camera, tmp_path):
    early = Observer(broker.url).start()
    early.publish("si/v1/pi/dn/cmd/bounds", b'{"id": "old", "deadline_ms": 50}', retain=True)
    time.sleep(0.3)
    early.stop()
    with station(broker, camera.bundle, tmp_path) as pi:
        reply = pi.wait(UP + "reply/bounds").record
        assert (reply["id"], reply["status"]) == ("old", "error")
        assert "retained" in reply["error"]
        assert pi.agent.config.frame.deadline_ms == FrameConfig().deadline_ms


def test_replies_go_to_the_response_topic_and_only_to_ours(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path) as pi:
        reply = pi.ask("health", {"id": 1}, topic="si/v1/_reply/anna/pi",
                       response_topic="si/v1/_reply/anna/pi", correlation=b"\x00\xff")
        assert reply["status"] == "ok"
        # Who asks for a reply elsewhere is told so in the usual place.
        reply = pi.ask("policy", {"id": 2, "aim": "deadline"}, response_topic="other/place")
        assert reply["status"] == "error" and "response topic 'other/place'" in reply["error"]
        assert pi.agent.config.policy.aim == "latency"
        assert pi.observer.on("other/place") == []


def test_the_correlation_data_come_back(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path) as pi:
        got = []                                 # with properties, which an observer drops
        session = Session(BrokerOptions.from_url(broker.url), client_id="asker",
                          on_up=lambda limits: None, on_down=lambda reason: None,
                          on_message=lambda topic, payload, received: got.append(received))
        session.subscribe("si/v1/_reply/asker/#", 1)
        session.start()
        wait_until(lambda: session.is_up, 5, "a connection")
        time.sleep(0.2)
        pi.send("health", {}, response_topic="si/v1/_reply/asker/pi/7", correlation=b"\x00\xff7")
        wait_until(lambda: got, 5, "the reply")
        session.stop()
        assert got[0].correlation == b"\x00\xff7" and not got[0].retain
        assert got[0].content_type == "application/json"


class SlowUpdater:
    """Says each step when it is told to."""

    def __init__(self):
        self.requests = []

    def request(self, command, reply) -> None:
        self.requests.append((command, reply))


def test_a_model_command_is_answered_step_by_step_and_once_for_its_id(broker, camera, tmp_path):
    updater = SlowUpdater()
    with station(broker, camera.bundle, tmp_path, updater=updater) as pi:
        command = {"id": "m1", "sha256": "ab" * 32}
        pi.send("model", command)
        pi.send("model", command, response_topic=UP + "reply/mine")
        wait_until(lambda: updater.requests, 5, "the request")
        time.sleep(0.3)
        (asked, reply), = updater.requests
        assert asked == {"sha256": "ab" * 32}
        reply({"status": "ok", "data": {"state": "fetching"}})
        reply({"status": "ok", "data": {"state": "swapped"}})
        for topic in (UP + "reply/model", UP + "reply/mine"):
            pi.wait(topic, data={"state": "fetching"}, id="m1")
            pi.wait(topic, data={"state": "swapped"}, id="m1")
        assert pi.ask("model", command)["data"] == {"state": "swapped"}
        assert len(updater.requests) == 1
        pi.send("model", {"id": "m2"})
        wait_until(lambda: len(updater.requests) == 2, 5, "the second")
        updater.requests[1][1]({"status": "error", "error": "no signature",
                                "data": {"state": "refused"}})
        seen = pi.wait(UP + "reply/model", id="m2").record
        assert seen == {"id": "m2", "status": "error", "error": "no signature",
                        "data": {"state": "refused"}}


def test_without_a_file_or_updates_these_are_refused(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path) as pi:
        assert "without a configuration file" in pi.ask("reload", {})["error"]
        assert "takes no models over the broker" in pi.ask("model", {})["error"]


def test_a_hostile_sender_ends_nothing(broker, camera, tmp_path):
    rng = random.Random(11)
    with station(broker, camera.bundle, tmp_path) as pi:
        names = ["policy", "bounds", "reload", "health", "model", "x", "polcy", "Ü", "$SYS"]
        for _ in range(400):
            body = rng.choice([
                rng.randbytes(rng.randrange(200)), b"[" * rng.randrange(20_000),
                json.dumps({"id": rng.choice([1, "x", None, [], "y" * 200]),
                            rng.choice(["aim", "kl", "min_cut", "\ud800".encode(
                                "utf-8", "replace").decode()]): rng.choice(
                                [None, -1, 1e308, "deadline", {}, True])}).encode()])
            with contextlib.suppress(Exception):
                pi.send(rng.choice(names), body, response_topic=rng.choice(
                    [None, "a", UP + "status", "si/v1/_reply/x/pi", "/" * 50]))
        wait_until(lambda: not pi.observer._session.backlog_bytes(), 20, "the last of them")
        # Replies to all that may have been too many at once; one that is lost is asked for again.
        mine, asked = "si/v1/_reply/me/pi", {"id": "still here", "deadline_ms": 444}

        def is_answered() -> bool:
            pi.send("bounds", asked, qos=1, response_topic=mine)
            time.sleep(0.5)
            return bool(pi.observer.on(mine))

        wait_until(is_answered, 20, "a reply")
        assert pi.observer.on(mine)[0].record["data"]["deadline_ms"] == 444
        assert pi.frame().outcome in ("local", "remote", "fallback")
        assert pi.agent.node.session.stats.callback_errors == 0
        statuses = {s.payload for s in pi.observer.on(UP + "status")}
        assert all(json.loads(s)["state"] in ("ready", "stopped") for s in statuses)


# -- events


def test_an_outage_is_told_afterwards(camera, tmp_path):
    with Rig(tmp_path, proxied=True) as rig, station(
            rig.broker, camera.bundle, tmp_path, url=rig.device_url) as pi:
        pi.wait(UP + "event", event="started", model=pi.agent.bundle.manifest.name)
        since_s = time.monotonic()
        rig.proxy.cut()
        wait_until(lambda: not pi.agent.node.is_up, 10, "the loss")
        pi.desk.teller.tell("mains", "the mains are lost", mains=False, battery_ratio=0.5)
        assert pi.frame().outcome == "local"
        told = pi.wait(UP + "event", event="link-up", since_s=since_s, timeout_s=40).record
        assert 0 <= told["away_s"] < 45 and told["reason"]
        pi.wait(UP + "event", event="mains", since_s=since_s)    # waited for the broker
        health = pi.wait(UP + "health", since_s=since_s).record
        assert health["link"]["reconnects"] == 1


def test_lateness_is_told_when_it_is_more_than_now_and_then(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path, frame=FrameConfig(deadline_ms=0.01)) as pi:
        for _ in range(31):
            pi.frame()
        event = pi.wait(UP + "event", event="late").record
        assert event["high"] and event["frames"] >= 30 and event["late_ratio"] > 0.5


def test_workers_that_come_and_go_are_told(tmp_path, camera):
    with Rig(tmp_path) as rig, station(rig.broker, camera.bundle, tmp_path, fixed=True) as pi:
        worker = rig.worker()
        pi.wait(UP + "event", event="worker", worker=worker.id, timeout_s=30)
        worker.stop()
        pi.wait(UP + "event", event="worker", worker=None, was=worker.id, timeout_s=30)


def test_a_late_last_will_of_an_earlier_connection_does_not_stand(broker, camera, tmp_path):
    config = AgentConfig(model=ModelConfig(str(camera.bundle)), id="pi",
                         broker=BrokerConfig(url=broker.url, keepalive_s=5),
                         state_dir=str(tmp_path / "state"))
    observer = Observer(broker.url, UP + "status").start()
    agent = EdgeAgent(config)
    desk = Desk(agent, Recent())
    agent.attach(desk)
    with desk, agent:
        wait_until(lambda: agent.node.is_up, 10, "a connection")
        observer.publish(UP + "status", b'{"state": "lost", "session": "00"}', retain=True)
        lost_s = observer.wait(lambda s: s.record.get("state") == "lost", 5, "lost").seen_s
        observer.wait(lambda s: s.record.get("state") == "ready", 15, "ready again",
                      after_s=lost_s)
    observer.stop()


# -- Home Assistant


def test_the_device_appears_in_home_assistant_with_true_states(tmp_path, camera):
    """Every template, by Home Assistant's rules, on what a running agent really publishes."""
    with Rig(tmp_path) as rig, station(
            rig.broker, camera.bundle, tmp_path,
            homeassistant=HomeAssistantConfig(enabled=True, name="Front door")) as pi:
        worker = rig.worker()
        wait_until(lambda: pi.agent.missing() is None, 30, "the worker")
        topic = discovery_topic(pi.agent.config.homeassistant, "pi")
        document = pi.wait(topic)
        found = entities(topic, document.payload)
        answer = pi.frame()
        pi.send("health", {})
        pi.wait(UP + "health", totals={str(answer.outcome): 1})
        shown = {}
        for key, entity in found.items():
            payloads = [s.payload for s in pi.observer.seen
                        if matches(entity["state_topic"], s.topic)]
            assert payloads, f"nothing is published on {entity['state_topic']}"
            shown[key] = [state_of(entity, p) for p in payloads][-1]
        status = pi.observer.on(UP + "status")[-1]
        assert is_available(found["cut"], status.payload)
        record = json.loads(pi.observer.on(UP + "result")[-1].payload)
        top = record["top"][0]
        assert shown["answer"] == (top["label"] or str(top["index"]))
        assert float(shown["confidence"]) == pytest.approx(100 * top["score"], abs=0.1)
        assert float(shown["latency"]) == record["total_ms"]
        assert shown["outcome"] == record["outcome"] == answer.outcome
        assert shown["policy"] == "latency" and float(shown["memory"]) > 10
        assert int(shown["cut"]) == pi.agent.plan.cut
        assert worker.id in (shown["worker"], worker.id)
        # The select, as Home Assistant publishes it.
        command_topic, payload = command_of(found["policy"], "deadline")
        pi.observer.publish(command_topic, payload, qos=1)
        health = pi.wait(UP + "health", aim="deadline")
        assert state_of(found["policy"], health.payload) == "deadline"
        # Nothing was published anywhere that the documentation does not know.
        known = topic_filters("si/v1")
        for seen_on in {s.topic for s in pi.observer.seen}:
            assert any(re.fullmatch(k, seen_on) for k in known), seen_on


def test_discovery_is_retained_repeated_at_birth_and_taken_away(broker, camera, tmp_path):
    enabled = HomeAssistantConfig(enabled=True)
    topic = discovery_topic(enabled, "pi")

    def retained() -> dict[str, bytes]:
        late = Observer(broker.url, "homeassistant/#", "ha2/#").start()
        time.sleep(0.5)
        late.stop()
        return {s.topic: s.payload for s in late.seen}

    with station(broker, camera.bundle, tmp_path, homeassistant=enabled) as pi:
        pi.wait(topic)
        time.sleep(0.2)
        count = len(pi.observer.on(topic))
        pi.observer.publish(birth_topic(enabled), b"online")
        wait_until(lambda: len(pi.observer.on(topic)) == count + 1, 5, "discovery again")
        assert topic in retained()
        # Other settings that it does not show say nothing new.
        pi.ask("bounds", {"deadline_ms": 777})
        # Another prefix: there, and no longer here.
        pi.agent.reconfigure(lambda c: msgspec.structs.replace(
            c, homeassistant=HomeAssistantConfig(enabled=True, prefix="ha2")))
        wait_until(lambda: set(retained()) == {"ha2/device/pi/config"}, 10, "the other prefix")
        assert len(pi.observer.on(topic)) == count + 2       # the last one was empty
        assert pi.observer.on(topic)[-1].payload == b""
    assert set(retained()) == {"ha2/device/pi/config"}, "it stays while the agent is away"
    # Somebody disables it and starts the agent again.
    with station(broker, camera.bundle, tmp_path):
        wait_until(lambda: retained() == {}, 10, "the document to be cleared")
    assert not (tmp_path / "state" / "homeassistant.json").exists()


def test_an_agent_that_was_never_enabled_writes_nothing_there(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path) as pi:
        pi.ask("policy", {"aim": "deadline"})
        assert [s.topic for s in pi.observer.seen if s.topic.startswith("homeassistant")] == []


# -- results by template


def test_answers_go_where_the_template_says(broker, camera, tmp_path):
    with station(broker, camera.bundle, tmp_path, result=ResultConfig(
            topic="home/{id}/{outcome}/{label}")) as pi:
        answer = pi.frame()
        wait_until(lambda: any(s.topic.startswith("home/") for s in pi.observer.seen), 5, "it")
        seen = next(s for s in pi.observer.seen if s.topic.startswith("home/"))
        top = seen.record["top"][0]
        assert seen.topic == f"home/pi/{answer.outcome}/{top['label'] or top['index']}"
