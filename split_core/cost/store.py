"""Profiles on disk: a file for each bundle, machine, runtime and number of threads."""

from __future__ import annotations

import logging
from pathlib import Path

from split_core.cost.profile import MAX_PROFILE_BYTES, Profile, dump, load
from split_core.errors import ConfigError
from split_core.files import write_whole
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
        """Keep a profile, whole or not at all. Raises what `files.cannot_write` makes of it."""
        path = self.path(profile.bundle, profile.machine, profile.runtime, profile.threads)
        write_whole(path, dump(profile))
        return path
