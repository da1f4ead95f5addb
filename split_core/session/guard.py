"""Runs callbacks so that none can end the network thread, and counts what happened."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("split_core.session")

# Causes remembered, so that a fault in every frame is one line in the log. A message that
# carries a changing number is the same cause: what counts is the place that raised.
MAX_CAUSES = 256


@dataclass(slots=True)
class SessionStats:
    """Counters since the session was made."""

    connects: int = 0
    failed_attempts: int = 0
    losses: int = 0
    messages_in: int = 0
    publishes: int = 0
    publishes_refused: int = 0  # too large, no connection, backlog full, or by the broker
    publishes_lost: int = 0  # the connection ended before they were known to have left
    subscriptions_refused: int = 0
    callback_errors: int = 0


class Guard:
    """Calls what the session's user gave it."""

    def __init__(self, stats: SessionStats) -> None:
        self._stats = stats
        self._causes: set[tuple[str, type, str]] = set()

    def call(self, name: str, fn: Callable[..., Any], *args: Any) -> Any:
        """fn(*args), or None when it raises: counted, and logged once for each cause."""
        try:
            return fn(*args)
        except Exception as e:
            self._stats.callback_errors += 1
            frame = traceback.extract_tb(e.__traceback__)[-1]
            cause = (name, type(e), f"{frame.filename}:{frame.lineno}")
            if cause not in self._causes and len(self._causes) < MAX_CAUSES:
                self._causes.add(cause)
                log.exception("event=callback_failed callback=%s (logged once)", name)
            return None
