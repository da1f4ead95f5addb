"""`cloud-worker run`: a worker, what watches it, and what it owes the host."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from cloud_side.config import WorkerConfig
from cloud_side.observers.base import WorkerObserver
from cloud_side.observers.frame_log import FrameLog
from cloud_side.observers.tracing import tracing_parts
from cloud_side.web.status import status_parts
from cloud_side.worker import CloudWorker
from split_core import logs
from split_core.service.host import Host, enter_parts, starting
from split_core.service.watchdog import Watch, watch_calls

_log = logging.getLogger(__name__)
_LOOK_S = 0.1


class Daemon:
    """What the parts of a running daemon may use."""

    def __init__(self, config: WorkerConfig, load: Callable[[], WorkerConfig] | None,
                 set_up_logs: Callable[[WorkerConfig], None]):
        self._load, self._set_up_logs = load, set_up_logs
        self.worker = CloudWorker(config)
        self._counted = (time.monotonic(), 0, 0)
        self.host = Host(config.service, status=self._status, fail=self.worker.fail,
                         stop=self.worker.request_stop, apply=load and self._apply)

    def watches(self) -> list[Watch]:
        """The threads that have to move."""
        tail = self.worker.tail
        return [Watch("tail", tail.poke, lambda: tail.turns),
                watch_calls("network", self.worker.node.session.call_soon)]

    def wait_until_loaded(self) -> None:
        """Until what the store holds is in memory and measured, or the worker is to stop."""
        while self.worker.glance().loading and not self.worker.stopping.wait(_LOOK_S):
            pass

    def _apply(self) -> tuple[str, ...]:
        config = self._load()
        left = self.worker.reconfigure(config)
        self.host.use(config.service)
        self._set_up_logs(config)
        return left

    def _status(self) -> str:
        """`3 bundles, 12.1/s, 0 wait`, and before it what is wrong."""
        worker, now_s = self.worker, time.monotonic()
        glance, counts = worker.glance(), worker.counts
        results, refused = counts["results"], counts["refused"]
        then_s, results_then, refused_then = self._counted
        self._counted = now_s, results, refused
        span_s = max(now_s - then_s, 1e-3)
        words = []
        if not glance.connected:
            words.append(f"no broker ({glance.trouble})" if glance.trouble else "no broker")
        if glance.loading:
            words.append("loading a bundle")
        if glance.unfit:
            words.append(f"{glance.unfit} bundles cannot run here")
        served, turned = (results - results_then) / span_s, (refused - refused_then) / span_s
        line = (f"{len(glance.models)} bundles in memory, {served:.1f}/s,"
                f" {glance.queued} of {glance.queue_size} wait")
        if turned:
            line += f", {turned:.1f}/s turned away"
        return "; ".join([*words, line])


def compose(daemon: Daemon) -> list[WorkerObserver]:
    """Everything that sees what the worker does. Parts that have an end are context managers:
    entered before the worker starts, left after it has stopped."""
    worker = daemon.worker
    return [
        FrameLog(),
        *tracing_parts(worker.config),
        *status_parts(worker),
    ]


def run_worker(config: WorkerConfig, *, load: Callable[[], WorkerConfig] | None = None,
               verbose: bool = False, log_format: logs.Format | None = None) -> None:
    """Run until a signal or a failure, which is raised. ``load`` reads the settings anew for a
    reload; ``log_format`` and ``verbose`` go before what they say."""
    def set_up_logs(config: WorkerConfig) -> None:
        logs.set_up(verbose, log_format or config.service.log_format, config.service.log_level)

    set_up_logs(config)
    daemon = Daemon(config, load, set_up_logs)
    worker, host = daemon.worker, daemon.host
    with contextlib.ExitStack() as stack:
        stack.enter_context(host)
        enter_parts(stack, compose(daemon), worker.attach)
        with starting(host.notifier):
            worker.start()
            daemon.wait_until_loaded()
        try:
            if not worker.stopping.is_set():      # or a thread has died while it loaded
                host.ready(daemon.watches())
            worker.wait()
        finally:
            host.stopping()
            worker.stop()
    _log.info("event=stopped %s", " ".join(f"{k}={v}" for k, v in worker.counts.items()))
