"""The worker's settings: one TOML file, or flags."""

from __future__ import annotations

import socket
from typing import Literal

import msgspec

from split_core.config import BrokerConfig
from split_core.errors import ConfigError
from split_core.wire.topics import DEFAULT_ROOT, check_node_id, check_root


def _host_name() -> str:
    name = "".join(c if c.isalnum() or c in ".-" else "-" for c in socket.gethostname())
    return name[:48] or "worker"


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where bundles are kept."""

    path: str = "/var/lib/cloud-worker/bundles"
    # Least recently used bundles go first above this.
    max_mb: int = 4096
    # False: only bundles that are in the store already are served.
    accept_from_devices: bool = True


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tails run."""

    # "litert" or "tflite-runtime"; by default the better one that is installed.
    runtime: Literal["litert", "tflite-runtime"] | None = None
    threads: int = 1
    # Bundles held in memory at once.
    max_loaded: int = 8
    # Frames waiting for the interpreter; more are shed.
    max_queue: int = 16


class WorkerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    # A topic level and the MQTT user name: A-Z a-z 0-9 . _ -
    id: str = msgspec.field(default_factory=_host_name)
    root: str = DEFAULT_ROOT
    broker: BrokerConfig = BrokerConfig()
    store: StoreConfig = StoreConfig()
    run: RunConfig = RunConfig()
    # Profiles; by default $STATE_DIRECTORY, else ~/.local/state/cloud-worker.
    state_dir: str | None = None

    def check(self) -> None:
        """Raises ConfigError for values that cannot work."""
        check_node_id(self.id)
        check_root(self.root)
        for name, value in (("store.max_mb", self.store.max_mb),
                            ("run.threads", self.run.threads),
                            ("run.max_loaded", self.run.max_loaded),
                            ("run.max_queue", self.run.max_queue)):
            if value < 1:
                raise ConfigError(f"{name} is {value}, wanted at least 1")
