"""What this device takes for each segment: kept between runs, measured when there is none."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge_agent.config import AgentConfig
from edge_agent.inference.segment_times import SegmentTimes
from split_core.cost.machine import machine_id
from split_core.cost.measure import measure
from split_core.cost.profile import MAX_PROFILE_BYTES, Profile, load
from split_core.cost.store import ProfileStore
from split_core.errors import InputError, SplitError, UsageError
from split_core.model.bundle import Bundle
from split_core.model.runner import resolve_runtime
from split_core.settings.places import default_state_dir

_log = logging.getLogger(__name__)
# At the first start with a bundle nobody should wait long; `edge-agent profile` takes its time.
_QUICK_S = 1.0


def device_profile(config: AgentConfig, bundle: Bundle) -> Profile:
    """The profile of this bundle on this machine, as kept or made now."""
    model = config.model
    store = _store(config)
    runtime = resolve_runtime(model.runtime)
    profile = store.load(bundle, machine_id(), runtime, model.threads)
    if profile is None:
        begin_s = time.monotonic()
        profile = measure(bundle, runtime=runtime, threads=model.threads, budget_s=_QUICK_S)
        _log.info("event=profiled bundle=%s whole_ms=%.1f took_s=%.1f", bundle.id_hex[:16],
                  1e3 * profile.whole_s, time.monotonic() - begin_s)
        _save(store, profile)
    return profile


def given_profile(path: str | Path, bundle: Bundle) -> Profile:
    """A profile of this bundle on another machine, as `edge-agent profile --json` printed it
    there. Raises InputError, ConfigError, UsageError."""
    try:
        with Path(path).open("rb") as file:
            profile = load(file.read(MAX_PROFILE_BYTES + 1))
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}") from None
    if not profile.matches(bundle):
        raise UsageError(f"{path} is a profile of bundle {profile.bundle[:16]}, wanted"
                         f" {bundle.id_hex[:16]}")
    return profile


def refresh(config: AgentConfig, profile: Profile, times: SegmentTimes) -> None:
    """Keep what real frames taught, for the next start; not what a throttled board took."""
    segments = tuple(msgspec.structs.replace(t, median_s=times.kept_s(i))
                     for i, t in enumerate(profile.segments))
    _save(_store(config), msgspec.structs.replace(
        profile, segments=segments, whole_s=sum(t.median_s for t in segments),
        made=datetime.now(timezone.utc).isoformat(timespec="seconds")))


def _store(config: AgentConfig) -> ProfileStore:
    return ProfileStore(config.state_dir or default_state_dir("edge-agent"))


def _save(store: ProfileStore, profile: Profile) -> None:
    """A device without a place to write goes on without one."""
    try:
        store.save(profile)
    except SplitError as e:
        _log.warning("event=profile-not-kept error=%r", str(e))
