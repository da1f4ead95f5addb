"""What the worker serves over HTTP: the page, its data, metrics, and whether it is well.

    /              the page                 /fleet.json    the same as data
    /live          server-sent events       /history.json  ?device=NAME, the last hour of one
    /metrics       for Prometheus           /healthz       its threads run
                                            /readyz        connected, and nothing is being loaded
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from importlib import resources

import msgspec

from cloud_side.observers.base import WorkerObserver
from cloud_side.web.config import StatusConfig
from cloud_side.web.turn import PageTurn
from cloud_side.web.watch import FleetWatch
from cloud_side.worker import CloudWorker
from split_core.errors import ConfigError
from split_core.listen import parse_listen
from split_core.webserver import JSON, TEXT, Reply, Stream, WebServer

_log = logging.getLogger(__name__)
_FILES = {"/": ("page.html", "text/html; charset=utf-8"),
          "/page.css": ("page.css", "text/css; charset=utf-8"),
          "/page.js": ("page.js", "text/javascript; charset=utf-8"),
          "/plots.js": ("plots.js", "text/javascript; charset=utf-8")}
# What people can follow; many viewers share what was made for one.
_PERIOD_S, _SHARED_S = 2.0, 0.9


class StatusPage(WorkerObserver):
    """The worker's HTTP server, while it is entered."""

    def __init__(self, worker: CloudWorker, watch: FleetWatch, server: WebServer,
                 render_metrics: Callable[[], bytes] | None = None):
        self._worker, self._watch, self._render_metrics = worker, watch, render_metrics
        self._stopped = threading.Event()
        self._lock, self._made, self._made_s = threading.Lock(), b"", float("-inf")
        files = {path: self._file(*named) for path, named in _FILES.items()}
        self.server = server
        server.routes.update(files | {
            "/fleet.json": lambda query: Reply(self._snapshot(), JSON),
            "/history.json": self._history, "/live": lambda query: Stream(self._live()),
            "/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz,
        })

    @property
    def url(self) -> str:
        return self.server.url

    def __enter__(self) -> StatusPage:
        self.server.start()
        _log.info("event=status-page url=%s", self.url)
        return self

    def __exit__(self, *_exc) -> None:
        self._stopped.set()
        self.server.stop()

    @staticmethod
    def _file(name: str, content_type: str) -> Callable[[dict], Reply]:
        reply = Reply(resources.files("cloud_side.web").joinpath(name).read_bytes(), content_type)
        return lambda query: reply

    def _snapshot(self) -> bytes:
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._made_s > _SHARED_S:
                self._made = msgspec.json.encode(self._watch.snapshot())
                self._made_s = now_s
            return self._made

    def _live(self) -> Iterator[bytes]:
        # Browsers come again after this when we are gone.
        yield b"retry: 2000\n\n"
        while not self._stopped.is_set():
            yield b"event: fleet\ndata: " + self._snapshot() + b"\n\n"
            self._stopped.wait(_PERIOD_S)

    def _history(self, query: dict[str, str]) -> Reply:
        history = self._watch.history(query.get("device", ""))
        if history is None:
            return Reply(b"no such device\n", status=404)
        return Reply(msgspec.json.encode(history), JSON)

    def _metrics(self, query: dict[str, str]) -> Reply:
        if self._render_metrics is None:
            return Reply(b"metrics need the package prometheus-client: install"
                         b" edge-agent[metrics]\n", status=501)
        from split_core.metrics import Metrics

        return Reply(self._render_metrics(), Metrics.content_type)

    def _healthz(self, query: dict[str, str]) -> Reply:
        dead = self._worker.glance().dead_threads
        if dead:
            return Reply(f"thread not running: {', '.join(dead)}\n".encode(), TEXT, 503)
        return Reply(b"ok\n")

    def _readyz(self, query: dict[str, str]) -> Reply:
        glance = self._worker.glance()
        wrong = [f"thread not running: {name}" for name in glance.dead_threads]
        if not glance.connected:
            wrong.append(f"no connection to the broker: {glance.trouble or 'connecting'}")
        if glance.loading:
            wrong.append("a bundle is being loaded")
        if wrong:
            return Reply("".join(f"{w}\n" for w in wrong).encode("utf-8", "replace"), TEXT, 503)
        return Reply(b"ready\n")


def status_parts(worker: CloudWorker) -> list[WorkerObserver]:
    """What the page as configured takes, to be attached to the worker before it starts; the last
    of it is to be entered: the server or, where another has its address, what waits for that. A
    worker without a page serves frames all the same."""
    config = worker.config.status
    if not config.listen:
        return []
    try:
        server = _listen(config)
    except ConfigError as e:
        return [PageTurn(config.listen, e, lambda: _open_late(worker))]
    *others, page = _parts(worker, server)
    others[0].subscribe()                    # said to the broker once the worker starts
    return [*others, page]


def _listen(config: StatusConfig) -> WebServer:
    return WebServer(parse_listen(config.listen, "status.listen"), {})


def _parts(worker: CloudWorker, server: WebServer) -> list[WorkerObserver]:
    from split_core import metrics

    watch, render = FleetWatch(worker, worker.config.status), None
    parts: list[WorkerObserver] = [watch]
    if metrics.available():
        from cloud_side.observers.metrics import WorkerMetrics

        parts.append(counted := WorkerMetrics(worker, watch))
        render = counted.render
    return [*parts, StatusPage(worker, watch, server, render)]


def _open_late(worker: CloudWorker) -> StatusPage:
    """The page of a worker that runs already. Raises ConfigError while its address is taken."""
    *others, page = _parts(worker, _listen(worker.config.status))
    for part in (*others, page):
        worker.attach(part)
    others[0].subscribe()                    # attached before, so that no retained record is lost
    return page
