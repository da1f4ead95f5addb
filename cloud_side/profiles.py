"""What the bundles in memory take here: kept between runs, measured while nothing else waits.

Used by the thread that runs tails; what others read, `current`, is replaced whole. A profile is
an offer to devices that never sent here; a worker without one serves all the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from split_core.cost.machine import machine_id
from split_core.cost.measure import measure
from split_core.cost.profile import Profile
from split_core.cost.store import ProfileStore
from split_core.errors import ConfigError, SplitError
from split_core.model.bundle import Bundle
from split_core.settings.places import default_state_dir

_log = logging.getLogger(__name__)
# All 66 segments and 134 codings of MobileNetV2 take 0.5 s then, most of it their least rounds.
_QUICK_S = 0.3
# A model of 4 s a run; one that takes longer, or was made to, does not get the thread for that.
_MOST_S = 30.0


class _Interrupted(Exception):
    """Something else waits for the thread."""


class _TooSlow(Exception):
    """It takes longer than anybody should wait."""


class BundleProfiles:
    """Profiles of the bundles in memory, by their digests."""

    def __init__(self, folder: str | None, *, runtime: str, threads: int):
        self._runtime, self._threads, self._machine = runtime, threads, machine_id()
        self._store = _open_store(folder)
        self._known: dict[bytes, Profile] = {}
        self._missing: dict[bytes, Bundle] = {}
        # Those loaded last first. By that, not by use: the order changes with the set only.
        self.current: tuple[Profile, ...] = ()

    def on_loaded(self, bundle: Bundle) -> None:
        """A bundle is in memory: take its profile from the store, if it is there."""
        profile = self._store and self._store.load(bundle, self._machine, self._runtime,
                                                   self._threads)
        if profile is None:
            self._missing[bundle.sha256] = bundle
        else:
            self._add(bundle.sha256, profile)

    def on_gone(self, digest: bytes) -> None:
        """A bundle has left memory."""
        self._missing.pop(digest, None)
        if self._known.pop(digest, None) is not None:
            self._show()

    @property
    def missing(self) -> int:
        """Bundles in memory that are still to be measured."""
        return len(self._missing)

    def measure_one(self, interrupted: Callable[[], bool]) -> None:
        """Measure one of the missing, the newest, and keep it. It stays missing when
        ``interrupted()``, which is asked between runs of the model; it is given up when it
        fails or takes too long."""
        if not self._missing or interrupted():
            return
        digest, bundle = next(reversed(self._missing.items()))
        begin_s = time.monotonic()

        def progress(done: int, total: int) -> None:
            if done < total and interrupted():
                raise _Interrupted
            if time.monotonic() - begin_s > _MOST_S:
                raise _TooSlow(f"not done after {_MOST_S:.0f} s; `cloud-worker profile` takes"
                               " its time")

        try:
            profile = measure(bundle, runtime=self._runtime, threads=self._threads,
                              budget_s=_QUICK_S, progress=progress, machine=self._machine)
        except _Interrupted:
            return
        except Exception as e:  # a stranger's file: without a profile it is served as before
            del self._missing[digest]
            _log.warning("event=not-profiled bundle=%s error=%r", bundle.id_hex[:16], str(e))
            return
        del self._missing[digest]
        _log.info("event=profiled bundle=%s whole_ms=%.1f took_s=%.1f", bundle.id_hex[:16],
                  1e3 * profile.whole_s, time.monotonic() - begin_s)
        self._add(digest, profile)
        self._keep(profile)

    def _keep(self, profile: Profile) -> None:
        """A worker without a place to write goes on without one."""
        try:
            if self._store is not None:
                self._store.save(profile)
        except SplitError as e:
            _log.warning("event=profile-not-kept error=%r", str(e))

    def _add(self, digest: bytes, profile: Profile) -> None:
        self._known[digest] = profile
        self._show()

    def _show(self) -> None:
        self.current = tuple(reversed(self._known.values()))


def _open_store(folder: str | None) -> ProfileStore | None:
    try:
        return ProfileStore(folder or default_state_dir("cloud-worker"))
    except ConfigError as e:
        _log.warning("event=profiles-not-kept error=%r", str(e))
        return None
