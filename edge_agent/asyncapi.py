"""The topics and their records as an AsyncAPI 3 document, for programs that make programs of it.

Made of the very structs that are written and read, and of the functions that build the topics;
docs/mqtt-topics.md says the same in words and says what it means. Who sends and who receives is
said from the device's side, or the worker's where the topic is a worker's.
https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from edge_agent.models.updater import ModelCommand, ModelStep
from edge_agent.remote import commands, events
from edge_agent.results.record import ResultRecord
from split_core.cost.profile import Profile, WorkerProfiles
from split_core.version import VERSION
from split_core.wire.records import (
    DeviceHealth, DeviceInfo, DeviceStatus, PlanRecord, WorkerInfo, WorkerLoad, WorkerStatus,
)
from split_core.wire.topics import DEFAULT_ROOT, Topics

_JSON, _BYTES = "application/json", "application/octet-stream"
_PAGE = "docs/mqtt-topics.md"
# Of a command named in the topic, the data of its reply.
_REPLY_DATA = {"policy": commands.InForce, "bounds": commands.InForce,
               "reload": commands.Reloaded, "health": DeviceHealth, "model": ModelStep}
_PARAMETERS = {
    "root": {"description": "The topic root; it may have several levels.",
             "default": DEFAULT_ROOT, "examples": [DEFAULT_ROOT, f"acme/{DEFAULT_ROOT}"]},
    "device": {"description": "A device's id.", "examples": ["pi-door"]},
    "worker": {"description": "A worker's id.", "examples": ["w1"]},
    "asker": {"description": "Who asks: with access rules, the MQTT user.", "examples": ["anna"]},
    "prefix": {"description": "Home Assistant's discovery prefix.", "default": "homeassistant"},
    "object": {"description": "The device's id; with _ and six digits where it has characters"
                              " that Home Assistant does not take.", "examples": ["pi-door"]},
}
_PLACES = {name: f"{{{name}}}" for name in _PARAMETERS}


@dataclass(frozen=True, slots=True)
class _Record:
    """JSON of one kind, or with ``kind`` None bytes that another document describes."""

    name: str
    summary: str
    kind: type | None = None
    content_type: str = _JSON


@dataclass(frozen=True, slots=True)
class _Channel:
    """One topic: who sends, how, and what."""

    name: str
    address: str
    who: Literal["device", "worker"]
    action: Literal["send", "receive"]
    qos: int
    retained: bool
    records: tuple[_Record, ...]
    reply: str | None = None         # the channel on which it is answered


def document() -> dict:
    """The AsyncAPI document, as `json.dumps` takes it."""
    channels = list(_channels())
    records = {r.name: r for c in channels for r in c.records}
    schemas = _schemas(tuple(r.kind for r in records.values() if r.kind is not None))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "edge-agent over MQTT", "version": VERSION,
            "license": {"name": "Apache-2.0"},
            "description": f"Made by `edge-agent asyncapi`; {_PAGE} says what it means. Fields"
                           " that a reader does not know are to be ignored.",
        },
        "defaultContentType": _JSON,
        "channels": {c.name: _channel(c) for c in channels},
        "operations": {c.name: _operation(c) for c in channels},
        "components": {
            "parameters": _PARAMETERS,
            "messages": {name: _message(record) for name, record in records.items()},
            "schemas": schemas,
        },
    }


# -- what there is


def _channels() -> Iterator[_Channel]:
    topics = Topics(_PLACES["root"])
    device, worker = _PLACES["device"], _PLACES["worker"]

    def up(channel: str, qos: int, retained: bool, *records: _Record) -> _Channel:
        return _Channel(f"device{channel.title()}", topics.device_up(device, channel), "device",
                        "send", qos, retained, records)

    yield up("status", 1, True, _Record("DeviceStatus", "Whether it is there; also its last will",
                                        DeviceStatus))
    yield up("info", 1, True, _Record("DeviceInfo", "What it runs", DeviceInfo))
    yield up("profile", 1, True, _Record("Profile", "What the bundle takes on it", Profile))
    yield up("plan", 1, True, _Record("Plan", "Where it cuts, and why", PlanRecord))
    yield up("result", 1, False, _Record("Result", "How a frame ended; or on the topic in the"
                                          " configuration (result.topic)", ResultRecord))
    yield up("health", 0, False, _Record("Health", "How it fares", DeviceHealth))
    yield up("event", 1, False, *_events())
    for name in commands.NAMES:
        yield _Channel(f"command{name.title()}", topics.device_command(device, name), "device",
                       "receive", 1, False, (_command(name),), f"reply{name.title()}")
    for name in commands.NAMES:
        yield _Channel(f"reply{name.title()}", topics.device_reply(device, name), "device",
                       "send", 1, False, (_reply(name),))
    yield _Channel("replyUnknown", topics.device_reply(device, "unknown"), "device", "send", 1,
                   False, (_reply("unknown"),))
    asked = f"{topics.root}/_reply/{_PLACES['asker']}/{device}"
    yield _Channel("replyAsked", asked, "device", "send", 1, False,
                   tuple(_reply(name) for name in (*commands.NAMES, "unknown")))
    yield _Channel("deviceFrame", topics.device_frames(device), "device", "receive", 0, False,
                   (_Record("Picture", "A picture: JPEG, PNG, WebP, BMP or PPM",
                            content_type="image/*"),))
    chunk = _Record("Chunk", "A part of a binary message: docs/wire-format.md",
                    content_type=_BYTES)
    yield _Channel("deviceInbox", topics.device_inbox(device, worker), "device", "receive", 0,
                   False, (chunk,))

    def pool(channel: str, record: _Record) -> _Channel:
        return _Channel(f"worker{channel.title()}", topics.worker_up(worker, channel), "worker",
                        "send", 1, True, (record,))

    yield pool("status", _Record("WorkerStatus", "Whether it is there; also its last will",
                                 WorkerStatus))
    yield pool("info", _Record("WorkerInfo", "What it runs", WorkerInfo))
    yield pool("profile", _Record("WorkerProfiles", "What bundles take there", WorkerProfiles))
    yield pool("load", _Record("WorkerLoad", "How busy it is", WorkerLoad))
    yield _Channel("workerInbox", topics.worker_inbox(worker, device), "worker", "receive", 0,
                   False, (chunk,))
    yield _Channel("homeAssistant", f"{_PLACES['prefix']}/device/{_PLACES['object']}/config",
                   "device", "send", 1, True,
                   (_Record("Discovery", "Home Assistant's device discovery document; empty: the"
                                         " device is taken away"),))


def _events() -> Iterator[_Record]:
    for event, types in events.TYPES.items():
        name = "Event" + "".join(word.title() for word in event.split("-"))
        kind = msgspec.defstruct(name, [
            ("at", str), ("event", Literal[event]), ("text", str), *types.items(),
            ("skipped", int | UnsetType, UNSET)], namespace={"__doc__": f"The event {event}."})
        yield _Record(name, f"Event: {event}", kind)


def _command(name: str) -> _Record:
    kind = commands.KINDS.get(name, ModelCommand)
    if name in ("reload", "health"):             # one kind, but two things to say
        kind = msgspec.defstruct(f"{name.title()}Command", [("id", commands.Id | int | None, None)],
                                 forbid_unknown_fields=True, namespace={"__doc__": kind.__doc__})
    return _Record(f"{name.title()}Command", f"Command: {name}", kind)


def _reply(name: str) -> _Record:
    data = _REPLY_DATA.get(name)
    fields = [("id", str | int | None), ("status", Literal["ok", "error"])]
    if data is not None:
        fields.append(("data", data | UnsetType, UNSET))
    fields.append(("error", str | UnsetType, UNSET))
    what = f"the command {name}" if data is not None else "a command that there is not"
    kind = msgspec.defstruct(f"{name.title()}Reply", fields,
                             namespace={"__doc__": f"The reply to {what}."})
    return _Record(f"{name.title()}Reply", f"Reply: {name}", kind)


# -- as AsyncAPI says it


def _channel(channel: _Channel) -> dict:
    return {
        "address": channel.address,
        "messages": {r.name: {"$ref": f"#/components/messages/{r.name}"}
                     for r in channel.records},
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"}
                       for name in re.findall(r"{(\w+)}", channel.address)},
    }


def _operation(channel: _Channel) -> dict:
    operation: dict[str, Any] = {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "tags": [{"name": channel.who}],
        "bindings": {"mqtt": {"qos": channel.qos, "retain": channel.retained,
                              "bindingVersion": "0.2.0"}},
    }
    if channel.reply is not None:
        operation["description"] = ("Answered on the channel of the reply, or where an MQTT 5"
                                    " response topic asks for it (replyAsked).")
        operation["reply"] = {"channel": {"$ref": f"#/channels/{channel.reply}"}}
    return operation


def _message(record: _Record) -> dict:
    message: dict[str, Any] = {"name": record.name, "summary": record.summary,
                               "contentType": record.content_type}
    if record.kind is not None:
        message["payload"] = {"$ref": f"#/components/schemas/{record.kind.__name__}"}
    elif record.content_type == _JSON:
        message["payload"] = {"type": "object"}
    return message


def _schemas(kinds: tuple[type, ...]) -> dict:
    _, schemas = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}")
    for kind in _all_structs(kinds):
        properties = schemas[kind.__name__]["properties"]
        for name, text in _comments(kind).items():
            # Beside a $ref a description would count for nothing before JSON Schema 2019-09.
            if "$ref" not in properties[name]:
                properties[name] = {"description": text, **properties[name]}
    # It stands apart because the desk reads it: every command has one.
    _, plain = msgspec.json.schema_components((commands.PlainId,))
    identity = plain["PlainId"]["properties"]["id"]
    schemas["ModelCommand"]["properties"]["id"] = identity
    return _readable(schemas)


def _all_structs(kinds: tuple[type, ...]) -> Iterator[type]:
    """Each struct among these and within them, once."""
    seen: set[type] = set()

    def walk(info: msgspec.inspect.Type) -> Iterator[type]:
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in seen:
                return
            seen.add(info.cls)
            yield info.cls
            for field in info.fields:
                yield from walk(field.type)
        for part in ("item_type", "value_type", "type"):
            if isinstance(inner := getattr(info, part, None), msgspec.inspect.Type):
                yield from walk(inner)
        for inner in getattr(info, "types", ()):
            yield from walk(inner)

    for kind in kinds:
        yield from walk(msgspec.inspect.type_info(kind))


def _comments(kind: type) -> dict[str, str]:
    """The comment behind each field of a struct, by the field's name on the wire."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):                 # made here
        return {}
    found, lines = {}, source.splitlines()
    on_wire = {f.name: f.encode_name for f in msgspec.structs.fields(kind)}
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign):
            behind = lines[node.end_lineno - 1][node.end_col_offset:].strip()
            if behind.startswith("#"):
                found[on_wire[node.target.id]] = behind.lstrip("# ")
    return found


def _readable(schema: Any) -> Any:
    """With patterns that every regular expression reads (Python's \\Z is one of its own), and
    docstrings on one line. Bounds are whole where they can be: Python makes 3600 and 3600.0 one
    annotation, written as whichever was met first."""
    if isinstance(schema, list):
        return [_readable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changes = {"pattern": lambda text: text.replace(r"\Z", "$"),
               "description": lambda text: " ".join(text.replace("``", "`").split()),
               "minimum": _whole, "maximum": _whole}
    return {key: changes[key](value) if key in changes and isinstance(value, (str, float))
            else _readable(value) for key, value in schema.items()}


def _whole(bound: float) -> float:
    return int(bound) if bound == int(bound) else bound
