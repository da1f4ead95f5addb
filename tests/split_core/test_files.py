"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest

from split_core import files
from split_core.errors import StorageFailed, UsageError
from split_core.files import cannot_write, check_place, write_whole


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("data", [b"\x00\xffnew", "täglich\n", b"", ""])
@pytest.mark.parametrize("durable", [False, True])
def test_what_is_written_is_there_and_nothing_else(tmp_path, data, durable):
    path = tmp_path / "deep" / "er" / "x.json"
    for _ in range(2):                # there is none, and there is one
        write_whole(path, data, durable=durable)
        assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
        assert names(path.parent) == ["x.json"]


def test_who_reads_the_old_one_goes_on_reading_it(tmp_path):
    path = tmp_path / "x"
    write_whole(path, b"old" * 1000)
    with path.open("rb") as file:
        first = file.read(3)
        write_whole(path, b"new")
        assert first + file.read() == b"old" * 1000
    assert path.read_bytes() == b"new"


def test_a_place_is_looked_at_and_left_as_it_is(tmp_path):
    path = tmp_path / "deep" / "x"
    check_place(path)
    assert names(path.parent) == []
    path.write_bytes(b"old")
    check_place(path)
    assert names(path.parent) == ["x"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("place", ["file/x", "folder"])
def test_a_place_that_takes_no_file_is_told_before(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=f"cannot write .*{place}"):
        check_place(tmp_path / place)


def test_nobody_ever_sees_a_part_of_it(tmp_path):
    path, stop, seen = tmp_path / "x", threading.Event(), set()
    values = [bytes([i]) * 300_000 for i in range(2)]
    write_whole(path, values[0])

    def read():
        while not stop.is_set():
            data = path.read_bytes()
            seen.add((len(data), len(set(data))))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(100):
        write_whole(path, values[i % 2])
    stop.set()
    reader.join()
    assert seen == {(300_000, 1)}


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_failure_leaves_the_old_file_and_says_which(tmp_path, monkeypatch, failing):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(StorageFailed, match="No space left") as caught:
        write_whole(path, b"new", durable=True)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["x"]


def test_a_place_that_cannot_be_is_a_fault_that_names_it(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot write .*file/x"):
        write_whole(tmp_path / "file" / "x", b"new")


@pytest.mark.parametrize("number, code", [
    *((n, 74) for n in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG,
                        errno.ENODEV)),
    (errno.EACCES, 77), (errno.EPERM, 77),
    (errno.ENOENT, 64), (errno.ENOTDIR, 64), (errno.EISDIR, 64), (errno.ENAMETOOLONG, 64)])
def test_who_is_at_fault_follows_from_the_cause(number, code):
    error = cannot_write("/srv/x", OSError(number, os.strerror(number)))
    assert error.exit_code == code
    assert str(error).startswith(f"cannot write /srv/x: {os.strerror(number)}")
    assert "; " in str(error) or code == 64, "what to do about it"


def test_durable_bytes_are_on_the_disk_before_the_name_and_the_name_after(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(
        "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else os.fstat(fd).st_size))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *a: (done.append("replace"), replace(*a)))
    write_whole(tmp_path / "x", b"12345", durable=True)
    assert done == [5, "replace", "folder"]
    done.clear()
    write_whole(tmp_path / "x", b"12345")
    assert done == ["replace"]


def test_permissions_are_as_asked_or_as_ever(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "asked", b"", mode=0o644)
        write_whole(tmp_path / "ever", b"")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("asked", "ever")]
    assert modes == [0o644, 0o640]


def test_a_folder_can_be_settled(tmp_path):
    files.settle_folder(tmp_path)
    with pytest.raises(OSError):
        files.settle_folder(tmp_path / "none")
