"""Topics, built and parsed in this one place. docs/mqtt-topics.md is normative.

Devices and workers are nodes of one grammar. A node publishes below its own ``up/`` and reads
below ``dn/``, or for a worker ``in/``; each sender has its own level in an inbox, so that one
ACL line lets it write there under its own name only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from split_core.errors import ConfigError

DEFAULT_ROOT = "si/v1"
POOL = "_pool"
_NODE = re.compile(r"[A-Za-z0-9.-][A-Za-z0-9._-]{0,63}")
# The inbox of a worker named up would match {root}/+/up/#, which everybody may read who looks
# after the devices.
_LEVELS = ("up", "dn", "in")


def check_node_id(node: str) -> str:
    """A node's id, which is a topic level, an MQTT user name and a certificate's CN."""
    if not _NODE.fullmatch(node) or node in _LEVELS:
        raise ConfigError(f"id {node!r}: wanted 1 to 64 of A-Z a-z 0-9 . _ -, not starting"
                          f" with _, and none of {', '.join(_LEVELS)}")
    return node


def check_root(root: str) -> str:
    if not root or any(c in root for c in "+#\0") or root.startswith(("/", "$")) \
            or root.endswith("/"):
        raise ConfigError(f"topic root {root!r}: wanted levels without + # and without a"
                          " slash or $ at its ends")
    return root


@dataclass(frozen=True, slots=True)
class Inbox:
    """A node's inbox and who wrote to it."""

    node: str
    sender: str


@dataclass(frozen=True, slots=True)
class Topics:
    """The tree below one root."""

    root: str = DEFAULT_ROOT

    def __post_init__(self):
        check_root(self.root)

    # -- devices

    def device_up(self, device: str, channel: str) -> str:
        """status, info, plan, health, event, result."""
        return f"{self.root}/{device}/up/{channel}"

    def devices_filter(self, channel: str) -> str:
        """A channel of all devices."""
        return f"{self.root}/+/up/{channel}"

    def device_command(self, device: str, name: str) -> str:
        """policy, bounds, reload, health, model."""
        return f"{self.root}/{device}/dn/cmd/{name}"

    def device_commands_filter(self, device: str) -> str:
        return f"{self.root}/{device}/dn/cmd/+"

    def device_reply(self, device: str, name: str) -> str:
        """Where a command is answered that names no response topic."""
        return f"{self.root}/{device}/up/reply/{name}"

    def device_inbox(self, device: str, sender: str) -> str:
        return f"{self.root}/{device}/dn/in/{sender}"

    def device_inbox_filter(self, device: str) -> str:
        return f"{self.root}/{device}/dn/in/+"

    def device_frames(self, device: str) -> str:
        """Where other programs feed pictures to a device."""
        return f"{self.root}/{device}/dn/frame"

    # -- workers

    def worker_up(self, worker: str, channel: str) -> str:
        """status, info, load, profile."""
        return f"{self.root}/{POOL}/{worker}/up/{channel}"

    def worker_inbox(self, worker: str, sender: str) -> str:
        return f"{self.root}/{POOL}/{worker}/in/{sender}"

    def worker_inbox_filter(self, worker: str) -> str:
        return f"{self.root}/{POOL}/{worker}/in/+"

    def workers_filter(self, channel: str) -> str:
        """A channel of all workers."""
        return f"{self.root}/{POOL}/+/up/{channel}"

    # -- the way back

    def _levels(self, topic: str) -> list[str]:
        prefix = self.root + "/"
        return topic[len(prefix):].split("/") if topic.startswith(prefix) else []

    def parse_inbox(self, topic: str) -> Inbox | None:
        """The inbox a topic is, of a device or a worker; None for any other."""
        match self._levels(topic):
            case [str(device), "dn", "in", str(sender)] if device != POOL:
                return Inbox(device, sender)
            case [str(pool), str(worker), "in", str(sender)] if pool == POOL:
                return Inbox(worker, sender)
        return None

    def parse_command(self, topic: str) -> tuple[str, str] | None:
        """The device and command that a topic is; None for any other."""
        match self._levels(topic):
            case [str(device), "dn", "cmd", str(name)] if device != POOL:
                return device, name
        return None

    def parse_reply(self, topic: str) -> str | None:
        """The device that may reply there, for a topic {root}/_reply/{who asks}/{device} or one
        below it; None for any other."""
        match self._levels(topic):
            case ["_reply", str(_), str(device), *_] if device != POOL:
                return device
        return None

    def parse_device_up(self, topic: str) -> tuple[str, str] | None:
        """The device and channel that a topic is; None for any other."""
        match self._levels(topic):
            case [str(device), "up", str(channel)] if device != POOL:
                return device, channel
        return None

    def parse_worker_up(self, topic: str) -> tuple[str, str] | None:
        """The worker and channel that a topic is; None for any other."""
        match self._levels(topic):
            case [str(pool), str(worker), "up", str(channel)] if pool == POOL:
                return worker, channel
        return None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter's subscriber gets a topic (MQTT 5, section 4.7)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(levels) or level not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)
