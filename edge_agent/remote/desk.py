"""The desk: where commands come in, and what others see of an agent goes out.

A command is read on the network thread, which only queues it: what it asks for may take as long
as loading a model does, so it is done on a thread of the desk's own, one after another. Whatever
is wrong with a command, or goes wrong with it, is its reply.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import to_builtins

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig
from edge_agent.frames import Answer, Plan
from edge_agent.observers.base import Observer, Observers
from edge_agent.observers.recent import Recent
from edge_agent.planner.planner import Ruling
from edge_agent.remote import commands
from edge_agent.remote.announcer import Announcer
from edge_agent.remote.commands import Address, Command, Floor, Reloaded
from edge_agent.remote.pulse import Pulse
from edge_agent.remote.teller import Teller
from split_core.errors import ConfigError, MessageError, SplitError
from split_core.model.bundle import Bundle
from split_core.service.memory import Memory
from split_core.session import Publication, Received

_log = logging.getLogger(__name__)
# The states of a model update that end it.
FINAL_STATES = frozenset({"swapped", "in-force", "refused"})
# Commands that may wait for the one that is being carried out.
MAX_WAITING = 8


class Updater(Protocol):
    """Who puts other models into force."""

    def request(self, command: dict, reply: Callable[[dict], None]) -> None:
        """Begin, on a thread of its own; ``reply`` is called with each step, from any thread, with
        {"status": "ok", "data": {...}} or {"status": "error", "error": "..."}."""


@dataclass(frozen=True, slots=True)
class _Job:
    command: Command
    to: Address


class Desk(Observer):
    """One agent's desk. Attach it; enter it before the agent starts, leave it after it has ended.

    ``reload()`` reads the configuration file and puts it into force, and returns the keys that
    take a restart; it raises ConfigError or BundleError, and nothing has changed then. Where the
    agent has no file, or nobody who updates models, these commands are refused.
    """

    def __init__(self, agent: EdgeAgent, recent: Recent, *,
                 reload: Callable[[], tuple[str, ...]] | None = None,
                 updater: Updater | None = None, memory: Memory | None = None):
        self._agent, self._reload, self._updater = agent, reload, updater
        self._session = agent.node.session
        self.teller = Teller(agent)
        self.pulse = Pulse(agent, recent, self.teller, memory)
        self._parts = Observers()
        for part in (self.teller, self.pulse, Announcer(agent)):
            self._parts.attach(part)
        self._replies, self._lock = commands.Replies(), threading.Lock()
        self._floor = Floor.of(agent.config.policy)
        # What a command or the file has made of it; whatever else comes is somebody else's.
        self._policy = self._asked = agent.config.policy
        self._jobs: queue.Queue[_Job | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)
        topic_filter = agent.topics.device_commands_filter(agent.config.id)
        agent.subscribe(topic_filter, self._on_command)
        self._session.subscribe(topic_filter, 1)

    def __enter__(self) -> Desk:
        self._thread.start()
        self.pulse.start()
        return self

    def __exit__(self, *_exc) -> None:
        """Take no more commands. One that loads a model is not waited for."""
        self.pulse.stop()
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            pass                                 # the thread is a daemon, and ends with us
        self._thread.join(1.0)

    def on_file(self, config: AgentConfig) -> None:
        """The file has been put into force: what it says of privacy is the floor from now on."""
        with self._lock:
            self._floor, self._policy = Floor.of(config.policy), config.policy

    def on_file_refused(self, reason: str) -> None:
        """The file was to be put into force, and is wrong."""
        self.teller.tell("config-refused", f"the configuration was refused: {reason}",
                         reason=reason)

    # -- commands, on the network thread

    def _on_command(self, topic: str, payload: bytes, received: Received) -> None:
        found = self._agent.topics.parse_command(topic)
        if found is None:
            return
        name, command_id = found[1], commands.id_of(payload)
        # Until its response topic has been looked at.
        to = Address(self._agent.topics.device_reply(self._agent.config.id, _level(name)),
                     received.correlation)
        try:
            self._refuse_retained(name, received)
            commands.check_name(name, self._agent.config.commands.accept)
            to = commands.address(self._agent.topics, self._agent.config.id, name,
                                  received.response_topic, received.correlation)
            command = commands.read(name, payload)
            with self._lock:
                reply = self._replies.begin(name, command.id, payload, to)
            if reply == "new":
                self._take(command, to)
            elif reply is not None:
                self._publish(to, reply)
        except SplitError as e:
            # Once each: who sends them does not stop at one.
            self._agent.node.tell_once(f"command {name[:40]}", str(e))
            self._publish(to, commands.error(command_id, str(e)))

    def _refuse_retained(self, name: str, received: Received) -> None:
        if received.retain:
            raise MessageError(f"the command {name[:40]} is retained on the broker, and would be"
                               " carried out at every connect; publish it without retain, and"
                               " clear the topic with an empty retained message")

    def _take(self, command: Command, to: Address) -> None:
        if command.name == "health":             # must not wait for a model that is loaded
            self.pulse.ask(lambda record: self._end(command, to, commands.ok(
                command.id, to_builtins(record))))
            return
        try:
            self._jobs.put_nowait(_Job(command, to))
        except queue.Full:
            self._end(command, to, commands.error(
                command.id, f"{MAX_WAITING} commands wait already; try again later with"
                            " another id"))

    # -- commands, on the desk's thread

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            command = job.command
            _log.info("event=command name=%s id=%r", command.name, command.id)
            try:
                reply = self._carry_out(job)
            except SplitError as e:
                _log.warning("event=command-refused name=%s id=%r why=%r", command.name,
                             command.id, str(e))
                reply = commands.error(command.id, str(e))
            except Exception as e:               # a fault of ours must not end the desk
                _log.exception("event=command-failed name=%s id=%r", command.name, command.id)
                reply = commands.error(command.id, f"internal error: {e!r}")
            if reply is not None:
                self._end(command, job.to, reply)

    def _carry_out(self, job: _Job) -> bytes | None:
        """The reply; None where it follows later."""
        command = job.command
        match command.name:
            case "reload":
                return commands.ok(command.id, to_builtins(Reloaded(self._do_reload())))
            case "model":
                return self._do_model(job)
        return commands.ok(command.id, self._do_settings(command))

    def _do_settings(self, command: Command) -> dict:
        def change(config: AgentConfig) -> AgentConfig:
            with self._lock:
                after = commands.changed(config, command, self._floor)
                self._asked = after.policy
            return after

        self._agent.reconfigure(change)
        return commands.in_force(self._agent.config)

    def _do_reload(self) -> tuple[str, ...]:
        if self._reload is None:
            raise ConfigError("this agent runs without a configuration file")
        return self._reload()

    def _do_model(self, job: _Job) -> None:
        if self._updater is None:
            raise ConfigError("this device takes no models over the broker: neither"
                              " updates.public_key_file nor updates.allow_unsigned is set in its"
                              " configuration")
        command = job.command

        def reply(answer: dict) -> None:
            data = answer.get("data") or {}
            if answer.get("status") != "ok":
                why = str(answer.get("error") or "no reason was given")
                self._end(command, job.to, commands.error(command.id, why, data))
            elif data.get("state") in FINAL_STATES:
                self._end(command, job.to, commands.ok(command.id, data))
            else:
                self._publish_step(command, job.to, commands.ok(command.id, data))

        self._updater.request(dict(command.body), reply)

    # -- replies

    def _publish_step(self, command: Command, to: Address, reply: bytes) -> None:
        with self._lock:
            addresses = self._replies.addresses(command.name, command.id, to)
        for address in addresses:
            self._publish(address, reply)

    def _end(self, command: Command, to: Address, reply: bytes) -> None:
        with self._lock:
            addresses = self._replies.end(command.name, command.id, reply, to)
        for address in addresses:
            self._publish(address, reply)

    def _publish(self, to: Address, reply: bytes) -> None:
        try:
            self._session.publish(Publication(
                to.topic, reply, qos=1, content_type="application/json",
                correlation=to.correlation))
        except SplitError as e:                  # kept: the command can be sent again
            _log.warning("event=reply-unsaid topic=%s why=%r", to.topic, str(e))

    # -- what the agent tells

    def on_up(self) -> None:
        self._parts.on_up()

    def on_down(self, reason: str) -> None:
        self._parts.on_down(reason)

    def on_plan(self, plan: Plan, ruling: Ruling | None) -> None:
        self._parts.on_plan(plan, ruling)

    def on_answer(self, answer: Answer) -> None:
        self._parts.on_answer(answer)

    def on_worker(self, worker: str | None) -> None:
        self._parts.on_worker(worker)

    def on_model(self, bundle: Bundle) -> None:
        self._parts.on_model(bundle)

    def on_config(self, config: AgentConfig) -> None:
        """Whoever has changed the settings, a command must not make them laxer."""
        with self._lock:
            if config.policy not in (self._policy, self._asked):
                self._floor = self._floor.raised(config.policy)
            self._policy = config.policy
        self._parts.on_config(config)


def _level(name: str) -> str:
    """A stranger's name of a command as a level of the reply's topic."""
    return name if name in commands.NAMES else "unknown"
