"""The time of day as records have it, for people and programs elsewhere. Durations are measured
by the monotonic clock, never by this."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339() -> str:
    """Now, by the device's clock, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
