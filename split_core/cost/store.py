"""Profiles on disk: a file for each bundle, machine, runtime and number of threads."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from split_core.cost.profile import MAX_PROFILE_BYTES, Profile, dump, load
from split_core.errors import ConfigError
from split_core.model.bundle import Bundle

_log = logging.getLogger(__name__)


class ProfileStore:
    """``profiles/`` in a folder of state, made when something is first saved."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder) / "profiles"

    def path(self, bundle: Bundle | str, machine: str, runtime: str, threads: int) -> Path:
        """Where a profile is kept; ``bundle`` may be its id."""
        name = bundle if isinstance(bundle, str) else bundle.id_hex
        return self.folder / f"{name[:16]}-{machine}-{runtime}-{threads}.json"

    def load(self, bundle: Bundle, machine: str, runtime: str, threads: int) -> Profile | None:
        """The profile of a bundle here; None where there is none, or only a damaged one, which
        is logged and makes room when the next is saved."""
        path = self.path(bundle, machine, runtime, threads)
        try:
            with path.open("rb") as file:
                profile = load(file.read(MAX_PROFILE_BYTES + 1))
            found = (profile.machine, profile.runtime, profile.threads)
            if not profile.matches(bundle) or found != (machine, runtime, threads):
                raise ConfigError("it is of another bundle or machine")
        except FileNotFoundError:
            return None
        except (ConfigError, OSError) as e:
            _log.warning("event=profile-ignored file=%s reason=%r", path, str(e))
            return None
        return profile

    def save(self, profile: Profile) -> Path:
        """Keep a profile, whole or not at all. Raises ConfigError."""
        path = self.path(profile.bundle, profile.machine, profile.runtime, profile.threads)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(dump(profile))
            os.replace(part, path)
        except OSError as e:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise ConfigError(f"cannot write {path}: {e.strerror}") from None
        return path


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
