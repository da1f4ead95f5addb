"""What a profile says of the planner's options, before a frame was run. Pure."""

from __future__ import annotations

from edge_agent.planner.candidates import Option
from split_core.cost.profile import Profile
from split_core.model.bundle import Bundle


def encode_times(profile: Profile | None,
                 options: tuple[Option, ...]) -> dict[tuple[int, str], float]:
    """What coding takes here, before a frame was coded: of a profile's codings at the same cut
    the one of the same kind, else the slowest."""
    found = {}
    for option in options:
        here = [c for c in (profile.codings if profile else ()) if c.cut == option.cut]
        kind = [c for c in here if c.rung.rstrip("0123456789.") ==
                option.rung.rstrip("0123456789.")]
        if kind or here:
            found[option.cut, option.rung] = max(c.encode_s for c in kind or here)
    return found


def service_times(profile: Profile, bundle: Bundle) -> tuple[float, ...]:
    """What a worker takes from each segment on, by its profile: decoding and the tail."""
    segments = len(profile.segments)
    return tuple(
        profile.span_s(i, segments) + max(
            (c.decode_s for c in profile.codings if c.cut == entry.cut), default=0.0)
        for i, entry in enumerate(bundle.manifest.cuts))
