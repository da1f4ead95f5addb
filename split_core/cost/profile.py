"""What a bundle's segments and codings take on one machine: a record, kept as JSON.

Devices keep their own and read those that workers publish, so nothing in one is believed
before `load` has bounded it and `matches` has compared it with the bundle. Pure.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from split_core.errors import ConfigError, UsageError
from split_core.model.bundle import Bundle
from split_core.wire.rungs import Rung

# MobileNetV2 with all of its 66 cuts is 30 kB.
MAX_PROFILE_BYTES = 1 << 20
# An hour for one segment is a mistake, as is a payload of a terabyte.
_MOST_S = 3600.0
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=_MOST_S)]
_Cut = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
# Goes into a file name: no separators, and not too long.
_Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,96}\Z")]

_encoder = msgspec.json.Encoder()


class Timing(msgspec.Struct, frozen=True):
    """The runs of one thing. ``spread_s`` is half the distance between the 10th percentile
    and the 90th."""

    median_s: _Seconds
    spread_s: _Seconds


class CodingTime(msgspec.Struct, frozen=True):
    """One rung at one cut: medians of encoding and decoding, mean bytes of the payload."""

    cut: _Cut
    rung: Annotated[str, msgspec.Meta(max_length=32)]
    encode_s: _Seconds
    decode_s: _Seconds
    bytes: Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class Profile(msgspec.Struct, frozen=True):
    """A bundle on a machine, with one runtime and one number of threads."""

    bundle: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]      # its id
    machine: _Word
    runtime: _Word
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    segments: Annotated[tuple[Timing, ...], msgspec.Meta(min_length=1, max_length=10_000)]
    codings: Annotated[tuple[CodingTime, ...], msgspec.Meta(max_length=10_000)]
    # Median of all segments one after another: on a busy machine, where each time another
    # one waits, more than the sum of their medians.
    whole_s: _Seconds
    made: Annotated[str, msgspec.Meta(max_length=40)]      # date and time, ISO 8601

    def span_s(self, first: int, end: int) -> float:
        """Median time of segments ``first`` up to, not including, ``end``."""
        return sum(s.median_s for s in self.segments[first:end])

    def scaled_to(self, span_s: float) -> Profile:
        """The profile of a machine whose segments together take ``span_s``: every time by one
        factor, within the bounds of a profile. Raises UsageError."""
        known_s = self.span_s(0, len(self.segments))
        if known_s <= 0:
            raise UsageError("the profile says that the model takes no time; make one anew with"
                             " `edge-agent profile`")
        factor, replace = span_s / known_s, msgspec.structs.replace

        def scaled(seconds: float) -> float:
            return min(factor * seconds, _MOST_S)

        return replace(
            self, whole_s=scaled(self.whole_s),
            segments=tuple(replace(t, median_s=scaled(t.median_s), spread_s=scaled(t.spread_s))
                           for t in self.segments),
            codings=tuple(replace(c, encode_s=scaled(c.encode_s), decode_s=scaled(c.decode_s))
                          for c in self.codings))

    def matches(self, bundle: Bundle) -> bool:
        """Whether it speaks of this bundle, of all its segments and of no cut it lacks."""
        cuts = {c.cut for c in bundle.manifest.cuts}
        return (self.bundle == bundle.id_hex
                and len(self.segments) == len(bundle.manifest.segments)
                and all(c.cut in cuts for c in self.codings))


def dump(profile: Profile) -> bytes:
    """The profile as JSON; `load` reads it back."""
    return _encoder.encode(profile)


def load(data: bytes) -> Profile:
    """A profile from its JSON, within bounds. Fields it does not know are ignored, so that an
    older reader understands a newer writer. Raises ConfigError."""
    if len(data) > MAX_PROFILE_BYTES:
        raise ConfigError(f"profile of {len(data)} bytes, at most {MAX_PROFILE_BYTES}")
    try:
        profile = msgspec.json.decode(data, type=Profile)
        for coding in profile.codings:
            Rung.parse(coding.rung)
    # A million brackets under a name that nobody knows are a RecursionError.
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as e:
        raise ConfigError(f"damaged profile: {e}") from None
    return profile


class WorkerProfiles(msgspec.Struct, frozen=True):
    """Retained on a worker's ``up/profile``: of the bundles it has loaded."""

    profiles: Annotated[tuple[Profile, ...], msgspec.Meta(max_length=64)]
