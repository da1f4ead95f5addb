"""TFLite's greeting, kept out of standard error.

Both runtimes write `INFO: Created TensorFlow Lite XNNPACK delegate for CPU.` to file descriptor 2
as the first interpreter of a process is allocated, and neither can be asked from Python not to. In
a journal that is a line without a priority, and in a command's output one that nobody asked for.

So the first interpreter is one of ours, on a model of one op, and while it is made (1 to 3 ms on
x86-64) descriptor 2 leads into a file in memory. What came there but for that line is passed on
at once: other threads may have written, too. No model of a user's is loaded meanwhile, so nothing
that TFLite has to say of one can be lost; only what a child process started by another thread in
just these milliseconds writes there is.
"""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from collections.abc import Callable, Iterator

GREETING = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
# A float32 of one value through RELU; tests/model/test_quiet.py makes the same bytes.
ONE_OP = base64.b64decode(
    "GAAAAFRGTDMAAA4AGAAUABAADAAIAAQADgAAAPwAAAAQAAAAGAAAAMwAAAADAAAABAAAAHRpbnkAAAAAAQAAABAA"
    "AAAMABQAEAAMAAgABAAMAAAAIAAAAAwAAAAQAAAARAAAAAEAAAABAAAAAQAAAAAAAAABAAAAEAAAAAAACgAMAAAA"
    "CAAEAAoAAAAIAAAADAAAAAEAAAABAAAAAQAAAAAAAAACAAAAMAAAAAQAAADk////CAAAAAwAAAABAAAAYgAAAAEA"
    "AAABAAAADAAMAAgAAAAAAAQADAAAAAgAAAAMAAAAAQAAAGEAAAABAAAAAQAAAAEAAAAQAAAADAAQAA8AAAAIAAQA"
    "DAAAABMAAAABAAAAAAAAEwEAAAAIAAAABAAEAAQAAAA=")
_STDERR = 2

_lock = threading.Lock()
_greeted: set[str] = set()


def greet(runtime: str, allocate: Callable[[bytes], object]) -> None:
    """Have ``runtime`` say its greeting to nobody, once a process. ``allocate`` makes an
    interpreter of a model's bytes; where that fails, the model to come will say why."""
    with _lock:
        if runtime in _greeted:
            return
        _greeted.add(runtime)
        with _without_greeting(), contextlib.suppress(ValueError, RuntimeError):
            allocate(ONE_OP)


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            memory = os.memfd_create("stderr", os.MFD_CLOEXEC)
            stack.callback(os.close, memory)
            usual = os.dup(_STDERR)
            stack.callback(os.close, usual)
            os.dup2(memory, _STDERR)
        except (OSError, AttributeError):    # closed, or not Linux: then it says what it says
            yield
            return
        try:
            yield
        finally:
            os.dup2(usual, _STDERR)
            _pass_on(memory)


def _pass_on(memory: int) -> None:
    os.lseek(memory, 0, os.SEEK_SET)
    with open(memory, "rb", closefd=False) as file, contextlib.suppress(OSError):
        for line in file:
            if line != GREETING:
                os.write(_STDERR, line)
