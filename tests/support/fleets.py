"""Fleets that are not there: what devices would say, for the status page and its tests.

A device's life is made from a seed: it plans, drifts between cuts, loses its link for a while.
"""

from __future__ import annotations

import random

from cloud_side.observers.fleet import Fleet
from cloud_side.observers.vitals import Vitals
from split_core.wire.records import (
    DeviceHealth, DeviceInfo, DeviceStatus, LinkHealth, PlanRecord, WorkerLoad, WorkerStatus, dump,
)

LAST_CUT = 66
NOW_S = 10_000.0


def health(**changes) -> DeviceHealth:
    """A report of a device that is well."""
    fields = dict(
        at="2026-01-05T10:00:00Z", uptime_s=7200.0, window_s=60.0, state="ready",
        frames={"remote": 290, "local": 0, "fallback": 8, "dropped": 2},
        totals={"remote": 30_000, "fallback": 700, "dropped": 150}, late=0, fps=4.9, p50_ms=84.0,
        p95_ms=131.0, stages_ms={"head": 31.0, "link": 30.0, "tail": 9.0}, cut=31, rung="kl0.02",
        plan_id=7, worker="gpu-1", payload_bytes=4200.0, sent_bytes=126_000_000,
        link=LinkHealth(True, 1, 24.0, 11_400_000.0), battery_ratio=None, mains=True,
        temperature_c=58.0, throttled=False, cpu_busy_ratio=0.41, memory_bytes=112_000_000,
        memory_max_bytes=300_000_000, results_waiting=0, results_lost=0, bundle="ab" * 32,
        model="mobilenet_v2_1.0_224", aim="latency")
    return DeviceHealth(**(fields | changes))


def live(fleet: Fleet, name: str, *, seed: int, steps: int = 360, end_s: float = NOW_S,
         last_state: str = "ready", **fixed) -> None:
    """A device's past: ``steps`` reports of ten seconds until ``end_s``."""
    rng = random.Random(seed)
    say = _teller(fleet, name)
    begin_s = end_s - 10.0 * steps
    say("status", DeviceStatus("ready", "1" * 16), begin_s)
    model = fixed.get("model", "mobilenet_v2_1.0_224")
    say("info", DeviceInfo("0.1.0", (1,), "ab" * 32, model, (0, 9, 31, LAST_CUT), "tflite-runtime",
                           fixed.pop("deadline_ms", 250.0)), begin_s)
    cut, base_ms, totals, battery = 31, rng.uniform(50, 140), dict.fromkeys(
        ("remote", "local", "fallback", "dropped"), 0), rng.uniform(0.3, 1.0)
    for step in range(1, steps + 1):
        if rng.random() < 0.02:
            cut = rng.choice((0, 9, 31, 31, LAST_CUT))
        bad = 0.35 < step / steps < 0.42 or rng.random() < 0.02
        frames = rng.randint(44, 50)
        ended = {"local" if cut == LAST_CUT else "remote": frames}
        if cut != LAST_CUT:
            lost = int(frames * (rng.uniform(0.3, 0.7) if bad else rng.uniform(0, 0.06)))
            ended = {"remote": frames - lost, "fallback": lost}
        ended["dropped"] = rng.randint(0, 4) if bad else 0
        for outcome, n in ended.items():
            totals[outcome] += n
        p50 = base_ms * (2.0 if bad else 1.0) * rng.uniform(0.92, 1.08)
        worker = None if cut == LAST_CUT else "gpu-1"
        battery = max(0.02, battery - 0.0004)
        record = health(
            uptime_s=600.0 + 10 * step, frames={o: 6 * n for o, n in ended.items()},
            totals=dict(totals), fps=round(frames / 10, 1), p50_ms=round(p50, 1),
            p95_ms=round(p50 * rng.uniform(1.3, 1.9), 1), cut=cut, worker=worker,
            late=3 if bad else 0, sent_bytes=4200 * totals["remote"],
            temperature_c=round(52 + 12 * rng.random(), 1),
            battery_ratio=round(battery, 3) if seed % 3 == 0 else None, mains=seed % 3 != 0,
            throttled=seed % 11 == 5,
            link=LinkHealth(True, seed % 4, round(rng.uniform(9, 60), 1), rng.uniform(1e6, 3e7),
                            float(-40 - seed % 45) if seed % 2 else None), **fixed)
        say("health", record, begin_s + 10 * step)
    say("plan", PlanRecord(7, cut, "kl0.02", worker, "9 % better than the next"), end_s)
    if last_state != "ready":
        say("status", DeviceStatus(last_state, "1" * 16), end_s + 1)


def _teller(fleet: Fleet, name: str):
    def say(channel: str, record, at_s: float) -> None:
        fleet.on_device(name, channel, dump(record), False, at_s)

    return say


def pool(fleet: Fleet, now_s: float = NOW_S) -> None:
    """Two more workers of the broker."""
    for name, state, busy in (("gpu-1", "ready", 0.34), ("cellar", "lost", 0.0)):
        fleet.on_worker(name, "status", dump(WorkerStatus(state, "2" * 16)), now_s)
        fleet.on_worker(name, "load", dump(WorkerLoad(0.004, busy, 0.001)), now_s)


class FakeWatch:
    """Stands where `FleetWatch` does: a fleet, and a worker that has been busy for an hour."""

    def __init__(self, fleet: Fleet, now_s: float = NOW_S, **worker):
        self.fleet, self.now_s, self.refused, self.evicted = fleet, now_s, 0, 0
        vitals, rng = Vitals(now_s - 3600), random.Random(3)
        if not worker.pop("idle", False):
            for second in range(3600):
                for _ in range(rng.randint(20, 24) if second % 900 < 800 else 8):
                    vitals.on_answered(rng.uniform(0.006, 0.012), now_s - 3600 + second)
                if second % 97 == 0:
                    vitals.on_refused("shed", now_s - 3600 + second)
        self._worker = {
            "id": "gpu-1", "version": "0.1.0", "runtime": "litert", "uptime_s": 3600.0,
            "connected": True, "trouble": "", "loading": False, "dead_threads": (), "queued": 1,
            "queue_size": 16, "wait_ms": 4.2, "busy_ratio": 0.34, "stored": 2, "unfit": 0,
            "fetching": 0, "losses": 0, "fps": vitals.fps(now_s),
            "models": [{"bundle": "ab" * 32, "model": "mobilenet_v2_1.0_224"}],
            "p50_ms": vitals.service_ms(0.5, now_s), "p95_ms": vitals.service_ms(0.95, now_s),
            "answered": vitals.answered, "refused": dict(vitals.refused),
            "history": vitals.history(now_s)} | worker

    def snapshot(self) -> dict:
        return {"worker": self._worker, "devices": self.fleet.devices(self.now_s),
                "workers": self.fleet.workers(self.now_s), "events": self.fleet.events(self.now_s)}

    def history(self, name: str) -> dict | None:
        return self.fleet.history(name, self.now_s)
