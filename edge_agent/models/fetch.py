"""A model on its way here from one worker, by the blob exchange that carries bundles to workers.

The device pulls: it asks for a window, takes its parts, asks for the next, and asks again when
nothing comes. Results go first at the worker, where parts are bulk. Parts come in on the
network thread and are written by whoever calls `run`, so that no disk holds up the network.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from edge_agent.models.pace import Pace
from split_core.blobs import PART_BYTES, WINDOW_BYTES, BlobFetch
from split_core.errors import MessageError, SplitError
from split_core.wire.messages import BlobPart, BlobRequest

# While connected, so long may a worker that was named say nothing: enough to be restarted, and to
# load its other bundles first.
GIVE_UP_S = 600.0
# A window that was asked for twice. More is dropped, and asked for again.
_MAX_WAITING = 2 * WINDOW_BYTES // PART_BYTES
_LOOK_S = 0.25


class Stopped(SplitError):
    """The agent stops; what has arrived is kept for the next time."""


class Fetch:
    """One transfer. `push` from the network thread, `run` from another."""

    def __init__(self, blob: BlobFetch, worker: str, nbytes: int,
                 send: Callable[[BlobRequest], None], is_up: Callable[[], bool], *,
                 clock: Callable[[], float] = time.monotonic, give_up_s: float = GIVE_UP_S):
        self.blob, self.worker, self.nbytes = blob, worker, nbytes
        self._send, self._is_up, self._clock, self._give_up_s = send, is_up, clock, give_up_s
        self._parts: queue.Queue[BlobPart] = queue.Queue(_MAX_WAITING)
        self._pace, self._window_end = Pace(), blob.received

    def push(self, sender: str, part: BlobPart) -> None:
        """A part has come. Raises MessageError for one that nobody asked its sender for."""
        if sender != self.worker or part.digest != self.blob.digest:
            raise MessageError(f"part of {part.digest.hex()[:16]}..., which {sender} was not"
                               " asked for")
        try:
            self._parts.put_nowait(part)
        except queue.Full:
            pass                          # asked for again

    def run(self, look: Callable[[], None]) -> None:
        """Until the whole is in place, proven. ``look()`` is called several times a second and
        may raise to end it.

        Raises MessageError when the worker does not hold it, sends another size, stays away, or
        the digest is wrong; OSError of the disk.
        """
        heard_s = self._clock()
        while True:
            look()
            now_s = self._clock()
            if not self._is_up():
                heard_s = now_s           # an outage is not the worker's silence
            elif now_s - heard_s > self._give_up_s:
                raise MessageError(f"worker {self.worker} has sent nothing for"
                                   f" {self._give_up_s:.0f} s")
            elif self._pace.is_due(now_s):
                self._pace.on_asked(now_s)
                request = BlobRequest(self.blob.digest, self.blob.received,
                                      self._pace.window_bytes)
                self._window_end = min(request.offset + request.max_bytes, self.nbytes)
                self._send(request)
            try:
                part = self._parts.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            heard_s = self._clock()
            if part.total_bytes not in (0, self.nbytes):
                self.blob.abandon()
                raise MessageError(f"worker {self.worker} has a bundle of {part.total_bytes}"
                                   f" bytes, the command says {self.nbytes}")
            received = self.blob.received
            if self.blob.add(part, heard_s):
                return
            if self.blob.received > received:
                self._pace.on_part(heard_s)
                if self.blob.received >= self._window_end:
                    self._pace.on_window(heard_s)
