"""What a worker's settings say about this host, looked up: the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cloud_side.config import WorkerConfig
from split_core.settings.cautions import Caution


def cautions(config: WorkerConfig) -> Iterator[Caution]:
    """Things that keep the worker from running here; the settings may be of another host, so they
    are warnings."""
    folder = Path(config.store.path)
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir():
        yield "store.path", f"store.path is {folder}, but {there} is no folder", True
    elif not os.access(there, os.W_OK | os.X_OK):
        yield "store.path", f"store.path is {folder}, and this user may not write to {there}", True
