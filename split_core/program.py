"""How a command ends: errors of ours become one line and their exit code."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

from split_core.errors import SplitError, UsageError

EX_SOFTWARE = 70
EX_INTERRUPTED = 130


def run_command(program: str, body: Callable[[], int | None]) -> int:
    """Run ``body``; its exit code, or that of the error it raised."""
    try:
        return body() or 0
    except UsageError as e:
        print(f"{program}: {e}\n(see `{program} --help`)", file=sys.stderr)
        return e.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing is wrong with us.
        sys.stderr.close()
        return 0
    except SplitError as e:
        print(f"{program}: {e}", file=sys.stderr)
        return e.exit_code
    except Exception as e:
        # A fault of ours: one line for the operator, the rest for the bug report.
        logging.getLogger(__name__).debug("event=bug", exc_info=True)
        print(f"{program}: internal error: {type(e).__name__}: {e} (-v shows where)",
              file=sys.stderr)
        return EX_SOFTWARE
    except KeyboardInterrupt:
        return EX_INTERRUPTED


def on_stop_signals(stop: Callable[[], None]) -> None:
    """Call ``stop`` on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())
