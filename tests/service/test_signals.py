"""Signals do their work outside the handler, which may interrupt anything."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

PROGRAM = textwrap.dedent("""
    import os, signal, sys, threading
    from split_core.program import on_signals

    # As a Condition's: taken by the main thread when the signal comes, and wanted by what it does.
    lock, stopped, reloaded = threading.Lock(), threading.Event(), threading.Event()

    def stop():
        with lock:
            stopped.set()

    def reload():
        with lock:
            reloaded.set()

    on_signals(stop, reload)
    with lock:
        print("ready", flush=True)
        os.kill(os.getpid(), signal.SIGHUP)
        for _ in range(200000):           # the handler runs somewhere in here, under the lock
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(200000):
            pass
    sys.exit(0 if reloaded.wait(5) and stopped.wait(5) else 3)
""")


def test_a_signal_that_comes_under_the_lock_it_needs_is_no_deadlock():
    done = subprocess.run([sys.executable, "-c", PROGRAM], timeout=30, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_wait_of_the_main_thread_ends_with_the_signal():
    code = textwrap.dedent("""
        import threading
        from split_core.program import on_signals
        stopped = threading.Event()
        on_signals(stopped.set)
        print("ready", flush=True)
        stopped.wait()
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            began_s = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0 and time.monotonic() - began_s < 5
        finally:
            process.kill()


def test_a_signal_that_another_thread_got_is_served_all_the_same():
    code = textwrap.dedent("""
        import signal, sys, threading, time
        from split_core.program import on_signals
        stopped, reloaded = threading.Event(), threading.Event()
        on_signals(stopped.set, reloaded.set)

        def pass_on():
            # As if the kernel had chosen this thread; the main thread waits and is not woken.
            time.sleep(0.3)
            signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
            if reloaded.wait(5):
                signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

        threading.Thread(target=pass_on, daemon=True).start()
        stopped.wait()
    """)
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 0
