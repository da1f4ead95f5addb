"""A journal: JSON records, one a line, in a file that does not grow for ever.

When it would grow beyond its bound it becomes its own predecessor (``.1``, which is overwritten)
and a new one is begun. What the disk does not take is left out and counted; the log says so once.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from split_core.errors import ConfigError

_log = logging.getLogger(__name__)


def predecessor(path: str | Path) -> Path:
    """Where a journal goes when it is full."""
    path = Path(path)
    return path.with_name(f"{path.name}.1")


class Journal:
    """Appends records to a file; thread-safe.

    Lines are whole: of one that the disk takes half, nothing stays. What is written after `close`
    is left out, and so is what the disk does not take: frames go on without a journal.
    """

    def __init__(self, path: str | Path, max_bytes: float = float("inf"),
                 header: Callable[[], msgspec.Struct] | None = None):
        """``header`` makes the first record of each further file, and the first behind records
        that were left out. Raises ConfigError."""
        self._path, self._max_bytes, self._header = Path(path), max_bytes, header
        self._lock = threading.Lock()
        self.lost = 0                    # records that could not be written
        self._gap = False                # ... since the last that could
        try:
            self._open()
        except OSError as e:
            raise ConfigError(f"cannot write the journal {path}: {e.strerror}") from None

    def write(self, record: dict | msgspec.Struct) -> None:
        with self._lock:
            if self._file.closed:
                return
            line = _line(record)
            if self._header is not None and self._gap:
                line = _line(self._header()) + line
            try:
                if self._size and self._size + len(line) > self._max_bytes:
                    self._begin_anew()
                    line = _line(record) if self._header is None else (
                        _line(self._header()) + _line(record))
                self._append(line)
                self._gap = False
            except OSError as e:
                if not self.lost:
                    _log.error("event=journal-failed file=%s error=%r", self._path, e.strerror)
                self.lost += 1
                self._gap = True

    def limit(self, max_bytes: float) -> None:
        """How large it may grow from now on."""
        with self._lock:
            self._max_bytes = max_bytes

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _open(self) -> None:
        self._file = open(self._path, "ab", buffering=0)
        found = os.fstat(self._file.fileno())
        # Of a terminal or a pipe nobody knows how much is in it.
        self._regular = stat.S_ISREG(found.st_mode)
        self._size = found.st_size if self._regular else 0

    def _begin_anew(self) -> None:
        """Raises OSError; the file is then as it was, and the next record tries again."""
        full = self._file
        try:
            os.replace(self._path, predecessor(self._path))
        except FileNotFoundError:        # somebody took it away: there is nothing to keep
            self._open()
            full.close()
            return
        try:
            self._open()
        except OSError:
            os.replace(predecessor(self._path), self._path)
            raise
        full.close()

    def _append(self, line: bytes) -> None:
        """All of it or nothing. Raises OSError."""
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError:
            if written and self._regular:
                os.ftruncate(self._file.fileno(), self._size)
            raise
        self._size += len(line) if self._regular else 0


def _line(record: dict | msgspec.Struct) -> bytes:
    return msgspec.json.encode(record) + b"\n"
