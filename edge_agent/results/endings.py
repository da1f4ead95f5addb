"""How a frame ends: counted once, published, written down, and handed to who waits for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from edge_agent.config import ResultConfig
from edge_agent.frames import Answer, Ledger, Outcome
from edge_agent.journal import Journal
from edge_agent.results.answers import to_record
from edge_agent.results.publisher import ResultPublisher
from edge_agent.wall_clock import rfc3339
from split_core.errors import BundleError
from split_core.model.bundle import Bundle


class Endings:
    """Every frame comes by here exactly once. Thread-safe; nothing is held while callbacks run.

    ``publisher`` is None for an agent that publishes nothing; ``topic_of(record)`` says where.
    """

    def __init__(self, config: ResultConfig, ledger: Ledger, publisher: ResultPublisher | None,
                 topic_of: Callable[[dict], str], on_answer: Callable[[Answer], None]):
        self._config, self._ledger = config, ledger
        self._publisher, self._topic_of, self._on_answer = publisher, topic_of, on_answer
        self._journal = _journal_of(config)
        self._ended = threading.Condition()
        self._awaited: dict[int, Answer | None] = {}

    @contextlib.contextmanager
    def changed(self, config: ResultConfig) -> Iterator[None]:
        """Other settings, from the end of the block on; none, if that raises. Raises ConfigError
        at its beginning for a journal that cannot be written."""
        old = new = self._journal
        if config.journal != self._config.journal:
            new = _journal_of(config)
        try:
            yield
        except BaseException:
            _close(new, unless=old)
            raise
        self._config, self._journal = config, new
        if new is not None:
            new.limit(1e6 * config.journal_mb)
        if self._publisher is not None:
            self._publisher.limit(config.spool_results, config.spool_kb << 10)
        _close(old, unless=new)

    def end(self, answer: Answer, bundle: Bundle) -> None:
        """Count, publish, write down and hand on an answer of a bundle; a second end of a frame
        is ignored."""
        published = self._publisher is not None and (
            answer.outcome is not Outcome.DROPPED or self._config.dropped)
        record, journal = None, self._journal
        if published or journal is not None:
            try:
                record = to_record(answer, bundle, at=rfc3339(), top_k=self._config.top_k,
                                   raw_tensors=self._config.raw_tensors)
            except BundleError as e:          # outputs that are not what the kind promises
                self.end(replace(answer, outcome=Outcome.FAILED, reason=str(e), outputs=None,
                                 by_model=True), bundle)
                return
        if not self._ledger.close(answer.frame_id, answer.outcome):
            return
        if published:
            self._publisher.publish(self._topic_of(record), record)
        if journal is not None:
            journal.write(record | {"captured_s": round(answer.captured_s, 6)})
        with self._ended:
            if answer.frame_id in self._awaited:
                self._awaited[answer.frame_id] = answer
                self._ended.notify_all()
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
        _close(self._journal)


def _journal_of(config: ResultConfig) -> Journal | None:
    return Journal(config.journal, 1e6 * config.journal_mb) if config.journal else None


def _close(journal: Journal | None, unless: Journal | None = None) -> None:
    if journal is not None and journal is not unless:
        journal.close()
