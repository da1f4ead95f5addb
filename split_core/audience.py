"""Those who look on, told one after another: what one of them raises harms nothing else."""

from __future__ import annotations

import logging
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Audience(Generic[T]):
    """All that were attached. Each side of the wire has its own list of what they are told."""

    def __init__(self):
        self._all: list[T] = []
        self._said: set[tuple[str, str, type]] = set()

    def attach(self, observer: T) -> None:
        """Told from now on. Without a lock: the list only grows, and what is being told at this
        moment may still pass a new one by."""
        self._all.append(observer)

    def _tell(self, what: str, *args) -> None:
        """Call the method of that name of each. What it raises is said in the log, once a cause:
        it may come with every frame."""
        for observer in self._all:
            try:
                getattr(observer, what)(*args)
            except Exception as e:
                cause = type(observer).__name__, what, type(e)
                if cause not in self._said:
                    self._said.add(cause)
                    _log.exception("event=observer-failed observer=%s call=%s", *cause[:2])
