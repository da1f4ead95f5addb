"""Traces of single frames, as the worker measured them: below the device's span of the worker."""

from __future__ import annotations

import time

from cloud_side.admission import Job
from cloud_side.config import WorkerConfig
from cloud_side.observers.base import WorkerObserver
from split_core.tracing import LINK_SPAN, FrameIds, Piece, Tracer, in_a_row, open_tracer
from split_core.wire.messages import Result


class WorkerTracing(WorkerObserver):
    """Makes one tree for each chosen frame that was answered, while it is entered."""

    def __init__(self, tracer: Tracer):
        self._tracer = tracer

    def __enter__(self) -> WorkerTracing:
        return self

    def __exit__(self, *_exc) -> None:
        self._tracer.close()

    def on_result(self, job: Job, result: Result) -> None:
        frame, now_s, t = job.frame, time.monotonic(), result.stages
        ids = FrameIds(frame.session, frame.frame_id)
        if not ids.is_sampled(self._tracer.sample):
            return
        # Backwards from now: a refined frame's stages are those of both passes, one after another.
        stages = (("receive", t.receive_us), ("queue", t.queue_us), ("decode", t.decode_us),
                  ("tail", t.tail_us), ("reply", t.encode_us))
        begin_s = now_s - 1e-6 * sum(us for _, us in stages)
        root = Piece("serve", begin_s, now_s, {
            "split.device": job.sender, "split.frame_id": frame.frame_id,
            "split.cut": frame.cut, "split.codec": frame.codec.name.lower(),
            "split.payload_bytes": len(frame.payload), "split.refined": result.refined,
        }, in_a_row(begin_s, [(name, 1e-6 * us) for name, us in stages]))
        self._tracer.trace(ids, root, now_s, parent=LINK_SPAN)


def tracing_parts(config: WorkerConfig) -> list[WorkerObserver]:
    """Nothing when it is off. Raises ConfigError where a package is missing."""
    tracer = open_tracer("cloud-worker", config.id, config.trace)
    return [] if tracer is None else [WorkerTracing(tracer)]
