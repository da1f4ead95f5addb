"""Bundles to devices that ask for them: the worker's end of a model update.

A device that was told to take a bundle from here pulls it, window by window. Parts are bulk:
results go before them. What waits is bounded; a device that gets no answer asks again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from cloud_side.store import BundleStore
from split_core.blobs import answer_request
from split_core.node import Node
from split_core.outbox import Outgoing
from split_core.wire.messages import BlobRequest, Kind, push_blob_part

_log = logging.getLogger(__name__)
# Devices that are sent a window at once: 16 windows are 4 MB that wait. A fleet that is updated
# takes turns, by asking again.
MAX_DEVICES = 16
# Transfers that are said in the log, once each.
_MAX_LOGGED = 1000


class BlobsOut:
    """One worker's. On the network thread; ``on_wanted(digest)`` for each blob asked for that is
    held."""

    def __init__(self, store: BundleStore, inbox_of: Callable[[str], str], *,
                 gives: Callable[[], bool], on_wanted: Callable[[bytes], None]):
        """``inbox_of(device)`` is a topic; unless ``gives()``, nothing is held."""
        self._store, self._inbox_of = store, inbox_of
        self._gives, self._on_wanted = gives, on_wanted
        self.node: Node | None = None         # set by the worker, which the node calls
        self._queued: Counter[str] = Counter()           # parts that have not left, by device
        self._logged: set[tuple[str, bytes]] = set()

    def on_request(self, device: str, request: BlobRequest) -> None:
        """Send a window, one at a time to a device."""
        if device in self._queued or len(self._queued) >= MAX_DEVICES:
            return
        held = self._gives() and self._store.holds(request.digest)
        self._log_once(device, request, held)
        if held:
            self._on_wanted(request.digest)
            self._store.touch(request.digest)
        topic = self._inbox_of(device)

        def left() -> None:
            """A part was sent, or refused as one that cannot be."""
            self._queued[device] -= 1
            if self._queued[device] <= 0:
                del self._queued[device]

        for part in answer_request(
                request, lambda digest: self._store.path(digest) if held else None):
            self._queued[device] += 1
            body = push_blob_part(part)
            self.node.send(Outgoing(topic, Kind.BLOB_PART, len(body), lambda now_s, body=body: body,
                                    lambda now_s: left(), on_refused=left), bulk=True)

    def forget(self) -> None:
        """The link is down: nothing of what waited will leave."""
        self._queued.clear()

    def _log_once(self, device: str, request: BlobRequest, held: bool) -> None:
        key = (device, request.digest)
        if key not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(key)
            _log.info("event=bundle-asked bundle=%s by=%s from_byte=%d held=%s",
                      request.digest.hex()[:16], device, request.offset, str(held).lower())
