"""What others may see of an agent: the desk, metrics, the service, tracing.

Methods are called on the thread on which the thing happens and have to be brief; one that raises
is said in the log and harms nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.config import AgentConfig
from edge_agent.frames import Answer, Plan
from edge_agent.planner.planner import Ruling
from split_core.audience import Audience
from split_core.model.bundle import Bundle


class Observer:
    """Override what is of interest."""

    def on_up(self) -> None:
        """Connected, on the network thread: the moment to publish retained records."""

    def on_down(self, reason: str) -> None:
        """The connection is lost, or there is another reason why there is none."""

    def on_plan(self, plan: Plan, ruling: Ruling | None) -> None:
        """Another plan is in force; ``ruling`` is what it follows from, None when it was set."""

    def on_answer(self, answer: Answer) -> None:
        """A frame has ended. Each does once."""

    def on_worker(self, worker: str | None) -> None:
        """Frames go to another worker, or to none."""

    def on_config(self, config: AgentConfig) -> None:
        """Other settings are in force."""

    def on_model(self, bundle: Bundle) -> None:
        """Another bundle is in force."""


class Told(Observer):
    """A function that is told of answers alone."""

    def __init__(self, on_answer: Callable[[Answer], None]):
        self.on_answer = on_answer


class Observers(Audience[Observer], Observer):
    """All that were attached."""

    def on_up(self) -> None:
        self._tell("on_up")

    def on_down(self, reason: str) -> None:
        self._tell("on_down", reason)

    def on_plan(self, plan: Plan, ruling: Ruling | None) -> None:
        self._tell("on_plan", plan, ruling)

    def on_answer(self, answer: Answer) -> None:
        self._tell("on_answer", answer)

    def on_worker(self, worker: str | None) -> None:
        self._tell("on_worker", worker)

    def on_config(self, config: AgentConfig) -> None:
        self._tell("on_config", config)

    def on_model(self, bundle: Bundle) -> None:
        self._tell("on_model", bundle)
