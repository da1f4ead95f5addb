"""What a UPS board's own script says, as JSON: one object, every key optional.

    {"battery_percent": 87, "battery_wh": 31.2, "power_w": 4.1, "mains": false,
     "temperature_c": 36.5}

`battery_ratio` (0 to 1) may stand for `battery_percent`. Keys that are not known are ignored;
a value of the wrong kind or out of range is unknown, and the others count all the same.
"""

from __future__ import annotations

import msgspec

from edge_agent.sensors.health import Health
from split_core.errors import MessageError

MAX_REPORT_BYTES = 16 * 1024


def parse_report(payload: bytes, source: str) -> Health:
    """A report as a reading. Raises MessageError for what is not a JSON object."""
    if len(payload) > MAX_REPORT_BYTES:
        raise MessageError(f"{len(payload)} bytes, wanted at most {MAX_REPORT_BYTES}")
    try:
        report = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise MessageError(f"not JSON: {e}") from None
    if not isinstance(report, dict):
        raise MessageError(f"a JSON {type(report).__name__}, wanted an object")
    percent = _number(report.get("battery_percent"))
    reading = Health.of(source, battery_ratio=None if percent is None else percent / 100)
    return reading.merged(Health.of(
        source, mains=_truth(report.get("mains")),
        **{name: _number(report.get(name))
           for name in ("battery_ratio", "battery_wh", "power_w", "temperature_c")}))


def _number(value: object) -> float | None:
    # True is an int to Python.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _truth(value: object) -> bool | None:
    """A boolean; or 0 or 1, which is what a shell script has."""
    return bool(value) if isinstance(value, (bool, int)) and value in (0, 1) else None
