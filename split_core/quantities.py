"""Rates and times as people write them. Pure."""

from __future__ import annotations

import math
import re

from split_core.errors import UsageError

_NUMBER = r"([0-9]*\.?[0-9]+(?:e[0-9]+)?)"
_RATE = re.compile(_NUMBER + r" *(?:([kmg]?)(?:bit(?:/s)?|bps))?", re.IGNORECASE)
_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
RATE_FORMS = "'1Mbit', '500kbit', '10Mbit/s' or bits a second as a number, at most 1Gbit"
MAX_BPS = 1e9
_TIME = re.compile(_NUMBER + r" *(us|ms|s|min|m|h)?")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
# A year: what is longer is a mistake.
_MAX_S = 366 * 86_400.0


def parse_rate(text: str) -> float:
    """Bits a second, from `1Mbit`, `500kbit`, `10Mbit/s`, `2Mbps` or `20000`. Raises
    UsageError."""
    bps = rate_or_none(text)
    if bps is None or not 0 < bps <= MAX_BPS:
        raise UsageError(f"rate: found {text!r}, wanted {RATE_FORMS}, over zero")
    return bps


def rate_or_none(text: str) -> float | None:
    """Bits a second, zero and too many among them; None for what is no rate."""
    match = _RATE.fullmatch(text.strip())
    return float(match[1]) * _FACTORS[(match[2] or "").lower()] if match else None


def parse_seconds(text: str, name: str, unit: str = "ms") -> float:
    """Seconds, from `60ms`, `0.06s`, `2min`, `8h`, or a number of ``unit``. Raises UsageError,
    in which ``name`` says what the time is of."""
    match = _TIME.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2] or unit] if match else math.nan
    if not 0 <= seconds <= _MAX_S:
        raise UsageError(f"{name}: found {text!r}, wanted a time: '60ms', '0.06s', '8h', or a"
                         f" number of {unit}")
    return seconds
