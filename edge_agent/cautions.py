"""What an agent's settings say about this host, looked up: the bundle, the source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edge_agent.config import AgentConfig
from split_core.settings.cautions import Caution


def cautions(config: AgentConfig) -> Iterator[Caution]:
    """Things that keep the agent from running here; the settings may be of another host, so they
    are warnings."""
    yield from _bundle(config.model.bundle)
    yield from _source(config)


def _bundle(path: str) -> Iterator[Caution]:
    from split_core.errors import BundleError
    from split_core.model.bundle import open_bundle

    try:
        open_bundle(path)
    except BundleError as e:
        # Most messages name the file already.
        what = f"model.bundle: {e}" if path in str(e) else f"model.bundle is {path}: {e}"
        yield "model.bundle", what, True
    except ImportError:
        return                           # without NumPy; `doctor` says so


def _source(config: AgentConfig) -> Iterator[Caution]:
    kind, path = config.source.kind, config.source.path
    if kind in ("file", "folder") or (kind == "camera" and path.startswith("/")):
        if not Path(path).exists():
            yield "source.path", f"source.path is {path}: there is no such {kind}", True
        elif not os.access(path, os.R_OK):
            yield "source.path", f"source.path is {path}, which this user may not read", True
