"""Pictures that other programs publish to an MQTT topic; the latest wins."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from split_core.errors import InputError
from split_core.pictures import read_picture


class TopicSource:
    """`push` on the network thread; decoding happens on the source's own."""

    def __init__(self, stopping: threading.Event):
        self._stopping = stopping
        self._new = threading.Condition()
        self._payload: bytes | None = None
        self.replaced = 0                # pictures that came before the last was decoded

    def push(self, payload: bytes) -> None:
        with self._new:
            self.replaced += self._payload is not None
            self._payload = payload
            self._new.notify()

    def frames(self) -> Iterator[tuple[str, np.ndarray | InputError]]:
        number = 0
        while not self._stopping.is_set():
            with self._new:
                if not self._new.wait_for(lambda: self._payload is not None, timeout=0.5):
                    continue
                payload, self._payload = self._payload, None
            try:
                yield f"topic-{number}", read_picture(payload)
            except InputError as e:
                yield f"topic-{number}", e
            number += 1
