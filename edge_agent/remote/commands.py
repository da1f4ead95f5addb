"""Commands, read and answered. Pure: what they do to the agent is done elsewhere.

A command is a JSON object; what cannot be read, is not known or is not allowed is refused with
words that say what was wanted. Commands change the running agent, never its file. Where they
touch privacy they can only make it stricter than the file: what the owner of the device has
written there, nobody on the broker can take back.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from edge_agent.config import AgentConfig
from edge_agent.policies.config import PolicyConfig
from split_core.config import convert
from split_core.errors import ConfigError, MessageError
from split_core.wire.topics import Topics

NAMES = ("policy", "bounds", "reload", "health", "model")
# Many times any command. The agent reads it on the network thread.
MAX_COMMAND_BYTES = 16 * 1024
MAX_ID = 128
KEPT_REPLIES = 64

Id = Annotated[str, msgspec.Meta(max_length=MAX_ID)]


class PolicyCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the plans aim at: policy.aim and, for the aim "deadline", policy.slack_price."""

    id: Id | int | None = None
    aim: Literal["latency", "deadline"] | UnsetType = UNSET
    slack_price: float | UnsetType = UNSET


class BoundsCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits: frame.deadline_ms, and keys of [policy]. min_cut and trusted_workers can be made
    stricter than the file, and as lax as the file again."""

    id: Id | int | None = None
    deadline_ms: float | UnsetType = UNSET
    kl: float | UnsetType = UNSET
    max_kl: float | UnsetType = UNSET
    only_calibrated: bool | UnsetType = UNSET
    min_cut: int | UnsetType = UNSET
    trusted_workers: tuple[str, ...] | None | UnsetType = UNSET
    mb_per_day: float | None | UnsetType = UNSET
    soft_c: float | UnsetType = UNSET
    hard_c: float | UnsetType = UNSET


class PlainCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command that is said by its name alone: reload, health."""

    id: Id | int | None = None


KINDS = {"policy": PolicyCommand, "bounds": BoundsCommand,
         "reload": PlainCommand, "health": PlainCommand}
# The keys of [policy] that these two may set; deadline_ms is the only other.
_POLICY_KEYS = ("aim", "slack_price", "kl", "max_kl", "only_calibrated", "min_cut",
                "trusted_workers", "mb_per_day", "soft_c", "hard_c")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that could be read: ``body`` as a struct, or for "model" as a dict."""

    name: str
    id: str | int | None
    body: msgspec.Struct | dict


def check_name(name: str, accept: tuple[str, ...]) -> None:
    """Raises MessageError for a command that there is not, or that is not accepted here."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        raise MessageError(f"unknown command {name[:40]!r}"
                           + (f"; did you mean {near[0]}?" if near else
                              f"; there are {', '.join(NAMES)}"))
    if name not in accept:
        raise MessageError(f"this device does not accept {name}"
                           " (commands.accept in its configuration)")


def id_of(payload: bytes) -> str | int | None:
    """The id in a command that may be wrong otherwise, so that a refusal can carry it."""
    if len(payload) > MAX_COMMAND_BYTES:
        return None
    try:
        return msgspec.json.decode(payload, type=PlainId).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class PlainId(msgspec.Struct):
    """Only the id of a command."""

    id: Id | int | None = None


def read(name: str, payload: bytes) -> Command:
    """A command of a known name. An empty payload is one without anything. Raises MessageError."""
    if len(payload) > MAX_COMMAND_BYTES:
        raise MessageError(f"the command has {len(payload)} bytes, wanted at most"
                           f" {MAX_COMMAND_BYTES}")
    try:
        record = msgspec.json.decode(payload) if payload.strip() else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise MessageError(f"not JSON: {e}") from None
    if not isinstance(record, dict):
        raise MessageError(f"a JSON {type(record).__name__}, wanted an object such as"
                           ' {"id": "1"}')
    if name == "model":
        return Command(name, id_of(payload), {k: v for k, v in record.items() if k != "id"})
    try:
        body = convert(record, KINDS[name], f"command {name}")
    except ConfigError as e:
        raise MessageError(str(e)) from None
    return Command(name, body.id, body)


# -- settings


@dataclass(frozen=True, slots=True)
class Floor:
    """What of privacy the file demands: a command may not go below it."""

    min_cut: int
    trusted: tuple[str, ...] | None

    @classmethod
    def of(cls, policy: PolicyConfig) -> Floor:
        return cls(policy.min_cut, policy.trusted_workers)

    def raised(self, policy: PolicyConfig) -> Floor:
        """The stricter of this and of other settings."""
        trusted = self.trusted
        if policy.trusted_workers is not None:
            trusted = tuple(w for w in policy.trusted_workers
                            if trusted is None or w in trusted)
        return Floor(max(self.min_cut, policy.min_cut), trusted)

    def check(self, policy: PolicyConfig) -> None:
        """Raises ConfigError for settings that are laxer than the file."""
        if policy.min_cut < self.min_cut:
            raise ConfigError(f"min_cut is {policy.min_cut}, the device's file demands"
                              f" {self.min_cut} or more; a command can only make privacy"
                              " stricter, the file alone can make it laxer")
        if self.trusted is None:
            return
        strangers = [w for w in policy.trusted_workers or () if w not in self.trusted]
        if policy.trusted_workers is None or strangers:
            raise ConfigError(
                "trusted_workers is " + (", ".join(strangers) or "everyone")
                + f", the device's file trusts {', '.join(self.trusted) or 'nobody'} only;"
                  " a command can take workers away, the file alone can add them")


def changed(config: AgentConfig, command: Command, floor: Floor) -> AgentConfig:
    """The settings with a policy or bounds command carried out. Raises ConfigError."""
    asked = {k: v for k, v in msgspec.structs.asdict(command.body).items()
             if k != "id" and v is not UNSET}
    if not asked:
        names = [n for n in command.body.__struct_fields__ if n != "id"]
        raise ConfigError(f"nothing to change, wanted at least one of {', '.join(names)}")
    if config.plan.fixed and set(asked) & {"aim", "slack_price", "mb_per_day", "kl", "max_kl",
                                           "only_calibrated", "soft_c", "hard_c"}:
        raise ConfigError("this device does not plan for itself: plan.cut or plan.rung is fixed"
                          " in its file, and policies have no say")
    deadline = {"deadline_ms": asked["deadline_ms"]} if "deadline_ms" in asked else {}
    policy = msgspec.structs.replace(
        config.policy, **{k: asked[k] for k in _POLICY_KEYS if k in asked})
    after = msgspec.structs.replace(
        config, policy=policy, frame=msgspec.structs.replace(config.frame, **deadline))
    after.check()
    floor.check(policy)
    return after


class InForce(msgspec.Struct, frozen=True):
    """What policy and bounds commands can change, as it is; the data of their replies."""

    deadline_ms: float
    aim: str
    slack_price: float
    kl: float
    max_kl: float
    only_calibrated: bool
    min_cut: int
    trusted_workers: tuple[str, ...] | None
    mb_per_day: float | None
    soft_c: float
    hard_c: float


def in_force(config: AgentConfig) -> dict:
    """Of these settings."""
    return msgspec.to_builtins(InForce(
        config.frame.deadline_ms, **{key: getattr(config.policy, key) for key in _POLICY_KEYS}))


class Reloaded(msgspec.Struct, frozen=True):
    """The data of a reload's reply."""

    restart_needed: tuple[str, ...]  # keys that differ and take a restart


# -- replies


@dataclass(frozen=True, slots=True)
class Address:
    """Where a reply goes."""

    topic: str
    correlation: bytes | None = None


def address(topics: Topics, device: str, name: str, response_topic: str | None,
            correlation: bytes | None) -> Address:
    """Where a command wants its reply. Raises MessageError for a topic that is none of ours: a
    command must not make a device write wherever somebody likes."""
    own = topics.device_reply(device, name)
    if response_topic is None:
        return Address(own, correlation)
    below = own.rpartition("/")[0] + "/"
    if not set(response_topic) & set("+#\0") and len(response_topic) <= 512 and (
            response_topic.startswith(below)
            or topics.parse_reply(response_topic) == device):
        return Address(response_topic, correlation)
    raise MessageError(f"response topic {response_topic[:80]!r}, wanted one below {below} or"
                       f" {topics.root}/_reply/YOU/{device}")


def ok(command_id: str | int | None, data: dict) -> bytes:
    return msgspec.json.encode({"id": command_id, "status": "ok", "data": data})


def error(command_id: str | int | None, text: str, data: dict | None = None) -> bytes:
    reply = {"id": command_id, "status": "error", "error": text[:1000]}
    return msgspec.json.encode(reply if data is None else {**reply, "data": data})


@dataclass(slots=True)
class _Known:
    digest: bytes
    reply: bytes | None = None
    addresses: list[Address] = field(default_factory=list)


class Replies:
    """The last commands with their replies: a command that comes again, because its reply was
    lost or its sender tried again, is answered and not carried out again."""

    def __init__(self, kept: int = KEPT_REPLIES):
        self._kept = kept
        self._known: OrderedDict[tuple[str, str | int], _Known] = OrderedDict()

    def begin(self, name: str, command_id: str | int | None, payload: bytes,
              to: Address) -> bytes | None | Literal["new"]:
        """"new" for one to carry out; its reply if it was; None if it is being carried out,
        and then it is answered to both. Raises MessageError for an id that was another's."""
        if command_id is None:
            return "new"
        digest = hashlib.sha256(payload).digest()
        known = self._known.get((name, command_id))
        if known is None:
            self._known[name, command_id] = _Known(digest, None, [to])
            self._trim()
            return "new"
        if known.digest != digest:
            raise MessageError(f"id {command_id!r} was another command's; give each its own")
        if known.reply is None and to not in known.addresses and len(known.addresses) < 8:
            known.addresses.append(to)
        return known.reply

    def addresses(self, name: str, command_id: str | int | None, to: Address) -> list[Address]:
        """Who waits for the reply of one that is being carried out."""
        known = self._known.get((name, command_id)) if command_id is not None else None
        return list(known.addresses) if known is not None and known.addresses else [to]

    def end(self, name: str, command_id: str | int | None, reply: bytes,
            to: Address) -> list[Address]:
        """Keep a reply; where it goes."""
        known = self._known.get((name, command_id)) if command_id is not None else None
        if known is None:
            return [to]
        known.reply, addresses, known.addresses = reply, known.addresses, []
        return addresses or [to]

    def _trim(self) -> None:
        """Let go of the oldest that were answered."""
        for key in list(self._known):
            if len(self._known) <= self._kept:
                return
            if self._known[key].reply is not None:
                del self._known[key]
