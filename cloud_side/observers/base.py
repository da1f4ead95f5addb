"""What others may see of a worker: metrics, the status page, tracing.

Methods are called on the network thread or the tail thread and have to be brief; one that raises
is said in the log and harms nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud_side.admission import Job, Turned
from split_core.audience import Audience
from split_core.session import Received, SessionStats
from split_core.wire.messages import Kind, Result

# What becomes of a bundle that a device has and we lack.
FETCHES = ("begun", "stored", "failed")


@dataclass(frozen=True, slots=True)
class WorkerGlance:
    """A worker at one moment."""

    connected: bool
    trouble: str                     # why not; empty while connected
    dead_threads: tuple[str, ...]    # of those that have to run
    loading: bool                    # a bundle is being loaded, or waits for that
    queued: int                      # frames that wait
    queue_size: int                  # how many may
    wait_s: float                    # how long a frame that came now would
    busy_s: float                    # spent on jobs since the start
    busy_ratio: float                # of the last seconds
    unsure: int                      # answers that wait for their refinement
    models: tuple[tuple[str, str], ...]      # in memory: bundle id, hex, and name
    stored: int                      # bundles that devices are told of
    unfit: int                       # bundles that cannot run here
    fetching: int                    # bundles on their way here
    refused_messages: int            # chunks and messages that were none
    unsent_bytes: int                # handed over, not taken by the broker's machine
    session: SessionStats


class WorkerObserver:
    """Override what is of interest."""

    def on_message(self, kind: Kind, nbytes: int) -> None:
        """A whole message has come from a device."""

    def on_sent(self, kind: Kind, nbytes: int) -> None:
        """A message to a device was handed over."""

    def on_result(self, job: Job, result: Result) -> None:
        """A frame was answered. A frame is answered or refused at most once."""

    def on_refused(self, turned: Turned) -> None:
        """A frame was turned away."""

    def on_fetch(self, what: str) -> None:
        """A transfer of a bundle: one of FETCHES."""

    def on_publication(self, topic: str, payload: bytes, received: Received) -> None:
        """Something that an observer has subscribed to, by the session."""


class WorkerObservers(Audience[WorkerObserver], WorkerObserver):
    """All that were attached."""

    def on_message(self, kind: Kind, nbytes: int) -> None:
        self._tell("on_message", kind, nbytes)

    def on_sent(self, kind: Kind, nbytes: int) -> None:
        self._tell("on_sent", kind, nbytes)

    def on_result(self, job: Job, result: Result) -> None:
        self._tell("on_result", job, result)

    def on_refused(self, turned: Turned) -> None:
        self._tell("on_refused", turned)

    def on_fetch(self, what: str) -> None:
        self._tell("on_fetch", what)

    def on_publication(self, topic: str, payload: bytes, received: Received) -> None:
        self._tell("on_publication", topic, payload, received)
