"""`init`, `check-config`, `config`: an agent's settings written, checked and shown."""

from __future__ import annotations

from pathlib import Path

from split_core.commands import Commands
from split_core.settings import command as settings_command
from split_core.settings.command import Settings


def _kind():
    from edge_agent.config import AgentConfig

    return AgentConfig


def _cautions(config):
    from edge_agent.cautions import cautions

    return cautions(config)


def _checks(file: str | None):
    from edge_agent.doctor import checks

    return checks(file)


SETTINGS = Settings("edge-agent", _kind, _cautions, _checks, "/etc/edge-agent/edge-agent.toml",
                    "/etc/edge-agent/secrets/")


def add_commands(commands: Commands) -> None:
    from split_core.settings.init import add_init

    add_init(commands, SETTINGS, questions(),
             "init --yes --broker mqtts://broker.lan --id pi-door --source camera"
             " --source-path /dev/video0 -o agent.toml")
    settings_command.add_check(commands, SETTINGS)
    settings_command.add_config(commands, SETTINGS)


def _usual_id(_output: Path) -> str:
    from split_core.config import host_name

    return host_name()


def questions():
    """What an agent cannot guess, in the order in which people think of it."""
    from split_core.settings.broker_questions import broker_questions
    from split_core.settings.init import Question

    return [
        *broker_questions("pi-door", "this device's name", _usual_id),
        Question("model.bundle", "--bundle", "The bundle, made by `edge-agent split`",
                 lambda output: "/var/lib/edge-agent/model.split.tflite"),
        Question("source.kind", "--source", "Where frames come from", lambda output: "none",
                 choices=("none", "file", "folder", "camera", "csi", "mqtt", "stdin")),
        Question("source.path", "--source-path", "Its file, folder or device",
                 wanted=lambda a: a["source.kind"] in ("file", "folder", "camera"),
                 check=_check_path),
    ]


def _check_path(answers) -> None:
    """A source that reads a path needs one. Raises ConfigError."""
    from split_core.errors import ConfigError

    if not answers.get("source.path"):
        raise ConfigError(f"a source of kind {answers['source.kind']} needs a path")
