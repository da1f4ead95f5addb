"""The discovery document keeps Home Assistant's rules, and what entities show is true."""

from __future__ import annotations

import copy
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.remote.config import HomeAssistantConfig
from edge_agent.remote.discovery import Shown, discovery, discovery_topic, object_id
from split_core.wire.topics import Topics
from tests.support.home_assistant import (
    UNKNOWN, Refused, command_of, entities, is_available, state_of,
)

ROOT = Path(__file__).resolve().parents[3]
SHOWN = Shown(id="pi.door", topics=Topics(), result_topic=None, health_every_s=10.0, model="m",
              answer_kind="classification", adapts=True, accepts_policy=True)
CONFIG = HomeAssistantConfig(enabled=True)
RESULT = {"outcome": "remote", "total_ms": 25.5, "reason": "", "top": [
    {"index": 278, "label": "red fox", "score": 0.5912}]}
HEALTH = {"fps": 4.2, "p95_ms": 80.1, "cut": 14, "worker": "w1", "battery_ratio": 0.871,
          "temperature_c": 61.3, "cpu_busy_ratio": 0.4, "memory_bytes": 46_000_000, "mains": True,
          "throttled": False, "aim": "deadline", "link": {
              "rtt_ms": 21.3, "rate_bps": 1.5e6, "signal_dbm": -56.0}}


def made(shown: Shown = SHOWN, config: HomeAssistantConfig = CONFIG) -> dict[str, dict]:
    return entities(discovery_topic(config, shown.id), discovery(shown, config), config.prefix)


def states(shown: Shown, result: dict) -> dict[str, str | None]:
    found = made(shown)
    return {key: state_of(e, json.dumps(result if e["state_topic"].endswith("/result")
                                        else HEALTH).encode())
            for key, e in found.items()}


@pytest.mark.parametrize("kind", ["classification", "sequence", "detection", "raw"])
@pytest.mark.parametrize("adapts", [True, False])
def test_documents_keep_the_rules(kind, adapts):
    found = made(replace(SHOWN, answer_kind=kind, adapts=adapts))
    assert ("answer" in found) == (kind != "raw")
    # A plan that is fixed takes the select of an earlier start away.
    assert (set(found["policy"]) == {"platform"}) == (not adapts)


def test_all_that_shows_a_measurement_expires():
    for key, entity in made().items():
        if entity["platform"] != "select":
            assert entity["expire_after"] in (35, 3600), key
    quiet = made(config=replace_config(answer_lasts_s=0))
    assert "expire_after" not in quiet["answer"] and quiet["cut"]["expire_after"] == 35


def replace_config(**changes) -> HomeAssistantConfig:
    return HomeAssistantConfig(**{"enabled": True, **changes})


def test_states_say_what_the_records_say():
    assert states(SHOWN, RESULT) == {
        "answer": "red fox", "confidence": "59.1", "latency": "25.5", "outcome": "remote",
        "rate": "4.2", "p95": "80.1", "cut": "14", "worker": "w1", "battery": "87.1",
        "temperature": "61.3", "cpu": "40.0", "memory": "46.0", "link_rtt": "21.3",
        "link_rate": "1.5", "signal": "-56.0", "throttled": "OFF", "mains": "ON", "policy": "deadline"}


def test_what_is_unknown_is_unknown():
    nothing = {**HEALTH, "p95_ms": None, "worker": None, "battery_ratio": None, "mains": None,
               "temperature_c": None, "cpu_busy_ratio": None, "throttled": None,
               "link": {"rtt_ms": None, "rate_bps": None, "signal_dbm": None}}
    found = made()
    for key in ("p95", "worker", "battery", "temperature", "cpu", "mains", "throttled",
                "link_rtt", "link_rate", "signal"):
        assert state_of(found[key], json.dumps(nothing).encode()) is UNKNOWN, key
    failed = json.dumps({"outcome": "failed", "total_ms": 3.0, "reason": "no picture"}).encode()
    assert state_of(found["answer"], failed) is UNKNOWN
    assert state_of(found["confidence"], failed) is UNKNOWN
    assert state_of(found["outcome"], failed) == "failed"


@pytest.mark.parametrize("kind, record, answer, confidence", [
    ("classification", {"top": [{"index": 3, "label": None, "score": 1}]}, "3", "100"),
    ("classification", {"top": [{"index": 0, "label": "x" * 400, "score": 0}]}, "x" * 255, "0"),
    ("sequence", {"text": "0042", "score": 0.75}, "0042", "75.0"),
    ("detection", {"objects": []}, "nothing", None),
    ("detection", {"objects": [
        {"label": "cat", "index": 1, "score": 0.5}, {"label": "dog", "index": 2, "score": 0.9},
        {"label": "cat", "index": 1, "score": 0.4}]}, "cat, dog", "90.0"),
    ("detection", {"objects": [{"label": None, "index": 7, "score": 0.5}]}, "7", "50.0"),
])
def test_answers_of_every_kind(kind, record, answer, confidence):
    found = states(replace(SHOWN, answer_kind=kind), {"outcome": "local", "total_ms": 1, **record})
    assert (found["answer"], found["confidence"]) == (answer, confidence)


def test_the_device_is_there_while_it_is_ready():
    entity = made()["cut"]
    assert is_available(entity, b'{"state": "ready", "session": "ab"}')
    for state in ("stopped", "lost"):
        assert not is_available(entity, json.dumps({"state": state}).encode())


def test_the_select_publishes_the_command():
    topic, payload = command_of(made()["policy"], "deadline")
    assert (topic, json.loads(payload)) == ("si/v1/pi.door/dn/cmd/policy", {"aim": "deadline"})
    assert set(made(replace(SHOWN, accepts_policy=False))["policy"]) == {"platform"}


def test_answers_are_found_where_the_template_puts_them():
    shown = replace(SHOWN, result_topic="home/{id}/{label}/answer")
    assert made(shown)["answer"]["state_topic"] == "home/pi.door/+/answer"


@pytest.mark.parametrize("device", ["pi", "a_b-C3", "pi.door", "pi_door", "..", "-", "x" * 64])
def test_ids_fit_into_the_topic_and_stay_apart(device):
    found = made(replace(SHOWN, id=device), replace_config(prefix="ha/two", name="Front door"))
    assert found["cut"]["device"]["name"] == "Front door"
    others = {"pi", "pi.door", "pi_door", "pi-door", "..", "__", "_."} - {device}
    assert object_id(device) not in {object_id(other) for other in others}


def test_the_access_rules_call_a_device_the_same():
    spec = importlib.util.spec_from_file_location(
        "make_acl", ROOT / "integrations" / "mosquitto" / "make_acl.py")
    make_acl = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_acl)
    for device in ("pi", "pi.door", "..", "a_b-C3"):
        assert make_acl.object_id(device) == object_id(device)


# -- the rules themselves can fail


@pytest.mark.parametrize("fault", [
    lambda d: d.pop("dev"), lambda d: d.pop("o"), lambda d: d.pop("cmps"),
    lambda d: d["o"].pop("name"), lambda d: d["dev"].pop("ids"),
    lambda d: d["dev"].update(colour="red"), lambda d: d.update(dev_cla="battery"),
    lambda d: d["cmps"]["cut"].pop("p"), lambda d: d["cmps"]["cut"].pop("uniq_id"),
    lambda d: d["cmps"]["cut"].pop("stat_t"), lambda d: d["cmps"]["policy"].pop("cmd_t"),
    lambda d: d["cmps"]["policy"].pop("ops"), lambda d: d["cmps"]["cut"].update(p="gauge"),
    lambda d: d["cmps"]["cut"].update(uniq_id=d["cmps"]["p95"]["uniq_id"]),
    lambda d: d["cmps"]["battery"].update(unit_of_meas="V"),
    lambda d: d["cmps"]["temperature"].update(unit_of_meas="C"),
    lambda d: d["cmps"]["battery"].update(stat_cla="total"),
    lambda d: d["cmps"]["outcome"].update(stat_cla="measurement"),
    lambda d: d["cmps"]["cut"].update(ent_cat="config"),
    lambda d: d["cmps"]["cut"].update(exp_aft=3.5), lambda d: d["cmps"]["cut"].update(cmd_t="x"),
    lambda d: d["cmps"]["cut"].update(stat_t="a/b+"), lambda d: d["cmps"]["cut"].update(ic="cut"),
    lambda d: d["cmps"]["policy"].update(cmd_t="a/+"),
    lambda d: d["cmps"]["outcome"].update(dev_cla=None),
    lambda d: d["avty"][0].pop("t"), lambda d: d["cmps"]["cut"].update(state_topic="y"),
], ids=range(27))
def test_faults_are_found(fault):
    document = json.loads(discovery(SHOWN, CONFIG))
    fault(damaged := copy.deepcopy(document))
    assert damaged != document
    with pytest.raises((Refused, KeyError)):
        entities(discovery_topic(CONFIG, SHOWN.id), json.dumps(damaged).encode())


@pytest.mark.parametrize("topic", ["homeassistant/device/pi.door/config", "x/device/pi/config",
                                   "homeassistant/device/pi/state", "homeassistant/pi/config"])
def test_topics_that_are_ignored_are_found(topic):
    with pytest.raises(Refused, match="illegal discovery topic"):
        entities(topic, discovery(SHOWN, CONFIG))


@pytest.mark.parametrize("key, record", [
    ("latency", {"total_ms": "slow"}), ("outcome", {"outcome": "eaten"}),
    ("policy", {"aim": "thrift"}), ("cut", {})])
def test_states_that_are_refused_are_found(key, record):
    with pytest.raises(Exception, match="no option|could not convert|has no attribute"):
        state_of(made()[key], json.dumps(record).encode())
