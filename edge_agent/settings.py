"""Which settings can change while the agent runs, and which take a restart. Pure."""

from __future__ import annotations

import msgspec

from edge_agent.config import AgentConfig
from split_core.settings.changed import changed_keys

# Sections that are put into force between two frames; all others are read at the start. [service]
# is for the daemon, which takes all of it as it runs.
LIVE = frozenset({"model", "plan", "policy", "cost", "energy", "sensors", "frame", "result",
                  "health", "commands", "homeassistant", "service"})


def changes(old: AgentConfig, new: AgentConfig) -> tuple[AgentConfig, tuple[str, ...]]:
    """The settings that can be in force now, and the keys of ``new`` that would take a
    restart."""
    config = msgspec.structs.replace(new, **{
        name: getattr(old, name) for name in AgentConfig.__struct_fields__ if name not in LIVE})
    return config, changed_keys(config, new)
