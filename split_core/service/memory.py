"""A ceiling on the memory of this process, for machines whose kernel keeps none.

Raspberry Pi OS boots without the memory cgroup, where MemoryMax= is silently void: a leak takes
the whole board with it. So the process looks at itself and, above its ceiling, says so and ends
with a code that systemd answers with a restart. It counts resident memory without files that are
merely mapped (statm: resident - shared), because the kernel can drop those pages at any time; a
bundle is such a file.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from split_core.errors import MemoryExceeded

_log = logging.getLogger(__name__)
_WARN_RATIO = 0.8
# A process that swings around the mark says so once; it has to come down to here in between.
_CALM_RATIO = 0.7
_MB = 1 << 20


class Memory:
    """What this process holds, and whether that is too much. `look` now and then."""

    def __init__(self, max_mb: int, root: Path | str = "/"):
        self.max_bytes = max_mb * _MB
        self._statm = Path(root) / "proc/self/statm"
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self.used_bytes: int | None = None        # as of the last look; None where unknown
        self.is_near = False
        self._blind = False

    def look(self) -> None:
        """Measure. Raises MemoryExceeded above the ceiling; warns from 80 % of it."""
        self.used_bytes = self._read()
        if self.used_bytes is None or not self.max_bytes:
            return
        ratio = self.used_bytes / self.max_bytes
        if ratio > 1:
            raise MemoryExceeded(
                f"this process holds {self.used_bytes / _MB:.0f} MB of memory, its ceiling is"
                f" {self.max_bytes // _MB} MB (service.memory_max_mb); it ends here so that it can"
                " be started anew. If that happens again, raise the ceiling, or use a smaller"
                " model or fewer threads")
        if ratio >= _WARN_RATIO and not self.is_near:
            self.is_near = True
            _log.warning("event=memory-near used_mb=%.0f max_mb=%d note=above the ceiling this"
                         " process ends and is started anew", self.used_bytes / _MB,
                         self.max_bytes // _MB)
        elif ratio < _CALM_RATIO:
            self.is_near = False

    def _read(self) -> int | None:
        try:
            _, resident, shared, *_ = self._statm.read_text("ascii").split()
            return (int(resident) - int(shared)) * self._page_bytes
        except (OSError, ValueError) as e:
            if not self._blind:
                self._blind = True
                _log.warning("event=memory-unknown file=%s error=%r note=the ceiling"
                             " service.memory_max_mb is not kept", self._statm, str(e))
            return None
