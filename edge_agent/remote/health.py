"""The health record: how a device fares, made from what its parts say. Pure.

Numbers are cut to what anybody can use: a record is sent every few seconds, over links that are
paid by the megabyte.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.frames import Plan
from edge_agent.observers.recent import RecentSummary
from edge_agent.sensors.health import Health
from split_core.wire.records import DeviceHealth, LinkHealth

# The processor's temperature that is worth a word at once: on its way to being throttled.
HOT_C = 80.0
# The battery: told to be low here, and well again only above the second.
BATTERY_LOW_RATIO, BATTERY_WELL_RATIO = 0.15, 0.20


@dataclass(frozen=True, slots=True)
class Standing:
    """What an agent is at a moment, apart from its frames and sensors."""

    at: str                          # RFC 3339
    uptime_s: float
    state: str
    plan: Plan
    worker: str | None               # who gets the next frame
    totals: dict[str, int]           # frames by outcome since the start
    sent_bytes: int
    link_up: bool
    reconnects: int
    rtt_s: float | None
    rate_bps: float | None
    memory_bytes: int
    memory_max_bytes: int | None
    results_waiting: int
    results_lost: int
    bundle_hex: str
    model: str
    aim: str


def device_health(now: Standing, recent: RecentSummary, sensors: Health) -> DeviceHealth:
    """The record."""
    return DeviceHealth(
        at=now.at, uptime_s=round(now.uptime_s, 1), window_s=round(recent.window_s, 1),
        state=now.state,
        frames={outcome: n for outcome, n in recent.outcomes.items() if n},
        totals={outcome: n for outcome, n in now.totals.items() if n},
        late=recent.late, fps=round(recent.fps, 3),
        p50_ms=_digits(recent.p50_ms, 1), p95_ms=_digits(recent.p95_ms, 1),
        stages_ms={stage: round(ms, 2) for stage, ms in recent.stages_ms.items()},
        cut=now.plan.cut, rung=now.plan.rung.name, plan_id=now.plan.plan_id, worker=now.worker,
        payload_bytes=_digits(recent.payload_bytes, 0), sent_bytes=now.sent_bytes,
        link=LinkHealth(now.link_up, now.reconnects,
                        None if now.rtt_s is None else round(1e3 * now.rtt_s, 1),
                        _digits(now.rate_bps, 0), _digits(sensors.wifi_level_dbm, 0)),
        battery_ratio=_digits(sensors.battery_ratio, 3), mains=sensors.mains,
        temperature_c=_digits(sensors.temperature_c, 1), throttled=sensors.throttled,
        cpu_busy_ratio=_digits(sensors.cpu_busy_ratio, 3),
        memory_bytes=now.memory_bytes, memory_max_bytes=now.memory_max_bytes,
        results_waiting=now.results_waiting, results_lost=now.results_lost,
        bundle=now.bundle_hex, model=now.model, aim=now.aim)


def _digits(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


@dataclass(slots=True)
class Change:
    """One thing about the device's sensors that has changed."""

    event: str
    text: str
    data: dict


class SensorWatch:
    """Tells when the sensors say something new that somebody would want to know at once."""

    def __init__(self):
        self._throttled = self._under_voltage = self._mains = False
        self._low = self._hot = False
        self._mains_known = False

    def look(self, sensors: Health) -> list[Change]:
        """What has changed since the last look. What becomes unknown has not changed."""
        changes = []
        if sensors.throttled is not None and sensors.throttled != self._throttled:
            self._throttled = sensors.throttled
            changes.append(Change(
                "throttled", "the processor is held back" if sensors.throttled
                else "the processor is no longer held back",
                {"throttled": sensors.throttled, "temperature_c": sensors.temperature_c}))
        if sensors.under_voltage is not None and sensors.under_voltage != self._under_voltage:
            self._under_voltage = sensors.under_voltage
            changes.append(Change(
                "under-voltage", "the supply's voltage is too low" if sensors.under_voltage
                else "the supply's voltage is well again",
                {"under_voltage": sensors.under_voltage}))
        changes += self._look_at_power(sensors)
        if sensors.temperature_c is not None:
            # Five degrees apart, so that a board at the limit does not tell every minute.
            limit_c = HOT_C - 5 if self._hot else HOT_C
            if (sensors.temperature_c >= limit_c) != self._hot:
                self._hot = not self._hot
                changes.append(Change(
                    "hot", f"the processor is at {sensors.temperature_c:.0f} degrees",
                    {"hot": self._hot, "temperature_c": sensors.temperature_c}))
        return changes

    def _look_at_power(self, sensors: Health) -> list[Change]:
        changes = []
        if sensors.mains is not None:
            if self._mains_known and sensors.mains != self._mains:
                changes.append(Change(
                    "mains", "the mains are back" if sensors.mains else "the mains are lost",
                    {"mains": sensors.mains, "battery_ratio": sensors.battery_ratio}))
            self._mains, self._mains_known = sensors.mains, True
        if sensors.battery_ratio is not None:
            limit = BATTERY_WELL_RATIO if self._low else BATTERY_LOW_RATIO
            if (sensors.battery_ratio < limit) != self._low:
                self._low = not self._low
                changes.append(Change(
                    "battery", f"the battery is at {100 * sensors.battery_ratio:.0f} %",
                    {"low": self._low, "battery_ratio": sensors.battery_ratio}))
        return changes
