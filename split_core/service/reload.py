"""Other settings for a running daemon: read, checked and put into force, or refused as a whole.

On a thread of its own: reading a model takes seconds, and a signal handler may do nothing. What
is refused changes nothing, least of all the exit code; it is said in the log and in the status
line until a reload succeeds.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from split_core.errors import ConfigError, SplitError
from split_core.service.notify import Notifier

_log = logging.getLogger(__name__)


class Reloader:
    """``apply()`` reads settings and puts them into force, all or nothing, and returns the keys
    that differ but need a restart. None: there is no file to read."""

    def __init__(self, apply: Callable[[], tuple[str, ...]] | None, notifier: Notifier):
        self._apply, self._notifier = apply, notifier
        self._turn = threading.Lock()
        # Why the last reload was refused; "" once one has succeeded.
        self.trouble = ""
        # Keys that another start would take from the file.
        self.restart_needed: tuple[str, ...] = ()
        self._requests: queue.Queue[bool] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """From here on `request` is served; what was asked before, too."""
        self._thread.start()

    def stop(self) -> None:
        self._requests.put(False)

    def request(self) -> None:
        """Reload soon; the log says what came of it."""
        self._requests.put(True)

    def now(self) -> tuple[str, ...]:
        """Reload here and return the keys that need a restart. Raises what is wrong, which has
        been logged; nothing has changed then. Blocks while a model is loaded."""
        with self._turn:
            self._notifier.reloading()
            try:
                if self._apply is None:
                    raise ConfigError("there is no file to read: this process was started with"
                                      " flags only")
                self.restart_needed = self._apply()
            except SplitError as e:
                self._refuse(str(e))
                raise
            except Exception as e:
                _log.exception("event=bug note=while other settings were put into force")
                self._refuse(f"internal error: {type(e).__name__}: {e}")
                raise
            else:
                self.trouble = ""
                _log.info("event=reloaded restart_needed_for=%s",
                          ",".join(self.restart_needed) or "nothing")
            finally:
                # systemd waits for this whatever came of it.
                self._notifier.ready()
        return self.restart_needed

    def _refuse(self, why: str) -> None:
        self.trouble = why
        _log.error("event=reload-refused what=%r note=the settings from before stay in force", why)

    def _run(self) -> None:
        while self._requests.get():
            while not self._requests.empty():        # one answer for several that waited
                if not self._requests.get():
                    return
            try:
                self.now()
            except Exception:  # said by `now`; this thread serves the next one
                continue
