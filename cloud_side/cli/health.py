"""`doctor` and `diag`: what is wrong here, and what to send along when asking for help."""

from __future__ import annotations

from cloud_side.cli.setting_up import SETTINGS
from split_core.commands import Commands
from split_core.doctor import command as doctor_command


def add_commands(commands: Commands) -> None:
    doctor_command.add_doctor(commands, SETTINGS)
    doctor_command.add_diag(commands, SETTINGS, "cloud-worker@*", _own_parts)


def _own_parts(config) -> dict:
    """The profiles and bundles that there are, by name."""
    if config is None:
        return {}
    from split_core.diag import profile_names
    from split_core.settings.places import default_state_dir

    return {"profiles.txt": lambda: profile_names(config.state_dir
                                                  or default_state_dir("cloud-worker")),
            "bundles.txt": lambda: _bundles(config.store.path)}


def _bundles(folder: str) -> str:
    from pathlib import Path

    files = sorted(Path(folder).glob("*.split.tflite"))
    return "".join(f"{f.stat().st_size:>12} {f.name}\n" for f in files) or "none\n"
