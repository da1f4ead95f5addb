"""Messages on their way out, chunk by chunk, as fast as the link takes them and no faster.

The session asks for the next publication when the socket has room, so what waits, waits
here, where it can still be given up. Frames and results go before bulk (parts of bundles).
A body is made when its first chunk leaves: what it says of time is then true.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from split_core.errors import MessageError
from split_core.session import Publication
from split_core.session.options import MAX_CHUNK_BYTES
from split_core.wire.chunks import push_chunks
from split_core.wire.messages import Kind

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outgoing:
    """One message to send. ``make_body`` may answer None: no longer worth sending."""

    topic: str
    kind: Kind
    nbytes: int                                   # about; for the estimate of what is unsent
    make_body: Callable[[float], bytes | None]
    on_sent: Callable[[float], None] | None = None
    cancelled: bool = False
    gone: bool = False               # all of it was handed to the session
    on_refused: Callable[[], None] | None = None  # it cannot be sent: `on_sent` will not come

    def cancel(self) -> None:
        """Send no more of it, and let go of its bytes now: on a slow link it may be a minute
        until the queue is looked at again. From any thread."""
        self.cancelled = True
        self.make_body = _nothing


def _nothing(now_s: float) -> None:
    return None


class Outbox:
    """The feed of a session. `put` from any thread, the rest on the network thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic,
                 seal: Callable[[Outgoing, bytes], bytes] | None = None):
        self._clock, self._seal = clock, seal     # seals a body as it leaves; MessageError
        self._urgent: deque[Outgoing] = deque()
        self._bulk: deque[Outgoing] = deque()
        self._current: Outgoing | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._left = 0
        self._logged: set[tuple[str, str]] = set()
        self._ids = itertools.count(1)
        self.chunk_bytes = MAX_CHUNK_BYTES
        self.refused = 0                          # messages too large to send, or not sealed

    def put(self, outgoing: Outgoing, *, bulk: bool = False) -> None:
        (self._bulk if bulk else self._urgent).append(outgoing)

    @property
    def unsent_bytes(self) -> int:
        """Urgent bytes not yet handed to the session."""
        current = self._current
        left = 0 if current is None or current.cancelled else self._left
        return left + sum(o.nbytes for o in tuple(self._urgent) if not o.cancelled)

    def clear(self) -> None:
        """Forget everything: the link is down, and what waits would be stale."""
        self._urgent.clear()
        self._bulk.clear()
        self._current, self._left = None, 0

    def next_publication(self) -> Publication | None:
        """The next chunk, None when there is nothing to send."""
        while True:
            current = self._current
            if current is not None and not current.cancelled:
                chunk = next(self._chunks, None)
                if chunk is not None:
                    self._left = max(0, self._left - len(chunk))
                    publication = Publication(current.topic, chunk)
                    if self._left == 0:
                        self._finish(current)
                    return publication
            self._current = None
            if not self._begin_next():
                return None

    def _finish(self, current: Outgoing) -> None:
        self._current = None
        current.gone = True
        if current.on_sent is not None:
            current.on_sent(self._clock())

    def _refuse(self, outgoing: Outgoing, why: str) -> None:
        """Not sent: said once a receiver and reason, for it may be so with every frame."""
        self.refused += 1
        cause = (outgoing.topic, why[:24])
        if cause not in self._logged and len(self._logged) < 1000:
            self._logged.add(cause)
            _log.warning("event=message-not-sent kind=%s topic=%s error=%r", outgoing.kind.name,
                         outgoing.topic, why)
        if outgoing.on_refused is not None:
            outgoing.on_refused()

    def _begin_next(self) -> bool:
        lane = self._urgent or self._bulk
        if not lane:
            return False
        outgoing = lane.popleft()
        body = None if outgoing.cancelled else outgoing.make_body(self._clock())
        # What makes the body usually holds the frame, which holds this message: a circle that
        # would keep 98 kB a frame until the garbage collector comes by.
        outgoing.make_body = _nothing
        if body is None:
            return True                           # given up; look at the next
        try:
            if self._seal is not None:
                body = self._seal(outgoing, body)
            chunks = list(push_chunks(outgoing.kind, next(self._ids), body, self.chunk_bytes,
                                      sealed=self._seal is not None))
        except MessageError as e:
            self._refuse(outgoing, str(e))
            return True
        self._current, self._chunks = outgoing, iter(chunks)
        self._left = sum(map(len, chunks))
        return True
