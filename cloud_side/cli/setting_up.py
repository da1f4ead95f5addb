"""`init`, `check-config`, `config`: a worker's settings written, checked and shown."""

from __future__ import annotations

from pathlib import Path

from split_core.commands import Commands
from split_core.settings import command as settings_command
from split_core.settings.command import Settings


def _kind():
    from cloud_side.config import WorkerConfig

    return WorkerConfig


def _cautions(config):
    from cloud_side.cautions import cautions

    return cautions(config)


def _checks(file: str | None):
    from cloud_side.doctor import checks

    return checks(file)


SETTINGS = Settings("cloud-worker", _kind, _cautions, _checks, "/etc/cloud-worker/w1.toml",
                    "/etc/cloud-worker/w1.secrets/", needs_file=False)


def add_commands(commands: Commands) -> None:
    from split_core.settings.init import add_init

    add_init(commands, SETTINGS, questions(),
             "init --yes --broker mqtts://broker.lan --id w1 --store /var/lib/bundles"
             " -o worker.toml")
    settings_command.add_check(commands, SETTINGS)
    settings_command.add_config(commands, SETTINGS)


def questions():
    """What a worker cannot guess."""
    from split_core.settings.broker_questions import broker_questions
    from split_core.settings.init import Question

    return [
        *broker_questions("w1", "this worker's name", _usual_id),
        Question("store.path", "--store", "Folder to keep bundles in",
                 _usual_store),
    ]


def _usual_id(output: Path) -> str:
    """One host may have several workers, each with a file of its own."""
    from split_core.config import host_name

    return f"{host_name()[:40]}-{output.stem}"


def _usual_store(output: Path) -> str:
    """Where the worker may write: in the service's own state, which goes by the file's name
    (StateDirectory=cloud-worker/%i); else beside the file."""
    if output.absolute().parent == Path("/etc/cloud-worker"):
        return f"/var/lib/cloud-worker/{output.stem}/bundles"
    return str(output.absolute().parent / "bundles")
