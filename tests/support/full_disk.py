"""A disk that is full, without one: no file of this process may become longer."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager


@contextmanager
def at_most(nbytes: int):
    """Files end there: what would go beyond is taken in part, or refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
