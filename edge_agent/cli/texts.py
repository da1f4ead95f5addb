"""`completion` and `man`: what a shell and a reader of man pages want of the parser."""

from __future__ import annotations

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
