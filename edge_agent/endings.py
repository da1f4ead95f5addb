"""How a frame ends: counted once, published, written down, and handed to who waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from edge_agent.answers import to_record
from edge_agent.config import ResultConfig
from edge_agent.frames import Answer, Ledger, Outcome
from edge_agent.journal import Journal
from edge_agent.results import ResultPublisher
from split_core.errors import BundleError
from split_core.model.bundle import Bundle


class Endings:
    """Every frame comes by here exactly once. Thread-safe; nothing is held while callbacks run.

    ``publisher`` is None for an agent that publishes nothing; ``topic_of(answer)`` says where.
    """

    def __init__(self, bundle: Bundle, config: ResultConfig, ledger: Ledger,
                 publisher: ResultPublisher | None, topic_of: Callable[[Answer], str],
                 on_answer: Callable[[Answer], None] | None):
        self._bundle, self._config, self._ledger = bundle, config, ledger
        self._publisher, self._topic_of, self._on_answer = publisher, topic_of, on_answer
        self._journal = Journal(config.journal) if config.journal else None
        self._ended = threading.Condition()
        self._awaited: dict[int, Answer | None] = {}

    def end(self, answer: Answer) -> None:
        """Count, publish, write down and hand on; a second end of a frame is ignored."""
        published = self._publisher is not None and (
            answer.outcome is not Outcome.DROPPED or self._config.dropped)
        record = None
        if published or self._journal is not None:
            try:
                record = to_record(answer, self._bundle, top_k=self._config.top_k,
                                   raw_tensors=self._config.raw_tensors)
            except BundleError as e:          # outputs that are not what the kind promises
                self.end(replace(answer, outcome=Outcome.FAILED, reason=str(e), outputs=None))
                return
        if not self._ledger.close(answer.frame_id, answer.outcome):
            return
        if published:
            self._publisher.publish(self._topic_of(answer), record)
        if self._journal is not None:
            self._journal.write(record | {"captured_s": round(answer.captured_s, 6)})
        with self._ended:
            if answer.frame_id in self._awaited:
                self._awaited[answer.frame_id] = answer
                self._ended.notify_all()
        if self._on_answer is not None:
            self._on_answer(answer)

    def expect(self, frame_id: int) -> None:
        """Somebody will `wait` for this frame; to be said before it is handed in."""
        with self._ended:
            self._awaited[frame_id] = None

    def wait(self, frame_id: int, timeout_s: float,
             give_up: Callable[[], bool]) -> Answer | None:
        """The answer of an expected frame; None once ``give_up`` or too late."""
        with self._ended:
            self._ended.wait_for(lambda: self._awaited[frame_id] or give_up(), timeout_s)
            return self._awaited.pop(frame_id)

    def wake(self) -> None:
        """Let whoever waits look again whether to give up."""
        with self._ended:
            self._ended.notify_all()

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
