"""The journal: one JSON line a frame, for history checks and field analysis."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from split_core.errors import ConfigError


class Journal:
    """Appends records to a file; thread-safe. Lines are whole even if the process dies.

    What is written after `close` is left out.
    """

    def __init__(self, path: str | Path):
        try:
            self._file = open(path, "ab", buffering=0)
        except OSError as e:
            raise ConfigError(f"cannot write the journal {path}: {e.strerror}") from None
        self._lock = threading.Lock()

    def write(self, record: dict) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(msgspec.json.encode(record) + b"\n")

    def close(self) -> None:
        with self._lock:
            self._file.close()
