"""What Home Assistant does with a discovery document and the states behind it, as far as ours
needs it: its published rules, written down from

* https://www.home-assistant.io/integrations/mqtt/ (discovery topic and payload, abbreviations)
* https://www.home-assistant.io/integrations/sensor.mqtt/, binary_sensor.mqtt/, select.mqtt/
* https://www.home-assistant.io/integrations/sensor/#device-class (units, state classes)

and compared with homeassistant/components/mqtt/{discovery,schemas,abbreviations,config,sensor,
binary_sensor,select}.py and components/sensor/const.py of release 2026.2. The long checks run the
real schemas of a real release on the same documents (test_home_assistant.py).
"""

from __future__ import annotations

import json
import re

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

# abbreviations.py, those that platforms below have.
ABBREVIATIONS = {
    "avty": "availability", "avty_mode": "availability_mode", "avty_t": "availability_topic",
    "avty_tpl": "availability_template", "cmd_t": "command_topic", "cmd_tpl": "command_template",
    "cmps": "components", "dev": "device", "dev_cla": "device_class", "def_ent_id":
    "default_entity_id", "e": "encoding", "en": "enabled_by_default", "ent_cat": "entity_category",
    "ent_pic": "entity_picture", "exp_aft": "expire_after", "frc_upd": "force_update",
    "ic": "icon", "json_attr_t": "json_attributes_topic", "json_attr_tpl":
    "json_attributes_template", "lrst_val_tpl": "last_reset_value_template", "o": "origin",
    "obj_id": "object_id", "off_dly": "off_delay", "ops": "options", "opt": "optimistic",
    "p": "platform", "pl_avail": "payload_available", "pl_not_avail": "payload_not_available",
    "pl_off": "payload_off", "pl_on": "payload_on", "ret": "retain", "stat_cla": "state_class",
    "stat_t": "state_topic", "sug_dsp_prc": "suggested_display_precision", "t": "topic",
    "uniq_id": "unique_id", "unit_of_meas": "unit_of_measurement", "val_tpl": "value_template",
}
DEVICE_ABBREVIATIONS = {
    "cns": "connections", "cu": "configuration_url", "ids": "identifiers", "name": "name",
    "mf": "manufacturer", "mdl": "model", "mdl_id": "model_id", "hw": "hw_version",
    "sw": "sw_version", "sa": "suggested_area", "sn": "serial_number",
}
ORIGIN_ABBREVIATIONS = {"name": "name", "sw": "sw_version", "url": "support_url"}

# schemas.py: what the document may have, what every entity may, and what a platform adds.
_AVAILABILITY = {"availability", "availability_mode", "availability_topic",
                 "availability_template", "payload_available", "payload_not_available"}
DOCUMENT = _AVAILABILITY | {"device", "origin", "components", "state_topic", "command_topic",
                            "qos", "encoding"}
_ENTITY = _AVAILABILITY | {
    "platform", "unique_id", "device", "origin", "name", "icon", "entity_category",
    "entity_picture", "enabled_by_default", "json_attributes_topic", "json_attributes_template",
    "default_entity_id", "object_id", "qos", "encoding", "value_template", "state_topic"}
PLATFORMS = {
    "sensor": _ENTITY | {"device_class", "expire_after", "force_update", "options",
                         "last_reset_value_template", "suggested_display_precision",
                         "state_class", "unit_of_measurement"},
    "binary_sensor": _ENTITY | {"device_class", "expire_after", "force_update", "off_delay",
                                "payload_on", "payload_off"},
    "select": _ENTITY | {"command_topic", "command_template", "options", "optimistic", "retain"},
}
REQUIRED = {"sensor": {"state_topic"}, "binary_sensor": {"state_topic"},
            "select": {"command_topic", "options"}}
# sensor/const.py: units and state classes of a device class; those that we may want.
UNITS = {
    "battery": {"%"}, "temperature": {"°C", "°F", "K"},
    "duration": {"d", "h", "min", "s", "ms", "μs"}, "frequency": {"Hz", "kHz", "MHz", "GHz"},
    "data_rate": {"bit/s", "kbit/s", "Mbit/s", "Gbit/s", "B/s", "kB/s", "MB/s", "GB/s"},
    "data_size": {"bit", "kbit", "Mbit", "Gbit", "B", "kB", "MB", "GB", "KiB", "MiB", "GiB"},
    "signal_strength": {"dB", "dBm"}, "enum": {None},
}
_ALL_CLASSES = {None, "measurement", "total", "total_increasing"}
STATE_CLASSES = {"battery": {None, "measurement"}, "temperature": {None, "measurement"},
                 "frequency": {None, "measurement"}, "data_rate": {None, "measurement"},
                 "signal_strength": {None, "measurement"}, "enum": {None},
                 "duration": _ALL_CLASSES, "data_size": _ALL_CLASSES}
BINARY_CLASSES = {"problem", "plug", "power", "connectivity", "running", "heat", "update"}
TOPIC = re.compile(r"device/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")
# Longer states are refused (homeassistant.const.MAX_LENGTH_STATE_STATE).
MAX_STATE = 255


class Refused(Exception):
    """Home Assistant would log this and ignore the document, or an entity of it."""


def _demand(true: object, what: str) -> None:
    if not true:
        raise Refused(what)


def _long(mapping: dict, names: dict[str, str], allowed: set[str], where: str) -> dict:
    found = {names.get(key, key): value for key, value in mapping.items()}
    _demand(len(found) == len(mapping), f"{where}: a key is there twice")
    strangers = set(found) - allowed
    _demand(not strangers, f"{where}: unknown keys {sorted(strangers)}")
    return found


def entities(topic: str, payload: bytes, prefix: str = "homeassistant") -> dict[str, dict]:
    """The entities of a document, by component, with long names and what is shared among them;
    those that are only to be removed have no other key than the platform. Raises Refused."""
    _demand(topic.startswith(prefix + "/") and TOPIC.fullmatch(topic[len(prefix) + 1:]),
            f"illegal discovery topic {topic}")
    document = _long(json.loads(payload), ABBREVIATIONS, DOCUMENT, "document")
    for key in ("device", "origin", "components"):
        _demand(isinstance(document.get(key), dict), f"{key} is required")
    device = _long(document["device"], DEVICE_ABBREVIATIONS,
                   set(DEVICE_ABBREVIATIONS.values()) | {"via_device"}, "device")
    _demand(device.get("identifiers") or device.get("connections"),
            "a device needs an identifier or a connection")
    origin = _long(document["origin"], ORIGIN_ABBREVIATIONS, set(ORIGIN_ABBREVIATIONS.values()),
                   "origin")
    _demand(origin.get("name"), "the origin needs a name")
    for key, value in [*device.items(), *origin.items()]:
        _demand(isinstance(value, (str, list)), f"{key} is {value!r}")
    shared = {key: value for key, value in document.items()
              if key in _AVAILABILITY | {"state_topic", "command_topic"}}
    found = {}
    for key, component in document["components"].items():
        component = _long(component, ABBREVIATIONS, set().union(*PLATFORMS.values()), key)
        platform = component.get("platform")
        _demand(platform in PLATFORMS, f"{key}: platform {platform!r}")
        found[key] = component
        if len(component) > 1:
            found[key] = {**shared, **component, "device": device, "origin": origin}
            _check_entity(key, found[key])
    ids = [e["unique_id"] for e in found.values() if "unique_id" in e]
    _demand(len(set(ids)) == len(ids), "two entities have the same unique_id")
    return found


def _check_entity(key: str, entity: dict) -> None:
    platform = entity["platform"]
    strangers = set(entity) - PLATFORMS[platform]
    _demand(not strangers, f"{key}: a {platform} has no {sorted(strangers)}")
    missing = (REQUIRED[platform] | {"unique_id"}) - set(entity)
    _demand(not missing, f"{key}: {sorted(missing)} required")
    _check_values(key, entity)
    if platform == "sensor":
        _check_sensor(key, entity)
    elif platform == "binary_sensor":
        _demand(entity.get("device_class") in BINARY_CLASSES | {None},
                f"{key}: device class {entity.get('device_class')}")


def _check_values(key: str, entity: dict) -> None:
    for name, value in entity.items():
        if name.endswith("_topic"):
            _check_topic(f"{key}.{name}", value, wildcards=name != "command_topic")
        elif name.endswith("_template") or name in ("name", "unique_id"):
            _demand(isinstance(value, str) and value, f"{key}: {name} is {value!r}")
    for availability in entity.get("availability", []):
        found = _long(availability, ABBREVIATIONS, {"topic", "value_template", "payload_available",
                                                    "payload_not_available"}, "availability")
        _check_topic("availability", found.get("topic"), wildcards=True)
    _demand(entity.get("entity_category") in (
        {None, "diagnostic"} | ({"config"} if entity["platform"] == "select" else set())),
        f"{key}: entity category {entity.get('entity_category')} of a {entity['platform']}")
    _demand(re.fullmatch(r"mdi:[a-z0-9-]+", entity.get("icon", "mdi:x")), f"{key}: icon")
    for name in ("expire_after", "suggested_display_precision"):
        _demand(type(entity.get(name, 0)) is int and entity.get(name, 0) >= 0,
                f"{key}: {name} is {entity.get(name)!r}, a positive integer is wanted")
    _demand(entity.get("qos", 0) in (0, 1, 2), f"{key}: qos")
    options = entity.get("options", ["x"])
    _demand(isinstance(options, list) and options, f"{key}: options")


def _check_sensor(key: str, entity: dict) -> None:
    unit, kind = entity.get("unit_of_measurement"), entity.get("device_class")
    state_class = entity.get("state_class")
    _demand(kind is None or kind in UNITS, f"{key}: device class {kind} is not in the table here")
    if kind is not None:
        _demand(unit in UNITS[kind], f"{key}: unit {unit} of device class {kind}")
        _demand(state_class in STATE_CLASSES[kind], f"{key}: state class {state_class} of {kind}")
    _demand(state_class in _ALL_CLASSES, f"{key}: state class {state_class}")
    if "options" in entity:
        _demand(kind == "enum" and unit is None and state_class is None,
                f"{key}: options are for an enum without unit and state class")


def _check_topic(where: str, topic: object, *, wildcards: bool) -> None:
    _demand(isinstance(topic, str) and topic and "\0" not in topic, f"{where}: topic {topic!r}")
    if not wildcards:
        _demand(not set(topic) & set("+#"), f"{where}: {topic} is not one topic")
    for i, level in enumerate(levels := topic.split("/")):
        _demand(level in ("+", "#") or not set(level) & set("+#"), f"{where}: {topic}")
        _demand(level != "#" or i == len(levels) - 1, f"{where}: {topic}")


# -- states

# What has no value is a mistake here, where Home Assistant only warns.
_JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
UNKNOWN = None


def render(template: str, payload: bytes) -> str:
    """A value template's text for a payload."""
    return _JINJA.from_string(template).render(
        value=payload.decode(), value_json=json.loads(payload)).strip()


def state_of(entity: dict, payload: bytes) -> str | None:
    """What an entity shows for a payload of its state topic. Raises Refused for what it would
    refuse to show."""
    text = render(entity["value_template"], payload)
    if text == "None":
        return UNKNOWN
    match entity["platform"]:
        case "sensor":
            numeric = entity.get("state_class") or entity.get("unit_of_measurement")
            if numeric:
                float(text)
            _demand(text in entity.get("options", [text]), f"{text!r} is no option")
            _demand(0 < len(text) <= MAX_STATE, f"a state of {len(text)} characters")
        case "binary_sensor":
            _demand(text in ("ON", "OFF"), f"{text!r} of a binary sensor")
        case "select":
            _demand(text in entity["options"], f"{text!r} is no option")
    return text


def is_available(entity: dict, payload: bytes) -> bool:
    """Whether an entity is there, for a payload of its availability topic."""
    text = render(entity["availability"][0]["val_tpl"], payload)
    _demand(text in ("online", "offline"), f"availability {text!r}")
    return text == "online"


def command_of(entity: dict, option: str) -> tuple[str, bytes]:
    """What is published when an option is selected."""
    text = _JINJA.from_string(entity["command_template"]).render(value=option)
    return entity["command_topic"], text.encode()
