"""`completion` and `man`: what a shell and a reader of man pages want of the parser."""

from __future__ import annotations

from split_core.commands import Commands
from split_core.texts import add_texts

_SECTIONS = {
    "FILES": """\
  /etc/cloud-worker/NAME.toml        settings of the instance cloud-worker@NAME
  /etc/cloud-worker/conf.d/*.toml    of all instances, read after it
  /etc/cloud-worker/NAME.secrets/    passwords and keys, for root alone
  /var/lib/cloud-worker/NAME/        profiles and bundles""",
    "ENVIRONMENT": """\
CLOUD_WORKER__BROKER__URL and its like set the key broker.url, over the files.

CREDENTIALS_DIRECTORY is where systemd puts secrets; MQTT_PASSWORD the password, without a file;
STATE_DIRECTORY where to keep what is learned.""",
}


def add_commands(commands: Commands) -> None:
    from cloud_side.cli import build_parser

    add_texts(commands, build_parser, _SECTIONS)
