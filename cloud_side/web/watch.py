"""Listens for the status page: to the worker it belongs to, and to the fleet by the broker.

What is heard is kept in `Fleet` and `Vitals`, each behind a lock of its own; readers get plain
values. They look at one device at a time, so that a fleet of hundreds never keeps frames waiting.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from cloud_side.admission import Job, Turned
from cloud_side.observers.base import WorkerObserver
from cloud_side.observers.fleet import DEVICE_CHANNELS, WORKER_CHANNELS, Fleet
from cloud_side.observers.vitals import Vitals
from cloud_side.web.config import StatusConfig
from cloud_side.worker import CloudWorker
from split_core.errors import MessageError
from split_core.session import Received
from split_core.version import VERSION
from split_core.wire.messages import Result

_log = logging.getLogger(__name__)


class FleetWatch(WorkerObserver):
    """One worker's pulse and its view of the fleet. Attach it to the worker, then `subscribe`."""

    def __init__(self, worker: CloudWorker, config: StatusConfig,
                 clock: Callable[[], float] = time.monotonic):
        self.worker, self._clock, self._started_s = worker, clock, clock()
        self._lock, self._pulse_lock = threading.Lock(), threading.Lock()
        self.refused = 0                 # records that were none
        self._twins: set[str] = set()    # ids that two devices have
        self._vitals = Vitals(self._started_s, 60.0 * config.history_min)
        self._fleet = Fleet(max_devices=config.max_devices,
                            history_s=60.0 * config.history_min)
        self._wants_fleet = config.fleet

    def subscribe(self) -> None:
        """Listen to the fleet, where that is wanted."""
        if not self._wants_fleet:
            return
        topics, session = self.worker.topics, self.worker.node.session
        # QoS 0: what is lost comes again, and a page is no reason for a broker to keep.
        for channel in DEVICE_CHANNELS:
            session.subscribe(topics.devices_filter(channel), 0)
        for channel in WORKER_CHANNELS:
            session.subscribe(topics.workers_filter(channel), 0)

    # -- what happens

    def on_result(self, job: Job, result: Result) -> None:
        now_s, stages = self._clock(), result.stages
        service_s = 1e-6 * (stages.queue_us + stages.decode_us + stages.tail_us
                            + stages.encode_us)
        with self._pulse_lock:
            self._vitals.on_answered(service_s, now_s)

    def on_refused(self, turned: Turned) -> None:
        with self._pulse_lock:
            self._vitals.on_refused(turned.reason.name.lower(), self._clock())

    def on_publication(self, topic: str, payload: bytes, received: Received) -> None:
        now_s, topics = self._clock(), self.worker.topics
        device, pool = topics.parse_device_up(topic), topics.parse_worker_up(topic)
        try:
            with self._lock:
                if device is not None:
                    self._fleet.on_device(*device, payload, received.retain, now_s)
                    self._note_twins(device[0], now_s)
                elif pool is not None:
                    self._fleet.on_worker(*pool, payload, now_s)
        except MessageError as e:         # what one device says is no reason to stop listening
            self.refused += 1
            self.worker.node.tell_once(topic, str(e))

    def _note_twins(self, device: str, now_s: float) -> None:
        """Said once, and again when it came back; the caller holds the lock."""
        twice = self._fleet.twice(device, now_s)
        if twice and device not in self._twins:
            # Of those that had to make room for others nobody would say that it is over.
            self._twins &= set(self._fleet.names())
            _log.warning("event=two-with-one-id device=%s note='give each device an id of its own:"
                         " these write over each other'", device)
        (self._twins.add if twice else self._twins.discard)(device)

    # -- what is known

    def devices(self) -> list[dict]:
        """One entry a device, by name."""
        now_s, found = self._clock(), []
        with self._lock:
            names = self._fleet.names()
        for name in names:
            with self._lock:
                found.append(self._fleet.device(name, now_s))
        return [device for device in found if device is not None]

    @property
    def evicted(self) -> int:
        """Devices that had to make room for others."""
        return self._fleet.evicted

    def history(self, device: str) -> dict | None:
        """The past of a device; None for one that is not known."""
        with self._lock:
            return self._fleet.history(device, self._clock())

    def snapshot(self) -> dict:
        """All that the page shows but the past of devices."""
        now_s = self._clock()
        worker, devices = self._worker(now_s), self.devices()
        with self._lock:
            return {"worker": worker, "devices": devices,
                    "workers": self._fleet.workers(now_s), "events": self._fleet.events(now_s)}

    def _worker(self, now_s: float) -> dict:
        worker, glance = self.worker, self.worker.glance()
        with self._pulse_lock:
            vitals = {
                "fps": round(self._vitals.fps(now_s), 2),
                "p50_ms": _round(self._vitals.service_ms(0.5, now_s)),
                "p95_ms": _round(self._vitals.service_ms(0.95, now_s)),
                "answered": self._vitals.answered, "refused": dict(self._vitals.refused),
                "history": self._vitals.history(now_s),
            }
        return {
            "id": worker.config.id, "version": VERSION, "runtime": worker.runtime,
            "uptime_s": round(now_s - self._started_s, 1),
            "connected": glance.connected, "trouble": glance.trouble,
            "loading": glance.loading, "dead_threads": glance.dead_threads,
            "queued": glance.queued, "queue_size": glance.queue_size,
            "wait_ms": _round(1e3 * glance.wait_s), "busy_ratio": round(glance.busy_ratio, 3),
            "models": [{"bundle": bundle, "model": name[:160]} for bundle, name in glance.models],
            "stored": glance.stored, "unfit": glance.unfit, "fetching": glance.fetching,
            "losses": glance.session.losses,
        } | vitals


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
