"""Which settings of a worker can change while it runs, and which take a restart. Pure."""

from __future__ import annotations

import msgspec

from cloud_side.config import WorkerConfig
from split_core.settings.changed import changed_keys


def changes(old: WorkerConfig, new: WorkerConfig) -> tuple[WorkerConfig, tuple[str, ...]]:
    """The settings that can be in force now, and the keys of ``new`` that would take a
    restart. [service] is for the daemon, which takes all of it as it runs."""
    config = msgspec.structs.replace(
        old, service=new.service,
        run=msgspec.structs.replace(old.run, max_queue=new.run.max_queue,
                                    max_loaded=new.run.max_loaded),
        store=msgspec.structs.replace(old.store, max_mb=new.store.max_mb,
                                      accept_from_devices=new.store.accept_from_devices,
                                      give_to_devices=new.store.give_to_devices))
    return config, changed_keys(config, new)
