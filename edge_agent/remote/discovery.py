"""The device as Home Assistant is to see it: one retained discovery document. Pure.

Device-based discovery, which Home Assistant has had since 2024.11: the device, who offers it
(the origin), and its components, each an entity. What entities show is cut out of the records
that the device publishes anyway, by templates that Home Assistant runs.
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import msgspec

from edge_agent.remote.config import HomeAssistantConfig
from edge_agent.results.topic import filter_of
from split_core.version import VERSION
from split_core.wire.topics import Topics

# After so many health records that did not come their values are unknown.
MISSED_RECORDS = 3
AIMS = ("latency", "deadline")


@dataclass(frozen=True, slots=True)
class Shown:
    """What discovery needs to know of a device."""

    id: str
    topics: Topics
    result_topic: str | None         # as configured; None: the device's own
    health_every_s: float
    model: str
    answer_kind: str                 # of the bundle: classification, detection, sequence, ...
    adapts: bool                     # it plans for itself, so that a policy has a say
    accepts_policy: bool             # by command


def object_id(device: str) -> str:
    """A device's id as Home Assistant takes it in a topic: letters, digits, - and _ only. Ids
    with other characters get a few digits of their own, so that two of them stay two."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", device):
        return device
    digits = hashlib.sha256(device.encode()).hexdigest()[:6]
    return re.sub(r"[^A-Za-z0-9_-]", "_", device) + "_" + digits


def discovery_topic(config: HomeAssistantConfig, device: str) -> str:
    return f"{config.prefix}/device/{object_id(device)}/config"


def birth_topic(config: HomeAssistantConfig) -> str:
    """Where Home Assistant says "online" when it has started."""
    return f"{config.prefix}/status"


def discovery(shown: Shown, config: HomeAssistantConfig) -> bytes:
    """The document to retain on the discovery topic."""
    topics, device = shown.topics, shown.id
    return msgspec.json.encode({
        "dev": {"ids": [f"edge-agent_{device}"], "name": config.name or device,
                "mf": "edge-agent", "mdl": shown.model, "sw": VERSION},
        "o": {"name": "edge-agent", "sw": VERSION},
        "avty": [{"t": topics.device_up(device, "status"),
                  "val_tpl": "{{ 'online' if value_json.state == 'ready' else 'offline' }}"}],
        "cmps": _components(shown, config),
    })


def _components(shown: Shown, config: HomeAssistantConfig) -> dict[str, dict]:
    own = object_id(shown.id)
    components = {}
    for key, component in {**_of_results(shown, config), **_of_health(shown)}.items():
        components[key] = {"uniq_id": f"edge-agent_{own}_{key}", **component}
    policy = {"p": "select"}
    if shown.adapts and shown.accepts_policy:
        policy |= {
            "uniq_id": f"edge-agent_{own}_policy", "name": "Policy", "ic": "mdi:scale-balance",
            "stat_t": shown.topics.device_up(shown.id, "health"),
            "val_tpl": "{{ value_json.aim }}", "ops": list(AIMS), "ent_cat": "config",
            "cmd_t": shown.topics.device_command(shown.id, "policy"),
            "cmd_tpl": '{"aim": "{{ value }}"}', "qos": 1}
    # Without another key it takes away a select from before the plan was fixed.
    return {**components, "policy": policy}


def _of_results(shown: Shown, config: HomeAssistantConfig) -> dict[str, dict]:
    """Entities that each answer changes."""
    topic = (shown.topics.device_up(shown.id, "result") if shown.result_topic is None
             else filter_of(shown.result_topic, shown.id))
    common = {"p": "sensor", "stat_t": topic}
    if config.answer_lasts_s:
        common["exp_aft"] = config.answer_lasts_s
    answer, score = _ANSWERS.get(shown.answer_kind, (None, None))
    found = {
        "latency": common | {
            "name": "Latency", "dev_cla": "duration", "unit_of_meas": "ms",
            "stat_cla": "measurement", "sug_dsp_prc": 0,
            "val_tpl": "{{ value_json.total_ms }}"},
        "outcome": common | {
            "name": "Outcome", "dev_cla": "enum", "ent_cat": "diagnostic",
            "ops": ["remote", "local", "fallback", "dropped", "failed"],
            "val_tpl": "{{ value_json.outcome }}"},
    }
    if answer is not None:
        found["answer"] = common | {"name": "Answer", "ic": "mdi:image-search-outline",
                                    "val_tpl": answer}
        found["confidence"] = common | {
            "name": "Confidence", "unit_of_meas": "%", "stat_cla": "measurement",
            "sug_dsp_prc": 0, "val_tpl": score}
    return found


def _of_health(shown: Shown) -> dict[str, dict]:
    """Entities of the health record."""
    common = {"p": "sensor", "stat_t": shown.topics.device_up(shown.id, "health"),
              "exp_aft": round(MISSED_RECORDS * shown.health_every_s) + 5}
    diagnostic = common | {"stat_cla": "measurement", "ent_cat": "diagnostic"}
    return {
        "rate": diagnostic | {
            "name": "Answers a second", "unit_of_meas": "Hz", "dev_cla": "frequency",
            "sug_dsp_prc": 1, "val_tpl": "{{ value_json.fps }}"},
        "p95": diagnostic | {
            "name": "Latency p95", "unit_of_meas": "ms", "dev_cla": "duration",
            "sug_dsp_prc": 0, "val_tpl": "{{ value_json.p95_ms }}"},
        "cut": diagnostic | {"name": "Cut", "ic": "mdi:content-cut",
                             "val_tpl": "{{ value_json.cut }}"},
        "worker": common | {"name": "Worker", "ent_cat": "diagnostic", "ic": "mdi:server",
                            "val_tpl": "{{ value_json.worker }}"},
        "battery": diagnostic | {
            "name": "Battery", "unit_of_meas": "%", "dev_cla": "battery",
            "val_tpl": _percent("value_json.battery_ratio")},
        "temperature": diagnostic | {
            "name": "Processor temperature", "unit_of_meas": "°C", "dev_cla": "temperature",
            "val_tpl": "{{ value_json.temperature_c }}"},
        "cpu": diagnostic | {
            "name": "Processor use", "unit_of_meas": "%", "ic": "mdi:cpu-64-bit",
            "val_tpl": _percent("value_json.cpu_busy_ratio")},
        "memory": diagnostic | {
            "name": "Memory", "unit_of_meas": "MB", "dev_cla": "data_size", "sug_dsp_prc": 0,
            "val_tpl": "{{ (value_json.memory_bytes / 1e6) | round(1) }}"},
        "link_rtt": diagnostic | {
            "name": "Round trip to the broker", "unit_of_meas": "ms", "dev_cla": "duration",
            "sug_dsp_prc": 0, "val_tpl": "{{ value_json.link.rtt_ms }}"},
        "link_rate": diagnostic | {
            "name": "Uplink", "unit_of_meas": "Mbit/s", "dev_cla": "data_rate",
            "sug_dsp_prc": 2, "val_tpl": _known(
                "value_json.link.rate_bps", "(value_json.link.rate_bps / 1e6) | round(3)")},
        "signal": diagnostic | {
            "name": "Wi-Fi signal", "unit_of_meas": "dBm", "dev_cla": "signal_strength",
            "val_tpl": "{{ value_json.link.signal_dbm }}"},
        "throttled": {
            "p": "binary_sensor", "name": "Throttled", "dev_cla": "problem",
            "stat_t": common["stat_t"], "exp_aft": common["exp_aft"], "ent_cat": "diagnostic",
            "val_tpl": _truth("value_json.throttled")},
        "mains": {
            "p": "binary_sensor", "name": "Mains", "dev_cla": "plug",
            "stat_t": common["stat_t"], "exp_aft": common["exp_aft"], "ent_cat": "diagnostic",
            "val_tpl": _truth("value_json.mains")},
    }


def _known(value: str, shown: str) -> str:
    """A template that gives "None", which is unknown to Home Assistant, for null."""
    return f"{{{{ None if {value} is none else {shown} }}}}"


def _percent(ratio: str) -> str:
    return _known(ratio, f"(100 * {ratio}) | round(1)")


def _truth(value: str) -> str:
    return _known(value, f"'ON' if {value} else 'OFF'")


# What Home Assistant shows of an answer and how sure it is, by the kind of the bundle's answers.
# A state may have 255 characters. A frame that failed has no answer: unknown.
_ANSWERS = {
    "classification": (
        "{% set t = value_json.get('top') %}"
        "{{ (t[0].label or t[0].index | string)[:255] if t else None }}",
        "{% set t = value_json.get('top') %}"
        "{{ (100 * t[0].score) | round(1) if t else None }}"),
    "sequence": (
        "{% set t = value_json.get('text') %}{{ None if t is none else t[:255] }}",
        "{% set s = value_json.get('score') %}"
        "{{ None if s is none else (100 * s) | round(1) }}"),
    "detection": (
        "{% set o = value_json.get('objects') %}{% set found = namespace(names=[]) %}"
        "{% for x in o or [] %}"
        "{% set found.names = found.names + [(x.label or x.index) | string] %}{% endfor %}"
        "{{ None if o is none else (found.names | unique | join(', '))[:255] or 'nothing' }}",
        "{% set o = value_json.get('objects') %}"
        "{{ (100 * o | map(attribute='score') | max) | round(1) if o else None }}"),
}
