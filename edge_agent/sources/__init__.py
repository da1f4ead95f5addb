"""Where frames come from: one file a kind, all with one method, ``frames()``.

A source yields (name, pixels) as fast as it can; the pump paces it and hands frames to the
agent, in which the latest wins.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from edge_agent.config import SourceConfig
from split_core.errors import InputError, SourceLost

_log = logging.getLogger(__name__)


class Source(Protocol):
    def frames(self) -> Iterator[tuple[str, np.ndarray | InputError]]:
        """Pictures as (name, uint8 [height, width, 3]); an InputError for one that is none."""


def open_source(config: SourceConfig) -> Source:
    """The source of a configuration; 'mqtt' and 'none' are the agent's own business."""
    match config.kind:
        case "file" | "folder":
            from edge_agent.sources.files import FileSource
            return FileSource(config.path, loop=config.loop)
        case "stdin":
            import sys

            from edge_agent.sources.stream import StreamSource
            return StreamSource(sys.stdin.buffer)
        case "camera":
            from edge_agent.sources.camera import CameraSource
            return CameraSource(config.path, config.width, config.height)
        case "csi":
            from edge_agent.sources.csi import CsiSource
            return CsiSource(config.width, config.height)
    raise ValueError(f"no source of kind {config.kind}")


class Pump:
    """A thread that reads a source and offers its frames, at most ``max_fps()`` a second; 0: as they
    come. It is asked again after each frame.

    ``offer(name, frame, captured_s)`` hands one in; ``on_end`` follows the last.
    """

    def __init__(self, source: Source, offer: Callable, *, max_fps: Callable[[], float],
                 stopping: threading.Event, on_end: Callable[[], None],
                 on_fatal: Callable[[BaseException], None]):
        self._source, self._offer, self._stopping = source, offer, stopping
        self._max_fps = max_fps
        self._on_end, self._on_fatal = on_end, on_fatal
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _frames(self) -> Iterator[tuple[str, np.ndarray | InputError]]:
        """The source's. What the system says of a device or pipe that breaks is no fault of ours:
        raises SourceLost for it."""
        try:
            yield from self._source.frames()
        except OSError as e:
            raise SourceLost(f"the source cannot be read any more: {e}; is what it reads from"
                             " still there?") from None

    def _run(self) -> None:
        try:
            next_s = time.monotonic()
            for name, frame in self._frames():
                captured_s = time.monotonic()
                if self._stopping.is_set():
                    return
                self._offer(name, frame, captured_s)
                # A slow source is not made up for by a burst.
                max_fps = self._max_fps()
                period_s = 1 / max_fps if max_fps else 0.0
                next_s = max(next_s + period_s, captured_s)
                if period_s and self._stopping.wait(max(0.0, next_s - time.monotonic())):
                    return
            self._on_end()
        except BaseException as e:  # a thread that dies takes the process with it, loudly
            self._on_fatal(e)
