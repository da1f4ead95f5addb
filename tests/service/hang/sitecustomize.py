"""Test only, found through PYTHONPATH: after SIGUSR1 the thread whose name begins with $HANG
stands still for good, wherever it is next, with the locks it holds then; and $FILL_MB of memory
are held."""

import os
import signal
import threading
import time

_hangs = False


def _hang(*_) -> None:
    global _hangs
    _hangs = True


def _look(frame, _event, _argument) -> None:
    if not _hangs or not threading.current_thread().name.startswith(os.environ["HANG"]):
        return
    # But not with the log's own lock: who could say then what happened?
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("logging"):
            return
        frame = frame.f_back
    while True:
        time.sleep(3600)


if "HANG" in os.environ:
    signal.signal(signal.SIGUSR1, _hang)
    threading.setprofile(_look)

_held = bytearray(b"x") * (int(os.environ.get("FILL_MB", "0")) << 20)
