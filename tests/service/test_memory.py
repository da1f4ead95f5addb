"""The ceiling on memory: of recorded numbers, and of a process that really takes too much."""

from __future__ import annotations

import logging
import mmap
import os
import resource
import subprocess
import sys
import textwrap

import pytest

from split_core.errors import ConfigError, MemoryExceeded
from split_core.service.config import ServiceConfig
from split_core.service.memory import Memory

PAGE = os.sysconf("SC_PAGE_SIZE")
MB = 1 << 20


def statm(root, resident_mb: float, shared_mb: float = 0.0) -> None:
    folder = root / "proc/self"
    folder.mkdir(parents=True, exist_ok=True)
    resident, shared = (int(mb * MB) // PAGE for mb in (resident_mb, shared_mb))
    (folder / "statm").write_text(f"999999 {resident} {shared} 1 0 5000 0\n")


def events(caplog) -> list[str]:
    return [r.getMessage().split()[0].removeprefix("event=") for r in caplog.records]


def test_nothing_is_said_below_eighty_per_cent(tmp_path, caplog):
    memory = Memory(100, tmp_path)
    statm(tmp_path, 79.9)
    memory.look()
    assert memory.used_bytes == pytest.approx(79.9 * MB, abs=PAGE)
    assert not memory.is_near and not caplog.records


def test_a_warning_comes_once_until_it_was_calm(tmp_path, caplog):
    memory = Memory(100, tmp_path)
    for used_mb in (80, 95, 75, 81):
        statm(tmp_path, used_mb)
        memory.look()
    assert events(caplog) == ["memory-near"] and memory.is_near
    assert "used_mb=80 max_mb=100" in caplog.text
    for used_mb in (69, 85):
        statm(tmp_path, used_mb)
        memory.look()
    assert events(caplog) == ["memory-near"] * 2


def test_above_the_ceiling_it_says_what_was_found_and_what_to_do(tmp_path):
    memory = Memory(100, tmp_path)
    statm(tmp_path, 101)
    with pytest.raises(MemoryExceeded, match="holds 101 MB .* ceiling is 100 MB"
                                             r" \(service.memory_max_mb\)") as error:
        memory.look()
    assert error.value.exit_code == 75 and "raise the ceiling" in str(error.value)


def test_mapped_files_do_not_count(tmp_path):
    statm(tmp_path, 150, shared_mb=90)
    memory = Memory(100, tmp_path)
    memory.look()
    assert memory.used_bytes == pytest.approx(60 * MB, abs=2 * PAGE)


def test_without_a_ceiling_it_only_measures(tmp_path):
    statm(tmp_path, 5000)
    memory = Memory(0, tmp_path)
    memory.look()
    assert memory.used_bytes == pytest.approx(5000 * MB, abs=PAGE)


@pytest.mark.parametrize("text", [None, "", "1 2", "a b c"])
def test_what_cannot_be_read_is_said_once_and_keeps_no_ceiling(tmp_path, caplog, text):
    if text is not None:
        statm(tmp_path, 1)
        (tmp_path / "proc/self/statm").write_text(text)
    memory = Memory(100, tmp_path)
    with caplog.at_level(logging.WARNING):
        memory.look()
        memory.look()
    assert memory.used_bytes is None and events(caplog) == ["memory-unknown"]


def test_this_process_is_measured_as_it_is(tmp_path):
    memory = Memory(0)
    memory.look()
    before = memory.used_bytes
    assert 0 < before <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with mmap.mmap(-1, 64 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        block.write(b"x" * (64 * MB))
        memory.look()
        assert memory.used_bytes - before == pytest.approx(64 * MB, rel=0.2)


@pytest.mark.parametrize("mb, fine", [(0, True), (64, True), (512, True), (63, False), (-1, False),
                                      (1 << 21, False)])
def test_a_ceiling_is_a_sensible_one(mb, fine):
    config = ServiceConfig(memory_max_mb=mb)
    if fine:
        config.check()
    else:
        with pytest.raises(ConfigError, match=f"service.memory_max_mb is {mb}"):
            config.check()


HOG = textwrap.dedent("""
    import sys, threading
    from split_core import logs
    from split_core.program import run_command
    from split_core.service.config import ServiceConfig
    from split_core.service.host import Host

    def body():
        failure, over, held = [], threading.Event(), []
        host = Host(ServiceConfig(memory_max_mb=64), status=lambda: "", stop=over.set,
                    fail=lambda e: (failure.append(e), {then}))
        with host:
            host.ready([])
            while not over.wait(0.01):
                if len(held) < 100:
                    held.append(bytearray(b"x" * (1 << 20)))     # 100 MB/s, up to 100 MB
            raise failure[0]

    logs.set_up()
    sys.exit(run_command("hog", body))
""")


def hog(then: str, last_chance_s: float = 10.0) -> subprocess.CompletedProcess:
    impatient = f"import split_core.service.host as h; h._LAST_CHANCE_S = {last_chance_s}\n"
    code = HOG.replace("{then}", then).replace("logs.set_up()", impatient + "logs.set_up()")
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True,
                          timeout=60)


def test_a_process_that_takes_too_much_ends_with_75_and_says_why():
    done = hog("over.set()")
    assert done.returncode == 75, done.stderr
    assert "event=memory-exceeded" in done.stderr and "its ceiling is 64 MB" in done.stderr
    assert "event=ending-at-once" not in done.stderr


def test_one_whose_orderly_end_hangs_ends_all_the_same():
    done = hog("None", last_chance_s=0.5)
    assert done.returncode == 75, done.stderr
    assert "event=ending-at-once" in done.stderr
