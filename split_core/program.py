"""How a command ends: errors of ours become one line and their exit code; and what signals do."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

from split_core import logs
from split_core.errors import SplitError, UsageError

EX_SOFTWARE = 70
EX_IOERR = 74
EX_NOPERM = 77
EX_INTERRUPTED = 130


def run_command(program: str, body: Callable[[], int | None], called: str | None = None) -> int:
    """Run ``body``; its exit code, or that of the error it raised. ``called`` is what has the help
    to look into: `edge-agent split`."""
    try:
        code = body() or 0
        # Here, where what goes wrong can be said: at the end of the interpreter it would be a
        # traceback and its own exit code.
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
        return code
    except UsageError as e:
        print(f"{program}: {e}\n(see `{called or program} --help`)", file=sys.stderr)
        return e.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing is wrong with us.
        _forget_output()
        return 0
    except SplitError as e:
        logs.say_last(program, str(e))
        return e.exit_code
    except OSError as e:
        # One that nobody expected where it happened: a full disk, a device that failed.
        logging.getLogger(__name__).debug("event=system-error", exc_info=True)
        logs.say_last(program, f"the system refused: {e}")
        _forget_output()
        return EX_NOPERM if isinstance(e, PermissionError) else EX_IOERR
    except Exception as e:
        # A fault of ours: one line for the operator, the rest for the bug report. A log that
        # nobody watches has to have both at once.
        level = logging.ERROR if logs.for_machines() else logging.DEBUG
        logging.getLogger(__name__).log(level, "event=bug", exc_info=True)
        hint = "" if logs.for_machines() else " (-v shows where)"
        logs.say_last(program, f"internal error: {type(e).__name__}: {e}{hint}")
        return EX_SOFTWARE
    except KeyboardInterrupt:
        return EX_INTERRUPTED


def _forget_output() -> None:
    """What is left of our output has nowhere to go, and the interpreter tries again as it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):   # there may be none
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def on_signals(stop: Callable[[], None], reload: Callable[[], None] | None = None) -> None:
    """Call ``stop`` on SIGTERM and SIGINT, and ``reload`` on SIGHUP, on a thread of their own. On
    the main thread.

    Python runs handlers on the main thread alone, between two of its instructions: it may hold the
    very lock that ``stop`` wants then, or wait for what only ``stop`` sets off, and the kernel may
    have woken another thread for the signal (of 25 signals to a waiting agent one or two were seen
    to be left lying that way). The number of a signal, though, is written into a pipe at once,
    whichever thread it came to.
    """
    actions = {signal.SIGTERM: stop, signal.SIGINT: stop}
    if reload is not None:
        actions[signal.SIGHUP] = reload
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def serve() -> None:
        while True:
            for number in os.read(reader, 64):
                actions.get(number, _nothing)()

    for number in actions:
        signal.signal(number, _nothing)
    threading.Thread(target=serve, name="signals", daemon=True).start()


def hold_reload() -> Callable[[], bool]:
    """Until `on_signals` serves it a SIGHUP ends nothing; returns whether one has come. On the main
    thread. (Blocked, it would still reach the threads that NumPy has begun.)"""
    came = []                            # no Event: a handler must take no lock
    signal.signal(signal.SIGHUP, lambda *_args: came.append(True))
    return lambda: bool(came)


def _nothing(*_args) -> None:
    pass
