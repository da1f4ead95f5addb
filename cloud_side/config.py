"""The worker's settings: one TOML file, or flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from cloud_side.web.config import StatusConfig
from split_core.config import BrokerConfig, host_name
from split_core.crypto.config import SealConfig
from split_core.errors import ConfigError
from split_core.service.config import ServiceConfig
from split_core.tracing import TraceConfig
from split_core.settings.layers import load_settings
from split_core.wire.topics import DEFAULT_ROOT, check_node_id, check_root


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where bundles are kept."""

    # A folder, which is made.
    path: str = "/var/lib/cloud-worker/bundles"
    # Least recently used bundles go first above this.
    max_mb: int = 4096
    # False: only bundles that are in the store already are served.
    accept_from_devices: bool = True
    # False: devices do not get bundles from here, so that models cannot be updated through it.
    give_to_devices: bool = True


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tails run."""

    # "litert" or "tflite-runtime"; by default the better one that is installed.
    runtime: Literal["litert", "tflite-runtime"] | None = None
    # Of the interpreter.
    threads: int = 1
    # Bundles held in memory at once.
    max_loaded: int = 8
    # Frames waiting for the interpreter; more are shed.
    max_queue: int = 16


class WorkerServiceConfig(ServiceConfig, frozen=True, forbid_unknown_fields=True):
    """How the daemon lives on its host."""

    # As of the agent. Eight loaded bundles of 100 MB with their tensors take 2 GB.
    memory_max_mb: int = 4096


class WorkerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    # A topic level and the MQTT user name: A-Z a-z 0-9 . _ -
    id: str = msgspec.field(default_factory=host_name)
    # What all topics begin with; the same for devices and workers that are to meet.
    root: str = DEFAULT_ROOT
    broker: BrokerConfig = BrokerConfig()
    seal: SealConfig = SealConfig()
    store: StoreConfig = StoreConfig()
    run: RunConfig = RunConfig()
    status: StatusConfig = StatusConfig()
    trace: TraceConfig = TraceConfig()
    service: WorkerServiceConfig = WorkerServiceConfig()
    # Profiles; by default $STATE_DIRECTORY, else ~/.local/state/cloud-worker.
    state_dir: str | None = None

    def check(self) -> None:
        """Raises ConfigError for values that cannot work."""
        check_node_id(self.id)
        check_root(self.root)
        self.status.check()
        self.trace.check()
        self.service.check()
        for name, value in (("store.max_mb", self.store.max_mb),
                            ("run.threads", self.run.threads),
                            ("run.max_loaded", self.run.max_loaded),
                            ("run.max_queue", self.run.max_queue)):
            if value < 1:
                raise ConfigError(f"{name} is {value}, wanted at least 1")


def load_config(path: str | None, flags: Mapping[str, tuple[str, Any]] | None = None,
                ) -> WorkerConfig:
    """The settings in force: a file, `conf.d` beside it, the environment, flags as
    {"broker.url": ("--broker", value)}. Raises ConfigError that says all that is wrong."""
    return load_settings(path, WorkerConfig, "cloud-worker", flags=flags).config
