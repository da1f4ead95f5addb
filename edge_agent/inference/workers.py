"""What is known of the workers, from their retained status. Pure."""

from __future__ import annotations

import hashlib

from split_core.wire.records import WorkerStatus

# Ids come from the broker. Once so many are ready, only those that the settings name are taken in.
MAX_WORKERS = 256


class Workers:
    """The workers of a pool and the one a device sends to. ``trusted``: None for all."""

    def __init__(self, device: str, wanted: str | None = None,
                 trusted: tuple[str, ...] | None = None):
        self._device, self._wanted, self._trusted = device, wanted, trusted
        self._ready: dict[str, WorkerStatus] = {}

    def limit(self, wanted: str | None, trusted: tuple[str, ...] | None) -> None:
        """Other settings; what is known of the workers stays."""
        self._wanted, self._trusted = wanted, trusted

    def on_status(self, worker: str, status: WorkerStatus) -> None:
        """A retained status came. The end of another session is an old connection's."""
        known = self._ready.get(worker)
        if status.state == "ready":
            if known is not None or len(self._ready) < MAX_WORKERS or self._is_named(worker):
                self._ready[worker] = status
        elif known is not None and status.session == known.session:
            del self._ready[worker]

    def _is_named(self, worker: str) -> bool:
        return worker == self._wanted or worker in (self._trusted or ())

    def on_cleared(self, worker: str) -> None:
        """Its retained status was taken away."""
        self._ready.pop(worker, None)

    def forget_all(self) -> None:
        """The broker was lost: what it told may no longer hold."""
        self._ready.clear()

    def is_ready(self, worker: str) -> bool:
        return worker in self._ready

    def is_trusted(self, worker: str) -> bool:
        return self._trusted is None or worker in self._trusted

    def holds(self, worker: str, bundle_hex: str) -> bool:
        status = self._ready.get(worker)
        return status is not None and bundle_hex in status.bundles

    def holding(self, bundle_hex: str) -> tuple[str, ...]:
        """Those that can be sent to at once, in the order of their ids."""
        return tuple(sorted(w for w in self._ready if self.holds(w, bundle_hex)
                            and self._wanted in (None, w)))

    def choose(self, bundle_hex: str) -> str | None:
        """The worker to send to: the one configured, else one that holds the bundle; never one
        that is not trusted.

        Among equals rendezvous hashing decides, so that a fleet spreads evenly and a device
        stays with its worker while that lives.
        """
        there = [w for w in self._ready if self.is_trusted(w)]
        if self._wanted is not None:
            return self._wanted if self._wanted in there else None
        return max(there, default=None, key=lambda w: (
            self.holds(w, bundle_hex), hashlib.sha256(f"{self._device} {w}".encode()).digest()))
