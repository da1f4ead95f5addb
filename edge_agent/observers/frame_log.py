"""Frames in the log: each with `log_level = "debug"`, and always those whose input was none."""

from __future__ import annotations

import logging

from edge_agent.frames import Answer, Outcome
from edge_agent.observers.base import Observer

_log = logging.getLogger(__name__)


class FrameLog(Observer):
    """A line a frame."""

    def on_answer(self, answer: Answer) -> None:
        if answer.outcome is Outcome.FAILED and not answer.by_model:
            # Of a camera that sends nonsense: the log shows the first few and counts the rest.
            _log.warning("event=input-refused source=%r reason=%r", answer.source, answer.reason)
        _log.debug("event=frame frame=%d source=%r outcome=%s reason=%r late=%s cut=%d rung=%s"
                   " worker=%s payload_bytes=%d total_ms=%.1f", answer.frame_id, answer.source,
                   answer.outcome.value, answer.reason, answer.late, answer.cut, answer.rung,
                   answer.worker, answer.payload_bytes, answer.total_ms)
