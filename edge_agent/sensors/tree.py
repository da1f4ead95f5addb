"""Small files of /proc and /sys below a root that tests can move; what is amiss is None.

Nothing is cached and nothing is kept open: devices come and go, and hwmon numbers change.
"""

from __future__ import annotations

import glob
import os
import re
import stat

# Attributes of sysfs are at most a page; /proc/stat of a machine with 512 CPUs is 60 kB.
MAX_BYTES = 256 * 1024
# What the kernel prints. Python's own float() would take "nan", "1_0" and Arabic digits.
_NUMBER = re.compile(r"[+-]?[0-9]{1,24}(\.[0-9]{0,24})?")


class Tree:
    """A root directory; paths are relative to it."""

    def __init__(self, root: str = "/"):
        self._root = root

    def text(self, path: str) -> str | None:
        """A file's text, stripped; None if it is absent, unreadable, empty, huge or no text."""
        data = read_bounded(os.path.join(self._root, path), MAX_BYTES)
        try:
            return (data.decode("utf-8").strip() or None) if data else None
        except UnicodeDecodeError:
            return None

    def number(self, path: str) -> float | None:
        """A file that holds one decimal number."""
        return number(self.text(path))

    def find(self, pattern: str) -> list[str]:
        """Paths that match, in a stable order."""
        return sorted(glob.glob(pattern, root_dir=self._root))


def number(text: str | None) -> float | None:
    """A decimal number as the kernel prints it; None for anything else."""
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def read_bounded(path: str, max_bytes: int) -> bytes | None:
    """A regular file's bytes; None if it cannot be read or has more than `max_bytes`.

    A FIFO or a device in the file's place is not waited for.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):                    # ValueError: a NUL in a configured path
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = b""
        # A file of /proc gives what it has in pieces of its own size.
        while len(data) <= max_bytes and (piece := os.read(fd, max_bytes + 1 - len(data))):
            data += piece
        return data if len(data) <= max_bytes else None
    except OSError:                                  # a driver that answers EIO or ENODATA
        return None
    finally:
        os.close(fd)
