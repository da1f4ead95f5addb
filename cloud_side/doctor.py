"""`cloud-worker doctor`: what keeps this worker from serving."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from split_core.doctor import broker, files, host, runtime
from split_core.doctor.findings import Check, Finding, ok, warn

if TYPE_CHECKING:
    from cloud_side.config import WorkerConfig


def checks(file: str | None) -> list[tuple[str, Check]]:
    """All of a worker, by its configuration; without one that can be read, those that need
    none."""
    from cloud_side.cli.setting_up import SETTINGS

    loaded, found = files.load(SETTINGS, file)
    config = loaded and loaded.config
    first: list[tuple[str, Check]] = [("configuration", lambda: found)]
    if config is None:
        return [*first, ("runtime", lambda: runtime.check_runtime(None, 1, None))]
    return [
        *first,
        ("secrets", lambda: files.check_secrets(config)),
        ("runtime", lambda: runtime.check_runtime(config.run.runtime, config.run.threads, None)),
        ("memory", lambda: host.check_memory(config.service.memory_max_mb)),
        ("clock", host.check_clock),
        ("governor", host.check_governor),
        ("state", lambda: _state(config)),
        ("store", lambda: _store(config)),
        ("broker", lambda: _broker(config)),
    ]


def _state(config: WorkerConfig) -> Iterator[Finding]:
    from split_core.settings.places import default_state_dir

    yield from host.check_state_dir(config.state_dir or default_state_dir("cloud-worker"))


def _store(config: WorkerConfig) -> Iterator[Finding]:
    """Bundles that are named after another digest than theirs are found when they are opened;
    here, whether there are any and may be more."""
    from pathlib import Path

    folder = Path(config.store.path)
    yield from (_as_store(f) for f in host.check_state_dir(folder, "store.path"))
    held = sum(1 for _ in folder.glob("*.split.tflite")) if folder.is_dir() else 0
    if not held and not config.store.accept_from_devices:
        yield warn("bundles", f"{folder} has none, and none are accepted from devices: nothing can"
                   " be served", "put bundles there, or store.accept_from_devices = true")
    else:
        yield ok("bundles", f"{held} in the store")


def _as_store(finding: Finding) -> Finding:
    name = {"state": "store", "disk": "store disk"}[finding.check]
    return Finding(name, finding.state, finding.found, finding.remedy)


def _broker(config: WorkerConfig) -> Iterator[Finding]:
    from split_core.wire.topics import Topics

    topics = Topics(config.root)
    yield from broker.check_configured(config.broker, broker.Place(
        config.id, topics.worker_up(config.id, "doctor"), topics.worker_inbox_filter(config.id),
        topics.worker_inbox(config.id, config.id)), broker.Seen())
