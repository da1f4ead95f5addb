"""`edge-agent doctor`: what keeps this device from doing its work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from split_core.doctor import broker, files, host, runtime
from split_core.doctor.findings import Check, Finding, fail

if TYPE_CHECKING:
    from edge_agent.config import AgentConfig


def checks(file: str | None) -> list[tuple[str, Check]]:
    """All of a device, by its configuration; without one that can be read, those that need
    none."""
    from edge_agent.cli.setting_up import SETTINGS

    try:
        loaded, found = files.load(SETTINGS, file)
    except ImportError as e:
        # The settings need NumPy. The probe says what is wrong with it.
        unread = _not_looked_at(e)           # `e` itself is gone when this block ends
        return [("runtime", lambda: runtime.check_runtime(None, 1, None)),
                ("configuration", lambda: [unread]), *_host(None)]
    config = loaded and loaded.config
    first: list[tuple[str, Check]] = [("configuration", lambda: found)]
    if config is None:
        return [*first, ("runtime", lambda: runtime.check_runtime(None, 1, None)), *_host(None)]
    seen = broker.Seen()
    return [
        *first,
        ("secrets", lambda: files.check_secrets(config)),
        ("runtime", lambda: runtime.check_runtime(config.model.runtime, config.model.threads,
                                                  config.model.bundle)),
        ("bundle rights", lambda: files.check_rights(config.model.bundle, "bundle rights")),
        *_host(config),
        *_device(config),
        ("broker", lambda: _broker(config, seen)),
        ("worker", lambda: _worker(config, seen)),
    ]


def _not_looked_at(error: ImportError) -> Finding:
    return fail("configuration", f"not looked at: {error}",
                "mend what is said above first; then run the doctor again")


def _host(config: AgentConfig | None) -> list[tuple[str, Check]]:
    root = config.sensors.root if config else "/"
    state = config.state_dir if config else None

    def state_dir() -> Iterator[Finding]:
        from split_core.settings.places import default_state_dir

        yield from host.check_state_dir(state or default_state_dir("edge-agent"))

    return [
        ("memory", lambda: host.check_memory(config.service.memory_max_mb if config else 512,
                                             root)),
        ("pressure", lambda: host.check_pressure(root)),
        ("clock", lambda: host.check_clock(root)),
        ("governor", lambda: host.check_governor(root)),
        ("state", state_dir),
    ]


def _device(config: AgentConfig) -> list[tuple[str, Check]]:
    from edge_agent.doctor import board, inputs

    return [
        ("throttling", lambda: board.check_throttling(config.sensors.root)),
        ("temperature", lambda: board.check_temperature(config.sensors.root, config.policy.soft_c,
                                                        config.policy.hard_c)),
        ("battery", lambda: board.check_battery(config)),
        ("source", lambda: inputs.check_source(config.source)),
    ]


def _broker(config: AgentConfig, seen: broker.Seen) -> Iterator[Finding]:
    from split_core.wire.topics import Topics

    topics = Topics(config.root)
    yield from broker.check_configured(config.broker, broker.Place(
        config.id, topics.device_up(config.id, "doctor"), topics.device_inbox_filter(config.id),
        topics.device_inbox(config.id, config.id), topics.workers_filter("status")), seen)


def _worker(config: AgentConfig, seen: broker.Seen) -> Iterator[Finding]:
    from edge_agent.doctor.peers import check_worker

    if seen.logged_in:
        yield from check_worker(config, seen.workers)
