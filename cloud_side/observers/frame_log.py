"""Answered frames in the log, with `log_level = "debug"`; those that were turned away are said by
the worker itself."""

from __future__ import annotations

import logging

from cloud_side.admission import Job
from cloud_side.observers.base import WorkerObserver
from split_core.wire.messages import Result

_log = logging.getLogger(__name__)


class FrameLog(WorkerObserver):
    """A line a frame."""

    def on_result(self, job: Job, result: Result) -> None:
        stages = result.stages
        _log.debug("event=frame sender=%s frame=%d cut=%d codec=%s queue_ms=%.1f tail_ms=%.1f",
                   job.sender, job.frame.frame_id, job.frame.cut, job.frame.codec.name.lower(),
                   1e-3 * stages.queue_us, 1e-3 * stages.tail_us)
