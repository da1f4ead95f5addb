"""The worker's metrics. docs/observability.md lists them; a test compares.

What counts frames has labels from closed lists. Devices are labels in what is read of the fleet
only, and no more of them than the fleet holds (`status.max_devices`): a device that invents
names replaces others, it does not add series for ever.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable

from cloud_side.admission import Job, Turned
from cloud_side.observers.base import FETCHES, WorkerObserver
from cloud_side.observers.fleet import OUTCOMES
from cloud_side.web.watch import FleetWatch
from cloud_side.worker import CloudWorker
from split_core.metrics import BYTES, Family, Metrics, counter, gauge, session_families
from split_core.version import VERSION
from split_core.wire.messages import Codec, Kind, Reason, Result

# In the order in which a frame goes through them.
STAGES = ("receive", "queue", "decode", "tail", "reply")
_P = "split_worker"
# What a worker gets and sends; anything else is a stranger's.
_IN = {k: k.name.lower() for k in (Kind.FRAME, Kind.REFINEMENT, Kind.BLOB_PART, Kind.BLOB_REQUEST)}
_OUT = {k: k.name.lower() for k in (Kind.RESULT, Kind.REFUSAL, Kind.REFINEMENT_REQUEST,
                                    Kind.BLOB_REQUEST, Kind.BLOB_PART)}
_CODECS = {codec: codec.name.lower() for codec in Codec}
_REASONS = {reason: reason.name.lower() for reason in Reason}
# Of a name that a bundle's maker chose.
_MAX_NAME = 80


class WorkerMetrics(WorkerObserver):
    """Counts what a worker does. ``watch`` adds the fleet."""

    def __init__(self, worker: CloudWorker, watch: FleetWatch | None = None):
        self._worker, self._watch = worker, watch
        self._metrics = made = Metrics()
        self._stage = made.histogram(
            f"{_P}_stage_seconds", "What a stage of an answered frame took", "stage", STAGES)
        self._frames = made.counter(
            f"{_P}_frames", "Frames by how they ended here: answered, or the reason why not",
            "outcome", ("answered", *_REASONS.values()))
        self._codecs = made.counter(
            f"{_P}_answered_frames", "Answered frames by how their boundary was coded", "codec",
            _CODECS.values())
        self._refined = made.counter(
            f"{_P}_refined_frames", "Answered frames that were asked about and refined")
        self._payload = made.histogram(
            f"{_P}_frame_bytes", "Coded bytes of an answered frame's boundary", buckets=BYTES)
        self._received = made.counter(
            f"{_P}_received_bytes", "Bytes of whole messages from devices", "kind",
            (*_IN.values(), "other"))
        self._sent = made.counter(
            f"{_P}_sent_bytes", "Bytes of messages to devices", "kind", (*_OUT.values(), "other"))
        self._fetches = made.counter(
            f"{_P}_fetches", "Transfers of bundles from devices", "state", FETCHES)
        made.read(self._read)
        if watch is not None:
            made.read(self._read_fleet)

    def render(self) -> bytes:
        """All of it in the text format."""
        return self._metrics.render()

    # -- what happens

    def on_message(self, kind: Kind, nbytes: int) -> None:
        self._received[_IN.get(kind, "other")](nbytes)

    def on_sent(self, kind: Kind, nbytes: int) -> None:
        self._sent[_OUT.get(kind, "other")](nbytes)

    def on_result(self, job: Job, result: Result) -> None:
        t = result.stages
        for stage, us in zip(STAGES, (t.receive_us, t.queue_us, t.decode_us, t.tail_us,
                                      t.encode_us)):
            self._stage[stage](1e-6 * us)
        self._frames["answered"](1)
        self._codecs[_CODECS[job.frame.codec]](1)
        self._payload[""](len(job.frame.payload))
        if result.refined:
            self._refined[""](1)

    def on_refused(self, turned: Turned) -> None:
        self._frames[_REASONS[turned.reason]](1)

    def on_fetch(self, what: str) -> None:
        self._fetches[what](1)

    # -- what is

    def _read(self) -> Iterable[Family]:
        now, worker = self._worker.glance(), self._worker
        yield Family("gauge", f"{_P}_build_info", "1; what runs", (
            ((VERSION, worker.runtime, platform.python_version()), 1.0),),
            ("version", "runtime", "python"))
        yield gauge(f"{_P}_ready", "1 while connected with nothing being loaded",
                    now.connected and not now.loading and not now.dead_threads)
        yield gauge(f"{_P}_queue_frames", "Frames that wait", now.queued)
        yield gauge(f"{_P}_queue_slots", "Frames that may wait; more are shed", now.queue_size)
        yield gauge(f"{_P}_queue_wait_seconds", "How long a frame that came now would wait",
                    now.wait_s)
        yield counter(f"{_P}_busy_seconds", "Time spent on frames", now.busy_s)
        yield gauge(f"{_P}_unsure_frames", "Answers that wait for their refinement", now.unsure)
        yield Family("gauge", f"{_P}_bundle_info",
                     "1 for each bundle in memory; at most run.max_loaded",
                     tuple(((bundle[:16], name[:_MAX_NAME]), 1.0) for bundle, name in now.models),
                     ("bundle", "model"))
        yield gauge(f"{_P}_bundles_loaded", "Bundles in memory", len(now.models))
        yield gauge(f"{_P}_bundles_stored", "Bundles that devices are told of", now.stored)
        yield gauge(f"{_P}_bundles_unfit", "Bundles that came and cannot run here", now.unfit)
        yield gauge(f"{_P}_bundles_fetching", "Bundles on their way here", now.fetching)
        yield counter(f"{_P}_refused_messages", "Chunks and messages that were none",
                      now.refused_messages)
        yield gauge(f"{_P}_unsent_bytes", "Bytes of answers that the link has not taken yet",
                    now.unsent_bytes)
        yield from session_families(_P, now.connected, now.session)

    def _read_fleet(self) -> Iterable[Family]:
        devices = self._watch.devices()
        yield Family("gauge", "split_fleet_devices", "Devices that this worker knows of", tuple(
            ((state,), float(sum(d["state"] == state for d in devices)))
            for state in ("ready", "silent", "lost", "stopped", "unknown")), ("state",))
        yield counter("split_fleet_evicted_devices", "Devices forgotten to make room for others",
                      self._watch.evicted)
        yield counter("split_fleet_refused_records", "Records of devices and workers that were"
                      " none", self._watch.refused)
        yield Family("gauge", "split_device_info", "1 for each device; what it runs now", tuple(
            ((d["device"], d["state"], (d["model"] or "")[:_MAX_NAME], d["rung"] or "",
              d["worker"] or ""), 1.0) for d in devices),
            ("device", "state", "model", "rung", "worker"))
        yield _of_devices("cut", "Op before which the device cuts its model now", devices, "cut")
        yield _of_devices("seen_seconds", "Time since the last sign of life", devices,
                          "seen_s_ago")
        reporting = [d for d in devices if d["reports"]]
        yield _of_devices("frames_per_second", "Answered frames a second", reporting, "fps")
        yield Family("gauge", "split_device_latency_seconds",
                     "From capture to answer, over the device's last minute", tuple(
                         ((d["device"], percentile), 1e-3 * d[key]) for d in reporting
                         # Not "quantile", which is for summaries alone.
                         for percentile, key in (("50", "p50_ms"), ("95", "p95_ms"))
                         if d[key] is not None), ("device", "percentile"))
        yield Family("counter", "split_device_frames", "Frames by how they ended, by the device's"
                     " own count", tuple(((d["device"], o), float(d["totals"][o]))
                                         for d in reporting for o in OUTCOMES),
                     ("device", "outcome"))
        yield Family("counter", "split_device_sent_bytes", "Coded bytes that the device has sent",
                     tuple(((d["device"],), float(d["sent_bytes"])) for d in reporting),
                     ("device",))
        yield Family("gauge", "split_device_link_up", "1 while its connection is up, by its own"
                     " word", tuple(((d["device"],), float(d["link"]["up"] and
                                                          d["state"] == "ready"))
                                    for d in reporting), ("device",))
        yield Family("gauge", "split_device_link_rtt_seconds", "Round trip to the broker", tuple(
            ((d["device"],), 1e-3 * d["link"]["rtt_ms"]) for d in reporting
            if d["link"]["rtt_ms"] is not None), ("device",))
        yield Family("gauge", "split_device_link_bytes_per_second", "What it believes of its"
                     " uplink", tuple(((d["device"],), d["link"]["rate_bps"] / 8) for d in reporting
                                      if d["link"]["rate_bps"] is not None), ("device",))
        for name, help, key in (
                ("battery_ratio", "Charge, 0 to 1", "battery_ratio"),
                ("temperature_celsius", "Of its processor", "temperature_c"),
                ("cpu_busy_ratio", "Of its processors, 0 to 1", "cpu_busy_ratio"),
                ("memory_bytes", "Of the agent's process", "memory_bytes"),
                ("results_waiting", "Results that the broker has not taken", "results_waiting")):
            yield _of_devices(name, help, reporting, key)


def _of_devices(name: str, help: str, devices: list[dict], key: str) -> Family:
    """A number of each device that has it."""
    return Family("gauge", f"split_device_{name}", help, tuple(
        ((d["device"],), float(d[key])) for d in devices if d[key] is not None), ("device",))
