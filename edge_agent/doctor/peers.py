"""Is there a worker that would take this device's frames?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge_agent.config import AgentConfig
from split_core.doctor.findings import Finding, ok, warn
from split_core.errors import SplitError
from split_core.wire.topics import Topics


def check_worker(config: AgentConfig, statuses: Mapping[str, Mapping[str, Any]],
                 ) -> Iterator[Finding]:
    """``statuses`` are the workers' retained ones by topic."""
    topics = Topics(config.root)
    ready = {worker[0]: status for topic, status in statuses.items()
             if (worker := topics.parse_worker_up(topic)) and status.get("state") == "ready"}
    allowed = {w: s for w, s in ready.items() if _may_ask(config, w)}
    if not ready:
        yield warn("worker", f"none is connected below {config.root}/_pool: every answer is made"
                   " here", "start one (cloud-worker run, or systemctl start cloud-worker@w1) with"
                   " the same broker and root; if one runs, the broker's access rules keep this"
                   f" device from reading {config.root}/_pool/+/up/#, or the worker from writing"
                   " there")
        return
    if not allowed:
        yield warn("worker", f"{', '.join(sorted(ready))} may not be asked (policy.trusted_workers,"
                   " plan.worker)", "name one of them there, or start the one that is named")
        return
    bundle = _bundle_id(config)
    holding = sorted(w for w, s in allowed.items() if bundle in s.get("bundles", ()))
    if holding:
        yield ok("worker", f"{', '.join(holding)} {'hold' if len(holding) > 1 else 'holds'} this"
                 " bundle")
    elif bundle is not None:
        yield ok("worker", f"{', '.join(sorted(allowed))}; the bundle is fetched from this device"
                 " before the first frame")


def _may_ask(config: AgentConfig, worker: str) -> bool:
    trusted = config.policy.trusted_workers
    return (trusted is None or worker in trusted) and config.plan.worker in (None, worker)


def _bundle_id(config: AgentConfig) -> str | None:
    from split_core.model.bundle import open_bundle

    try:
        return open_bundle(config.model.bundle).id_hex
    except SplitError:
        return None                      # said by the check of the bundle
