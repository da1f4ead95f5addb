"""`doctor` and `diag`: what is wrong here, and what to send along when asking for help."""

from __future__ import annotations

from edge_agent.cli.setting_up import SETTINGS
from split_core.commands import Commands
from split_core.doctor import command as doctor_command


def add_commands(commands: Commands) -> None:
    doctor_command.add_doctor(commands, SETTINGS)
    doctor_command.add_diag(commands, SETTINGS, "edge-agent", _own_parts)


def _own_parts(config) -> dict:
    """The plan in force, and the profiles that there are."""
    if config is None:
        return {}
    from split_core.diag import profile_names
    from split_core.settings.places import default_state_dir

    return {"profiles.txt": lambda: profile_names(config.state_dir
                                                  or default_state_dir("edge-agent")),
            "plan.txt": lambda: _plan(config)}


def _plan(config) -> str:
    """The retained record of the plan, where the broker lets a device read it."""
    from split_core.doctor.broker import read_retained
    from split_core.errors import SplitError
    from split_core.wire.topics import Topics

    topic = Topics(config.root).device_up(config.id, "plan")
    try:
        found = read_retained(config.broker.options(), config.id, topic)
    except SplitError as e:
        return f"not read: {e}\n"
    if topic in found:
        return f"{topic}\n{found[topic].decode('utf-8', 'replace')}\n"
    return f"the broker has nothing for us on {topic}: no agent has run, or a device may not" \
           " read its own branch there\n"
