"""Publishes the device to Home Assistant, and takes it away again.

The document is retained, so it stays when the agent is gone: that it was published is kept in the
state directory, and what was published is cleared when the settings say otherwise.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.observers.base import Observer
from edge_agent.remote.discovery import Shown, birth_topic, discovery, discovery_topic
from split_core.errors import SplitError
from split_core.files import write_whole
from split_core.model.bundle import Bundle
from split_core.session import Publication, Received, Timer
from split_core.settings.places import default_state_dir

_log = logging.getLogger(__name__)
_RECORD = "homeassistant.json"
# When Home Assistant starts, a fleet must not answer it all at once.
_SPREAD_S = 2.0


class Announcer(Observer):
    """One agent's device in Home Assistant."""

    def __init__(self, agent: EdgeAgent, clock: Callable[[], float] = time.monotonic):
        self._agent, self._session, self._clock = agent, agent.node.session, clock
        self._record = Path(agent.config.state_dir or default_state_dir("edge-agent")) / _RECORD
        self._watched: set[str] = set()
        self._said = b""                         # on this connection, unless it was asked again
        self._asked: Timer | None = None         # asked again, and not yet said
        self._watch(agent.config)

    def _watch(self, config: AgentConfig) -> None:
        """Hear of Home Assistant's start."""
        topic = birth_topic(config.homeassistant)
        if config.homeassistant.enabled and topic not in self._watched:
            self._watched.add(topic)
            self._agent.subscribe(topic, self._on_birth)

    def on_up(self) -> None:
        self._announce_again()

    def on_config(self, config: AgentConfig) -> None:
        self._watch(config)
        self._session.call_soon(self._announce)

    def on_model(self, bundle: Bundle) -> None:
        self._session.call_soon(self._announce)

    def _on_birth(self, topic: str, payload: bytes, received: Received) -> None:
        if payload.strip() == b"online" and not received.retain and self._asked is None and (
                topic == birth_topic(self._agent.config.homeassistant)):
            digest = hashlib.sha256(self._agent.config.id.encode()).digest()
            self._asked = self._session.call_at(self._clock() + _SPREAD_S * digest[0] / 255,
                                                self._announce_again)

    # -- on the network thread

    def _announce_again(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None
        self._said = b""
        self._announce()

    def _announce(self) -> None:
        """Bring what is retained in line with the settings."""
        agent, config = self._agent, self._agent.config.homeassistant
        if not self._session.is_up:
            return                               # on_up comes again
        wanted = discovery_topic(config, agent.config.id) if config.enabled else None
        kept = self._kept()
        for topic in kept - {wanted}:
            self._publish(topic, b"", lambda topic=topic: self._keep(self._kept() - {topic}))
        if wanted is None:
            self._said = b""
            return
        if wanted not in kept:                   # before: a crash in between must not orphan it
            self._keep(kept | {wanted})
        bundle = agent.bundle
        document = discovery(Shown(
            id=agent.config.id, topics=agent.topics, result_topic=agent.config.result.topic,
            health_every_s=agent.config.health.every_s, model=bundle.manifest.name,
            answer_kind=bundle.manifest.answer.kind, adapts=agent.adaptation is not None,
            accepts_policy="policy" in agent.config.commands.accept), config)
        if (said := wanted.encode() + document) != self._said:
            self._said = said
            self._publish(wanted, document)

    def _publish(self, topic: str, payload: bytes,
                 then: Callable[[], None] = lambda: None) -> None:
        def done(acknowledged: bool) -> None:
            if acknowledged:
                then()

        try:
            self._session.publish(Publication(topic, payload, qos=1, retain=True), done)
        except SplitError as e:
            _log.warning("event=homeassistant-unsaid topic=%s why=%r", topic, str(e))
        except ValueError as e:                  # somebody has written to our record
            _log.warning("event=homeassistant-unsaid topic=%r why=%r", topic, str(e))

    def _kept(self) -> set[str]:
        """The topics on which a document of ours may be retained."""
        try:
            topics = json.loads(self._record.read_text("utf-8"))["topics"]
            return {str(t) for t in topics}
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, KeyError, TypeError) as e:
            _log.warning("event=homeassistant-forgotten error=%r", str(e))
            return set()

    def _keep(self, topics: set[str]) -> None:
        try:
            if not topics:
                self._record.unlink(missing_ok=True)
                return
            # Rarely written. What is retained outlives a power cut, so this must, too.
            write_whole(self._record, json.dumps({"topics": sorted(topics)}), durable=True)
        except (OSError, SplitError) as e:
            _log.warning("event=homeassistant-not-kept error=%r", str(e))
