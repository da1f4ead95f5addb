"""The deployments of an agent: the one in force and, while the model changes, a second one.

The new one is loaded, tried and offered to the workers beside the one in force. Between two frames
it takes over, and the one before finishes what it has begun.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from edge_agent.config import AgentConfig
from edge_agent.deployment import Deployment
from split_core.errors import SplitError

_log = logging.getLogger(__name__)
# What a deployment that was replaced has beyond the deadline for what it has begun.
_RETIRE_GRACE_S = 5.0


class Deployments:
    """All there are now, the one in force first. Read on any thread; changed on one at a time."""

    def __init__(self, make: Callable[[AgentConfig, Deployment | None], Deployment],
                 config: AgentConfig, *, wake: threading.Condition, stopped: threading.Event,
                 raise_failure: Callable[[], None]):
        """``make(config, before)`` makes one, to follow another. ``wake`` is the agent's lock, and
        ``raise_failure`` raises what has ended the agent."""
        self._make, self._wake = make, wake
        self._stopped, self._raise_failure = stopped, raise_failure
        # Of a change, the one that is getting ready and the one that is finishing.
        self._incoming: Deployment | None = None
        self._incoming_failure: BaseException | None = None
        self._before: Deployment | None = None
        self.current = make(config, None)        # in force

    def __iter__(self) -> Iterator[Deployment]:
        found = (self.current, self._before, self._incoming)
        return iter([d for d in found if d is not None])

    def replace(self, config: AgentConfig, introduce: Callable[[], None]) -> None:
        """Another takes over, which ``introduce`` lets hear of the workers. Blocks until the one
        before has finished. Raises what keeps the other from running, and the one before stays in
        force then."""
        self._incoming_failure = None
        incoming = self._incoming = self._make(config, self.current)
        try:
            introduce()
            incoming.start(self._raise_if_incoming_failed)
            incoming.decide_after(self.current)
            with self._wake:
                self._raise_if_incoming_failed()
                self._before, self.current, self._incoming = self.current, incoming, None
                self._wake.notify_all()
        except BaseException:
            self._incoming = None
            incoming.stop()
            self.current.decide_again()
            raise
        _log.info("event=model-swapped bundle=%s was=%s", incoming.bundle.id_hex[:16],
                  self._before.bundle.id_hex[:16])
        self._retire(self._before)

    def _raise_if_incoming_failed(self) -> None:
        self._raise_failure()
        if self._incoming_failure is not None:
            raise self._incoming_failure
        if self._stopped.is_set():
            raise SplitError("the agent was stopped before the model was ready")

    def _retire(self, before: Deployment) -> None:
        """Let it finish what it has begun, which its deadlines bound."""
        limit_s = time.monotonic() + 1e-3 * before.config.frame.deadline_ms + _RETIRE_GRACE_S
        while time.monotonic() < limit_s and not self._stopped.is_set():
            with self._wake:
                if before.is_idle:
                    before.close()           # as one: a frame that comes now is the other's
                    break
            time.sleep(0.01)
        before.stop()
        before.end_open("model replaced")
        with self._wake:
            self._before = None
            self._wake.notify_all()

    def may_begin(self, deployment: Deployment) -> bool:
        """Whether its next frame may start: two may work side by side, but not from one state.
        The caller holds the lock."""
        before = self._before
        return not (deployment.state and deployment is self.current and before is not None
                    and not before.is_idle)

    def on_failure(self, deployment: Deployment, error: BaseException) -> bool:
        """One's thread died. False where it was not in force: the agent can go on."""
        with self._wake:                     # as one with the moment that puts it into force
            if deployment is self._incoming:
                self._incoming_failure = error
                return False
            if deployment in (self.current, self._before):
                return True
        # Given up while it still loaded, or replaced.
        _log.error("event=thread-died bundle=%s note=of a model that is not in force error=%r",
                   deployment.bundle.id_hex[:16], error)
        return False
