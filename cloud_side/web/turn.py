"""Which of several workers on a machine has the status page.

All have one address unless they are told otherwise. The first that listens there has the page,
and its page shows the others too; they wait, and when it ends another takes the page over.
"""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Callable

from cloud_side.observers.base import WorkerObserver
from split_core.errors import ConfigError
from split_core.listen import parse_listen
from split_core.webserver import SERVER_NAME

_log = logging.getLogger(__name__)
# A page that is gone for so long is hardly missed.
RETRY_S = 5.0
# For the one that has the address to answer; it may be loading a model.
_ASK_TIMEOUT_S = 5.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class PageTurn(WorkerObserver):
    """Waits for an address as long as it is entered. ``open_page`` makes the page, attaches it and
    all it takes, and raises ConfigError while the address cannot be had."""

    def __init__(self, listen: str, refused: ConfigError, open_page: Callable,
                 retry_s: float = RETRY_S):
        self._listen, self._refused, self._open_page = listen, refused, open_page
        self._retry_s, self._over = retry_s, threading.Event()
        self._thread = threading.Thread(target=self._run, name="page turn", daemon=True)

    def __enter__(self) -> PageTurn:
        self._thread.start()
        return self

    def __exit__(self, *_exc) -> None:
        self._over.set()
        self._thread.join(2.0)               # it may be asking; then it ends with the process

    def _run(self) -> None:
        if is_of_a_worker(self._listen):
            _log.info("event=status-page-elsewhere listen=%s note='another worker has the page,"
                      " which shows the workers of its broker; this one takes it over when that"
                      " one ends. For a page and /metrics of its own: another port in"
                      " status.listen'", self._listen)
        else:
            _log.warning("event=status-page-off reason=%r note='another program has the address,"
                         " or there is none such; set status.listen. It is tried again'",
                         str(self._refused))
        while not self._over.wait(self._retry_s):
            try:
                page = self._open_page()
            except ConfigError:
                continue
            with page:
                self._over.wait()
            return


def is_of_a_worker(listen: str) -> bool:
    """Whether what answers there is the page of a worker."""
    host, port = parse_listen(listen, "status.listen")
    connection = http.client.HTTPConnection(_ANY.get(host, host), port, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request("HEAD", "/fleet.json")
        reply = connection.getresponse()
        return reply.status == 200 and reply.getheader("Server") == SERVER_NAME
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
