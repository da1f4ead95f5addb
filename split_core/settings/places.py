"""Where a program keeps what it makes."""

from __future__ import annotations

import os
from pathlib import Path

from split_core.errors import ConfigError


def default_state_dir(program: str) -> Path:
    """Where ``program`` keeps what it may lose: systemd's $STATE_DIRECTORY, else its folder in
    $XDG_STATE_HOME or ~/.local/state. Raises ConfigError."""
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):          # the specification: ignore relative ones
        return Path(base) / program
    try:
        return Path.home() / ".local/state" / program
    except RuntimeError:
        raise ConfigError("no home folder to keep state in; set STATE_DIRECTORY") from None
