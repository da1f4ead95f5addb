"""A stand-in for $CREDENTIALS_DIRECTORY and $STATE_DIRECTORY, for who looks at a service's
settings from outside.

systemd hands a service the files of its secrets folder as `secrets_NAME` (LoadCredential=). An
operator's `sudo edge-agent doctor` is to see the same: links to them, in a folder of its own that
is gone afterwards; and the service's state, not that of the operator's own account. Nothing is done
where a variable is set, or where a folder may not be read.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_VARIABLE = "CREDENTIALS_DIRECTORY"
_STATE = "STATE_DIRECTORY"
# As the units name the credential.
_PREFIX = "secrets_"


def secrets_folders(config_file: str | Path) -> list[Path]:
    """Where the units look for secrets: `secrets/` beside the agent's file, `w1.secrets/` beside
    the worker's `w1.toml`."""
    path = Path(config_file)
    if not path.name:                    # `.` or `/`: no file, which is said where it is read
        return []
    return [path.with_suffix(".secrets"), path.parent / "secrets"]


@contextlib.contextmanager
def stand_in(config_file: str | Path | None, system: Path = Path("/")) -> Iterator[None]:
    """Set the variables for as long as this lasts. ``system``: where /etc and /var are."""
    state = None if config_file is None else _state_of(Path(config_file), system)
    with _secrets_linked(config_file):
        if state is None or os.environ.get(_STATE):
            yield
            return
        os.environ[_STATE] = str(state)
        try:
            yield
        finally:
            os.environ.pop(_STATE, None)


def _state_of(config_file: Path, system: Path) -> Path | None:
    """The state of the service whose file this is: of /etc/edge-agent/edge-agent.toml
    /var/lib/edge-agent, of /etc/cloud-worker/w1.toml /var/lib/cloud-worker/w1."""
    folder = config_file.absolute().parent
    if folder.parent != system / "etc":
        return None
    of_program = system / "var/lib" / folder.name
    return next((p for p in (of_program / config_file.stem, of_program) if p.is_dir()), None)


@contextlib.contextmanager
def _secrets_linked(config_file: str | Path | None) -> Iterator[None]:
    found = None if config_file is None or os.environ.get(_VARIABLE) else _secrets(config_file)
    if not found:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="credentials-") as folder:
        for file in found:
            (Path(folder) / (_PREFIX + file.name)).symlink_to(file.absolute())
        os.environ[_VARIABLE] = folder
        try:
            yield
        finally:
            os.environ.pop(_VARIABLE, None)


def _secrets(config_file: str | Path) -> list[Path]:
    for folder in secrets_folders(config_file):
        try:
            return [p for p in sorted(folder.iterdir()) if p.is_file()]
        except OSError:
            continue
    return []
