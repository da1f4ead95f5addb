"""Journals: whole lines, a bound, and a disk that is full."""

from __future__ import annotations

import json
import os
import resource
import threading

import msgspec
import pytest

from edge_agent.journal import Journal, predecessor
from split_core.errors import ConfigError
from tests.support.full_disk import at_most


class Header(msgspec.Struct):
    begins: int


def lines(path) -> list[dict]:
    data = path.read_bytes()
    assert not data or data.endswith(b"\n"), "a piece of a line"
    return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def made():
    journals = []

    def make(*args, **kwargs) -> Journal:
        journals.append(Journal(*args, **kwargs))
        return journals[-1]

    yield make
    for journal in journals:
        journal.close()


def test_records_are_appended_to_what_is_there(made, tmp_path):
    path = tmp_path / "j"
    for i in range(2):
        journal = made(path)
        journal.write({"i": i})
        journal.close()
        journal.write({"i": "after the end"})
    assert lines(path) == [{"i": 0}, {"i": 1}]


def test_it_grows_to_its_bound_and_has_one_predecessor(made, tmp_path):
    path = tmp_path / "j"
    journal = made(path, max_bytes=100)        # ten lines of ten bytes
    for i in range(35):
        journal.write({"i": 100 + i})
    assert [e["i"] for e in lines(predecessor(path))] == list(range(120, 130))
    assert [e["i"] for e in lines(path)] == list(range(130, 135))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["j", "j.1"]
    journal.close()
    journal = made(path, max_bytes=100)        # goes on where it was
    for i in range(6):
        journal.write({"i": 200 + i})
    assert len(lines(predecessor(path))) == 10 and [e["i"] for e in lines(path)] == [205]


def test_one_that_is_longer_than_the_bound_is_there_alone(made, tmp_path):
    journal = made(tmp_path / "j", max_bytes=20)
    for _ in range(2):
        journal.write({"long": "x" * 100})
        assert len(lines(tmp_path / "j")) == 1


def test_each_new_file_has_its_header(made, tmp_path):
    path, begun = tmp_path / "j", iter(range(9))
    journal = made(path, max_bytes=40, header=lambda: Header(next(begun)))
    for i in range(5):
        journal.write({"i": i})                   # 8 bytes; a header has 13
    assert lines(path) == [{"i": i} for i in range(5)], "the first is for whoever opens it"
    for i in range(5, 9):
        journal.write({"i": i})
    assert lines(predecessor(path)) == [{"begins": 0}, {"i": 5}, {"i": 6}, {"i": 7}]
    assert lines(path) == [{"begins": 1}, {"i": 8}]


def test_a_full_disk_is_told_once_and_nothing_is_cut_off(made, tmp_path, caplog):
    path = tmp_path / "j"
    journal = made(path)
    with at_most(25):
        for i in range(10):
            journal.write({"i": 100 + i})         # two fit, and half of the third
    assert lines(path) == [{"i": 100}, {"i": 101}] and journal.lost == 8
    assert caplog.text.count("event=journal-failed") == 1 and str(path) in caplog.text
    journal.write({"i": 200})                     # there is room again
    assert [e["i"] for e in lines(path)] == [100, 101, 200]


def test_behind_what_is_missing_comes_a_header(made, tmp_path):
    path = tmp_path / "j"
    journal = made(path, header=lambda: Header(7))
    journal.write({"i": 1})
    with at_most(10):
        journal.write({"i": 2})
    journal.write({"i": 3})
    journal.write({"i": 4})
    assert lines(path) == [{"i": 1}, {"begins": 7}, {"i": 3}, {"i": 4}]


def test_a_short_write_is_finished(made, tmp_path):
    class Slow:
        """Takes three bytes at a time, as a file system may."""

        def __init__(self, file):
            self._file, self.closed = file, False

        def write(self, data):
            return self._file.write(data[:3])

        def fileno(self):
            return self._file.fileno()

    journal = made(tmp_path / "j")
    file = journal._file
    journal._file = Slow(file)
    journal.write({"some": "thing"})
    journal._file = file
    assert lines(tmp_path / "j") == [{"some": "thing"}]


def test_it_cannot_be_moved_away_and_goes_on(made, tmp_path, monkeypatch, caplog):
    journal = made(tmp_path / "j", max_bytes=20)
    journal.write({"i": 100})

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        for i in range(3):
            journal.write({"i": 101 + i})
    assert journal.lost == 2 and caplog.text.count("event=journal-failed") == 1
    journal.write({"i": 200})
    assert [e["i"] for e in lines(tmp_path / "j")] == [200]


def test_threads_write_whole_lines(made, tmp_path):
    path = tmp_path / "j"
    journal = made(path, max_bytes=50_000)

    def write(name):
        for i in range(200):
            journal.write({"from": name, "i": i})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(path)) == 800


def test_a_pipe_has_no_bound(made, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    journal = made(tmp_path / "pipe", max_bytes=10)
    for i in range(5):
        journal.write({"i": i})
    assert os.read(reader, 1000).count(b"\n") == 5 and (tmp_path / "pipe").is_fifo()
    os.close(reader)
    journal.close()


def test_a_place_that_cannot_be(made, tmp_path):
    with pytest.raises(ConfigError, match="cannot write the journal"):
        made(tmp_path / "none" / "j")


def test_a_file_that_cannot_be_begun_is_counted_and_tried_again(made, tmp_path):
    """Of a process that has no descriptor left: it has one again later."""
    path = tmp_path / "j"
    journal = made(path, max_bytes=20)
    journal.write({"i": 1})
    journal.write({"i": 2})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        journal.write({"i": 3})
        journal.write({"i": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert journal.lost == 2
    journal.write({"i": 5})
    assert [e["i"] for e in lines(predecessor(path))] == [1, 2]
    assert [e["i"] for e in lines(path)] == [5]


def test_one_that_is_taken_away_is_begun_anew_at_its_bound(made, tmp_path):
    """By logrotate, or by hand. Until then it goes on where it is, as files do."""
    path, elsewhere = tmp_path / "j", tmp_path / "taken"
    journal = made(path, max_bytes=100)        # ten lines of ten bytes
    for i in range(5):
        journal.write({"i": 100 + i})
    os.rename(path, elsewhere)
    for i in range(5, 35):
        journal.write({"i": 100 + i})
    assert journal.lost == 0
    assert [e["i"] for e in lines(elsewhere) + lines(predecessor(path)) + lines(path)] == [
        *range(100, 110), *range(120, 135)]
