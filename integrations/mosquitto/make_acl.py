#!/usr/bin/env python3
"""An ACL file for mosquitto from a list of who is what. Needs nothing but Python 3.

    python3 make_acl.py names > acl            # then: kill -HUP the broker
    python3 make_acl.py --root acme/si/v1 names > acl

The list has one name a line, behind its role:

    device          pi-door
    worker          w1
    operator        anna
    viewer          wall-display
    program         doorbell  pi-door        # feeds pictures to these devices (none named: all)
    home-assistant  ha
    also            pi-door   read ups/status      # one topic more than the role has

A name is the MQTT user name: of a certificate its common name (use_identity_as_username). Why
there is a section for every user, where mosquitto's patterns would need one for all: patterns
hold for every user whatever his role, so with them a device named x may publish as the worker
x. See docs/security.md.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator

NAME = re.compile(r"[A-Za-z0-9.-][A-Za-z0-9._-]{0,63}")
# Levels of the topics themselves: a worker of such a name would have its inbox where a device's
# publications are.
TAKEN = ("up", "dn", "in")
# What a worker may see of the devices, for its status page; answers are none of its business.
SEEN_BY_WORKERS = ("status", "info", "plan", "health", "event", "profile")
HOME_ASSISTANT = "homeassistant"


class Wrong(Exception):
    """A list that gives no ACL."""


def device(root: str, name: str, devices: list[str], home: bool) -> Iterator[str]:
    yield f"write {root}/{name}/up/#"
    yield f"read {root}/{name}/dn/#"
    yield f"read {root}/_pool/+/up/#"
    yield f"write {root}/_pool/+/in/{name}"
    # Replies to commands, where the asker named a topic of his own for them.
    yield f"write {root}/_reply/+/{name}/#"
    # A letter to itself, by which `edge-agent doctor` proves that it hears its inbox.
    yield f"write {root}/{name}/dn/in/{name}"
    if home:
        yield f"write {HOME_ASSISTANT}/device/{object_id(name)}/config"
        yield f"read {HOME_ASSISTANT}/status"


def worker(root: str, name: str, devices: list[str], home: bool) -> Iterator[str]:
    yield f"write {root}/_pool/{name}/up/#"
    yield f"read {root}/_pool/{name}/in/#"
    yield f"write {root}/+/dn/in/{name}"
    # To other workers, and to itself for `cloud-worker doctor`.
    yield f"write {root}/_pool/+/in/{name}"
    yield f"read {root}/_pool/+/up/#"
    for channel in SEEN_BY_WORKERS:
        yield f"read {root}/+/up/{channel}"


def viewer(root: str, name: str, devices: list[str], home: bool) -> Iterator[str]:
    yield f"read {root}/+/up/#"
    yield f"read {root}/_pool/+/up/#"


def operator(root: str, name: str, devices: list[str], home: bool) -> Iterator[str]:
    yield from viewer(root, name, devices, home)
    yield f"write {root}/+/dn/cmd/#"
    yield f"read {root}/_reply/{name}/#"


def program(root: str, name: str, devices: list[str], home: bool) -> Iterator[str]:
    for one in devices or ["+"]:
        yield f"write {root}/{one}/dn/frame"
        yield f"read {root}/{one}/up/result"
        yield f"read {root}/{one}/up/status"


def home_assistant(root: str, name: str, devices: list[str], home: bool) -> Iterator[str]:
    yield f"readwrite {HOME_ASSISTANT}/#"
    yield f"read {root}/+/up/#"
    yield f"write {root}/+/dn/cmd/policy"


ROLES = {"device": device, "worker": worker, "operator": operator, "viewer": viewer,
         "program": program, "home-assistant": home_assistant}


def object_id(name: str) -> str:
    """A device as Home Assistant's topics call it; as in edge_agent/remote/discovery.py."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) + "_" + hashlib.sha256(name.encode()).hexdigest()[:6]


def read_names(text: str) -> tuple[dict[str, tuple[str, list[str]]], dict[str, list[str]]]:
    """Of each name its role and what follows, and its further lines. Raises Wrong."""
    users: dict[str, tuple[str, list[str]]] = {}
    also: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = re.sub(r"\s#\s.*$", "", line).split()       # a # alone is a topic filter
        if not words or words[0].startswith("#"):
            continue
        role, *rest = words
        if role == "also":
            if len(rest) != 3 or rest[1] not in ("read", "write", "readwrite"):
                raise Wrong(f"line {number}: wanted: also NAME read|write|readwrite TOPIC")
            also.setdefault(rest[0], []).append(f"{rest[1]} {rest[2]}")
            continue
        if role not in ROLES:
            raise Wrong(f"line {number}: role {role!r}, wanted one of {', '.join(ROLES)}, also")
        if not rest or (len(rest) > 1 and role != "program"):
            raise Wrong(f"line {number}: wanted one name behind {role}")
        for name in rest:
            if not NAME.fullmatch(name) or name in TAKEN:
                raise Wrong(f"line {number}: name {name!r}, wanted 1 to 64 of A-Z a-z 0-9 . _ -,"
                            f" not starting with _, and none of {', '.join(TAKEN)}")
        if rest[0] in users:
            raise Wrong(f"line {number}: {rest[0]} is a {users[rest[0]][0]} already; every name"
                        " has one role, or a device could pose as a worker")
        users[rest[0]] = role, rest[1:]
    for name in also:
        if name not in users:
            raise Wrong(f"also {name}: there is no such name")
    for name, (_, devices) in users.items():
        for one in devices:
            if users.get(one, ("",))[0] != "device":
                raise Wrong(f"program {name}: {one} is no device of this list")
    if not users:
        raise Wrong("the list is empty")
    return users, also


def make_acl(text: str, root: str = "si/v1") -> str:
    """The ACL file for a list of names. Raises Wrong."""
    if not re.fullmatch(r"[^+#/$\s][^+#\s]*", root) or root.endswith("/"):
        raise Wrong(f"root {root!r}: wanted topic levels without + # and spaces, as si/v1")
    users, also = read_names(text)
    home = any(role == "home-assistant" for role, _ in users.values())
    lines = ["# Made by make_acl.py from a list of names; change that list, not this file.",
             f"# Root: {root}. Who is not listed may read and write nothing."]
    for name, (role, devices) in users.items():
        lines += ["", f"# {role}", f"user {name}"]
        lines += [f"topic {right}" for right in ROLES[role](root, name, devices, home)]
        lines += [f"topic {right}" for right in also.get(name, ())]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", metavar="NAMES", help="the list; - for standard input")
    parser.add_argument("--root", default="si/v1", help="topic root (default %(default)s)")
    args = parser.parse_args()
    try:
        text = sys.stdin.read() if args.names == "-" else open(args.names, encoding="utf-8").read()
        sys.stdout.write(make_acl(text, args.root))
    except (Wrong, OSError) as e:
        print(f"make_acl: {e}", file=sys.stderr)
        return 65
    return 0


if __name__ == "__main__":
    sys.exit(main())
