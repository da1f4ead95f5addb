"""The journal: one JSON line a frame, for history checks and field analysis."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import msgspec

from split_core.errors import ConfigError

_log = logging.getLogger(__name__)


class Journal:
    """Appends records to a file; thread-safe.

    What is written after `close` is left out, and so is what the disk does not take: frames go
    on without a journal, and the log says so once.
    """

    def __init__(self, path: str | Path):
        try:
            self._file = open(path, "ab", buffering=0)
        except OSError as e:
            raise ConfigError(f"cannot write the journal {path}: {e.strerror}") from None
        self._lock = threading.Lock()
        self.lost = 0                    # records that could not be written

    def write(self, record: dict | msgspec.Struct) -> None:
        with self._lock:
            if self._file.closed:
                return
            try:
                self._file.write(msgspec.json.encode(record) + b"\n")
            except OSError as e:
                if not self.lost:
                    _log.error("event=journal-failed error=%r", e.strerror)
                self.lost += 1

    def close(self) -> None:
        with self._lock:
            self._file.close()
