"""The fleet as a worker sees it: what devices and workers say of themselves. Pure: time is an
argument.

Everything here was written by somebody else, so all of it is checked and bounded: devices and
workers in number (the one that has been quiet the longest goes first), texts in length, history
in points. A device that falls silent is kept and marked. Retained records say what was, not
that somebody is there now: only what comes live counts as a sign of life.
"""

from __future__ import annotations

import calendar
import re
from collections import deque
from dataclasses import dataclass, field

import msgspec

from split_core.errors import ConfigError, MessageError
from split_core.wire.records import (
    DeviceHealth, DeviceInfo, DeviceStatus, PlanRecord, WorkerLoad, WorkerStatus, load,
)
from split_core.wire.topics import check_node_id

# How a frame can end, as devices name it; other names are not counted.
OUTCOMES = ("remote", "local", "fallback", "dropped", "failed")
# What is read of devices, and of workers.
DEVICE_CHANNELS = ("status", "info", "plan", "health", "event")
WORKER_CHANNELS = ("status", "load")
STEP_S = 10.0
# A device that reports every ten seconds and missed three is silent.
_MISSED, _LEAST_SILENCE_S = 3.5, 30.0
# Two with one id: a report of a process that had given way to another, twice within this long.
# Starts closer than the slack are one: what a clock drifts between two reports.
_TWICE_S, _SLACK_S = 300.0, 0.5
MAX_EVENTS = 100
_MAX_RECORD_BYTES = 64_000
_MAX_TEXT, _MAX_NAME = 240, 64
_TIME = re.compile(r"((?!0000)\d{4})-(0[1-9]|1[0-2])-(\d\d)T(\d\d):(\d\d):(\d\d)"
                   r"(\.\d{1,9})?(?:Z|\+00:00)", re.ASCII)


class _Event(msgspec.Struct):
    """What all events have in common (docs/mqtt-topics.md)."""

    event: str
    text: str = ""


@dataclass(slots=True)
class Point:
    """A step of a device's history. Frames are those that ended in it, by `OUTCOMES`."""

    at_s: float
    cut: int
    rung: str
    fps: float
    p50_ms: float | None
    p95_ms: float | None
    frames: list[int]


@dataclass(slots=True)
class Device:
    """What is known of one device."""

    name: str
    changed_s: float                 # something was said, of any kind
    seen_s: float | None = None      # a sign of life
    status: DeviceStatus | None = None
    info: DeviceInfo | None = None
    plan: PlanRecord | None = None
    health: DeviceHealth | None = None
    health_s: float | None = None
    # The last few times between two reports; a command may ask for one at any time.
    intervals_s: deque[float] = field(default_factory=lambda: deque(maxlen=4))
    points: deque[Point] = field(default_factory=deque)
    made: int = 0                    # points since the start: what a reader has may be old
    # When the processes that report under this name began, by their own clocks; the last to
    # report is last. And when one came back after another.
    starts_s: deque[float] = field(default_factory=lambda: deque(maxlen=4))
    overlaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=2))

    def on_start(self, start_s: float, now_s: float) -> None:
        """A report of the process that began then. One that starts anew never comes back."""
        last = self.starts_s[-1] if self.starts_s else None
        near = next((s for s in self.starts_s if abs(s - start_s) <= _SLACK_S), None)
        if near is not None:
            if abs(last - start_s) > _SLACK_S:
                self.overlaps_s.append(now_s)
            self.starts_s.remove(near)
        self.starts_s.append(start_s)

    def twice(self, now_s: float) -> bool:
        """Whether two devices have this id. Once may be a clock that was set to and fro."""
        return len(self.overlaps_s) == 2 and now_s - self.overlaps_s[0] <= _TWICE_S

    def state(self, now_s: float) -> str:
        """ready, stopped, lost, silent (said to be ready, and does not report any more), or
        unknown."""
        said = self.status.state if self.status else self.health.state if self.health else None
        if said is None:
            return "unknown"
        if said != "ready" or self.health_s is None:
            return said
        patience_s = max(_LEAST_SILENCE_S, _MISSED * max(self.intervals_s, default=0.0))
        return "silent" if now_s - self.health_s > patience_s else said


class Fleet:
    """All devices and workers of one topic root. The caller holds the lock."""

    def __init__(self, *, max_devices: int = 200, history_s: float = 3600.0):
        self._max_devices = max_devices
        self._max_points = max(1, int(history_s / STEP_S))
        self._devices: dict[str, Device] = {}
        self._workers: dict[str, dict] = {}
        self._events: deque[dict] = deque(maxlen=MAX_EVENTS)
        self.evicted = 0                 # devices that had to make room

    def __len__(self) -> int:
        return len(self._devices)

    # -- what is said

    def on_device(self, name: str, channel: str, payload: bytes, retained: bool,
                  now_s: float) -> None:
        """A device's record. Raises MessageError for what is none."""
        _check(name, payload)
        if not payload:                  # a retained record was taken away
            if channel == "status":
                self._devices.pop(name, None)
            return
        match channel:
            case "status":
                record = load(payload, DeviceStatus)
                device = self._device(name, now_s)
                device.status = record
            case "info":
                record = load(payload, DeviceInfo)
                device = self._device(name, now_s)
                device.info = record
            case "plan":
                record = load(payload, PlanRecord)
                device = self._device(name, now_s)
                device.plan = record
            case "health":
                record = load(payload, DeviceHealth)
                device = self._device(name, now_s)
                self._on_health(device, record, now_s)
            case "event":
                self._on_event(name, payload, now_s)
                device = self._device(name, now_s)
            case _:
                return
        # A last will is published live as well, and is the opposite of a sign of life.
        if not retained and not (channel == "status" and record.state == "lost"):
            device.seen_s = now_s

    def on_worker(self, name: str, channel: str, payload: bytes, now_s: float) -> None:
        """A worker's record. Raises MessageError for what is none."""
        _check(name, payload)
        if not payload:
            if channel == "status":
                self._workers.pop(name, None)
            return
        if channel == "status":
            record = load(payload, WorkerStatus)
            said = {"state": record.state, "bundles": len(record.bundles)}
        elif channel == "load":
            record = load(payload, WorkerLoad)
            said = {"queue_ms": 1e3 * record.queue_s, "busy_ratio": record.busy_ratio}
        else:
            return
        worker = self._workers.setdefault(name, {"state": "unknown"})
        worker |= said | {"changed_s": now_s}
        while len(self._workers) > self._max_devices:
            del self._workers[min(self._workers,
                                  key=lambda n: self._workers[n]["changed_s"])]

    # -- what is known

    def names(self) -> list[str]:
        """The devices that are known, sorted."""
        return sorted(self._devices)

    def device(self, name: str, now_s: float) -> dict | None:
        """What a device is and does now; None for one that is not known."""
        device = self._devices.get(name)
        return None if device is None else _summary(device, now_s)

    def twice(self, name: str, now_s: float) -> bool:
        """Whether two devices have this id."""
        device = self._devices.get(name)
        return device is not None and device.twice(now_s)

    def devices(self, now_s: float) -> list[dict]:
        """One entry a device, by name."""
        return [_summary(d, now_s) for _, d in sorted(self._devices.items())]

    def workers(self, now_s: float) -> list[dict]:
        """One entry a worker of the pool, by name."""
        return [{"worker": name} | {k: v for k, v in worker.items() if k != "changed_s"}
                for name, worker in sorted(self._workers.items())]

    def events(self, now_s: float) -> list[dict]:
        """The last events of all devices, newest first."""
        return [{"device": e["device"], "ago_s": round(now_s - e["at_s"], 1),
                 "event": e["event"], "text": e["text"]} for e in reversed(self._events)]

    def history(self, name: str, now_s: float) -> dict | None:
        """The columns of a device's history, oldest first; None for one that is not known."""
        device = self._devices.get(name)
        if device is None:
            return None
        points = list(device.points)
        return {
            "device": name, "step_s": STEP_S, "made": device.made,
            "ago_s": [round(now_s - p.at_s, 1) for p in points],
            "cut": [p.cut for p in points], "rung": [p.rung for p in points],
            "fps": [p.fps for p in points],
            "p50_ms": [p.p50_ms for p in points], "p95_ms": [p.p95_ms for p in points],
            "outcomes": {o: [p.frames[i] for p in points] for i, o in enumerate(OUTCOMES)},
        }

    # -- within

    def _device(self, name: str, now_s: float) -> Device:
        device = self._devices.get(name)
        if device is None:
            device = self._devices[name] = Device(name, now_s)
            if len(self._devices) > self._max_devices:
                self._forget_one(name, now_s)
        device.changed_s = now_s
        return device

    def _forget_one(self, keep: str, now_s: float) -> None:
        """Make room: one that is gone first, then the one that said nothing for longest."""
        def worth(device: Device) -> tuple[bool, float]:
            return device.state(now_s) == "ready", device.changed_s

        del self._devices[min((d for d in self._devices.values() if d.name != keep),
                              key=worth).name]
        self.evicted += 1

    def _on_health(self, device: Device, health: DeviceHealth, now_s: float) -> None:
        before, before_s = device.health, device.health_s
        if before_s is not None and now_s > before_s:
            device.intervals_s.append(now_s - before_s)
        at_s = _seconds(health.at)
        if at_s is not None:
            device.on_start(at_s - health.uptime_s, now_s)
        device.health, device.health_s = health, now_s
        # Since the last report; of a device that has started anew, or was not known, the totals
        # say nothing about when.
        ended = [0] * len(OUTCOMES)
        if before is not None:
            was, now = before.totals, health.totals
            if health.uptime_s < before.uptime_s:
                was = {}
            ended = [max(0, now.get(o, 0) - was.get(o, 0)) for o in OUTCOMES]
        last = device.points[-1] if device.points else None
        point = Point(now_s, health.cut, health.rung, health.fps, health.p50_ms, health.p95_ms,
                      ended)
        # Reports may come more often than a step: the last one of a step stands for it.
        if last is not None and now_s - last.at_s < 0.7 * STEP_S:
            point.at_s = last.at_s
            point.frames = [a + b for a, b in zip(last.frames, ended)]
            device.points[-1] = point
        else:
            device.points.append(point)
        device.made += 1
        while len(device.points) > self._max_points:
            device.points.popleft()

    def _on_event(self, name: str, payload: bytes, now_s: float) -> None:
        event = load(payload, _Event)
        self._events.append({"device": name, "at_s": now_s, "event": event.event[:_MAX_NAME],
                             "text": event.text[:_MAX_TEXT]})


def _check(name: str, payload: bytes) -> None:
    try:
        check_node_id(name)
    except ConfigError as e:
        raise MessageError(str(e)) from None
    if len(payload) > _MAX_RECORD_BYTES:
        raise MessageError(f"record of {len(payload)} bytes, wanted at most {_MAX_RECORD_BYTES}")


def _summary(device: Device, now_s: float) -> dict:
    info, plan, health = device.info, device.plan, device.health
    summary = {
        "device": device.name, "state": device.state(now_s), "twice": device.twice(now_s),
        "seen_s_ago": None if device.seen_s is None else round(now_s - device.seen_s, 1),
        "version": _text(info and info.version), "model": _text(info and info.model),
        "bundle": _text(info and info.bundle),
        "deadline_ms": info and info.deadline_ms,
        "last_cut": max(info.cuts, default=None) if info else None,
        "plan_reason": _text(plan and plan.reason), "cut": plan and plan.cut,
        "rung": _text(plan and plan.rung), "worker": _text(plan and plan.worker),
        "reports": health is not None, "made": device.made,
    }
    if health is None:
        return summary
    link = health.link
    return summary | {
        "model": _text(health.model), "bundle": health.bundle,
        "cut": health.cut, "rung": health.rung, "worker": health.worker, "aim": health.aim,
        "uptime_s": health.uptime_s, "window_s": health.window_s, "late": health.late,
        "fps": health.fps, "p50_ms": health.p50_ms, "p95_ms": health.p95_ms,
        "outcomes": {o: health.frames.get(o, 0) for o in OUTCOMES},
        "totals": {o: health.totals.get(o, 0) for o in OUTCOMES},
        "payload_bytes": health.payload_bytes, "sent_bytes": health.sent_bytes,
        "link": {"up": link.up, "rtt_ms": link.rtt_ms, "rate_bps": link.rate_bps,
                 "reconnects": link.reconnects, "signal_dbm": link.signal_dbm},
        "battery_ratio": health.battery_ratio, "mains": health.mains,
        "temperature_c": health.temperature_c, "throttled": health.throttled,
        "cpu_busy_ratio": health.cpu_busy_ratio, "memory_bytes": health.memory_bytes,
        "memory_max_bytes": health.memory_max_bytes,
        "results_waiting": health.results_waiting, "results_lost": health.results_lost,
    }


def _seconds(at: str) -> float | None:
    """A time in UTC by RFC 3339, in seconds; None for one that is written otherwise."""
    found = _TIME.fullmatch(at)
    if found is None:
        return None
    *whole, fraction = found.groups()
    return calendar.timegm(tuple(map(int, whole))) + float(f"0{fraction or ''}")


def _text(value: str | None) -> str | None:
    return value[:_MAX_TEXT] if value else None
