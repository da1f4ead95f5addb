"""A daemon's dealings with its host: signals, readiness, watchdog, memory, reload, status line.

    notifier = Notifier.of_environment()
    with starting(notifier):
        agent = EdgeAgent(config)            # where that takes long, too
    host = Host(config.service, status=..., fail=agent.fail, stop=agent.request_stop, apply=...,
                notifier=notifier)
    with host:
        with starting(notifier):
            agent.start()
        host.ready([Watch(...), ...])
        agent.wait()
        host.stopping()
        agent.stop()

Whoever starts it need not be systemd: without its sockets and variables, memory, reload and the
signals work all the same.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from split_core import logs
from split_core.errors import MemoryExceeded
from split_core.program import on_signals
from split_core.service.config import ServiceConfig
from split_core.service.memory import Memory
from split_core.service.notify import Notifier
from split_core.service.reload import Reloader
from split_core.service.watchdog import Watch, Watchdog, watchdog_s

_log = logging.getLogger(__name__)
# How often memory is looked at. A leak of 100 MB/s, which is a fast one, overshoots by as much.
_LOOK_S = 1.0
STATUS_S = 5.0
# While a model loads systemd is asked this often for so much more time.
_EXTEND_EVERY_S, _EXTEND_S = 5.0, 30.0
# After the ceiling is passed, an orderly end may take so long; then the process ends as it is.
_LAST_CHANCE_S = 10.0


class Host:
    """Everything that a daemon owes its host. Used once.

    ``status()`` makes the line that `systemctl status` shows; ``fail(error)`` ends the daemon
    with that error, ``stop()`` without; ``apply`` is the `Reloader`'s.
    """

    def __init__(self, config: ServiceConfig, *, status: Callable[[], str],
                 fail: Callable[[BaseException], None], stop: Callable[[], None],
                 apply: Callable[[], tuple[str, ...]] | None = None,
                 notifier: Notifier | None = None):
        self.notifier = notifier or Notifier.of_environment()
        self.memory = Memory(config.memory_max_mb)
        self.reloader = Reloader(apply, self.notifier)
        self.watchdog: Watchdog | None = None
        self._status, self._fail, self._stop = status, fail, stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)

    def __enter__(self) -> Host:
        # systemd's watchdog ends a process by SIGABRT: where each thread was goes to the log.
        faulthandler.enable()
        # A reload that is asked for before the end of the start is served then.
        on_signals(stop=self._stop, reload=self.reloader.request)
        return self

    def __exit__(self, _kind, error: BaseException | None, _traceback) -> None:
        self._over.set()
        if error is not None:
            self.notifier.status(f"ended: {error or type(error).__name__}")
        self.reloader.stop()
        if self.watchdog is not None:
            self.watchdog.stop()

    def use(self, config: ServiceConfig) -> None:
        """Other settings are in force."""
        self.memory.max_bytes = config.memory_max_mb << 20

    def ready(self, watches: Sequence[Watch]) -> None:
        """The model is loaded and the threads run: say so, and watch them from here on."""
        self.notifier.ready()
        limit_s = watchdog_s()
        if limit_s is not None:
            self.watchdog = Watchdog(watches, self.notifier, limit_s)
            self.watchdog.start()
        self.reloader.start()
        self._thread.start()

    def stopping(self) -> None:
        """The end has begun: systemd's time for it runs, and nothing is reloaded any more."""
        self.reloader.stop()
        self.notifier.stopping()

    def troubles(self) -> list[str]:
        """What an operator should know that the daemon's own status does not say."""
        found = []
        if self.watchdog is not None:
            found += [f"{name} stands still" for name in self.watchdog.standing_still]
        if self.reloader.trouble:
            found.append(f"reload refused, settings from before in force: {self.reloader.trouble}")
        elif self.reloader.restart_needed:
            found.append(f"restart for new {', '.join(self.reloader.restart_needed)}")
        if self.memory.is_near:
            found.append(f"memory {self.memory.used_bytes >> 20} of"
                         f" {self.memory.max_bytes >> 20} MB")
        return found

    def _run(self) -> None:
        try:
            next_status_s = 0.0
            while not self._over.wait(_LOOK_S):
                self.memory.look()
                now_s = time.monotonic()
                if now_s >= next_status_s:
                    next_status_s = now_s + STATUS_S
                    self.notifier.status(self._status_line())
                    logs.say_repeats()
        except MemoryExceeded as e:
            self._end_by(e)
        except BaseException as e:  # a thread that dies takes the process with it, loudly
            self._fail(e)

    def _status_line(self) -> str:
        try:
            return "; ".join([self._status(), *self.troubles()])
        except Exception as e:  # a line of text is not worth the daemon
            _log.exception("event=bug note=no status line")
            return f"running; no status line: {type(e).__name__}: {e}"

    def _end_by(self, error: MemoryExceeded) -> None:
        _log.critical("event=memory-exceeded what=%r", str(error))
        self.notifier.status(str(error))
        self._fail(error)
        if not self._over.wait(_LAST_CHANCE_S):
            _log.critical("event=ending-at-once note=the orderly end took more than %.0f s",
                          _LAST_CHANCE_S)
            logging.shutdown()
            os._exit(error.exit_code)


@contextlib.contextmanager
def starting(notifier: Notifier) -> Iterator[None]:
    """While a model is loaded, tried or measured, however long that takes."""
    done = threading.Event()

    def extend() -> None:
        begin_s = time.monotonic()
        while not done.wait(_EXTEND_EVERY_S):
            notifier.more_time(_EXTEND_S)
            notifier.status(f"loading for {time.monotonic() - begin_s:.0f} s")

    notifier.status("loading")
    thread = threading.Thread(target=extend, name="starting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def enter_parts(stack: contextlib.ExitStack, parts: Iterable, attach: Callable) -> None:
    """Attach every part of a daemon, and enter those that have an end."""
    for part in parts:
        attach(part)
        if isinstance(part, contextlib.AbstractContextManager):
            stack.enter_context(part)
