"""`completion`, `man` and `asyncapi`: what shells, readers of man pages and other programs want to
know of this one."""

from __future__ import annotations

import argparse

from split_core.commands import Commands
from split_core.texts import add_texts

_SECTIONS = {
    "FILES": """\
  /etc/edge-agent/edge-agent.toml    settings
  /etc/edge-agent/conf.d/*.toml      more of them, read after it
  /etc/edge-agent/secrets/           passwords and keys, for root alone
  /var/lib/edge-agent/               profiles, budgets, bundles fetched""",
    "ENVIRONMENT": """\
EDGE_AGENT__BROKER__URL and its like set the key broker.url, over the files.

CREDENTIALS_DIRECTORY is where systemd puts secrets; MQTT_PASSWORD the password, without a file;
STATE_DIRECTORY where to keep what is learned.""",
}


def add_commands(commands: Commands) -> None:
    from edge_agent.cli import build_parser

    add_texts(commands, build_parser, _SECTIONS)
    commands.add("asyncapi", "the topics and records over MQTT, as an AsyncAPI 3 document",
                 "asyncapi", "asyncapi > edge-agent.asyncapi.json", body=_asyncapi)


def _asyncapi(args: argparse.Namespace) -> None:
    import json

    from edge_agent.asyncapi import document

    print(json.dumps(document(), indent=1))
