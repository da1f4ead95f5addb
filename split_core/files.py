"""Files that are there whole or not at all: written beside their place, then put into it.

Whoever reads the old file goes on reading the old one, and a process that dies half way leaves the
old one in place. Where the power may go as well, ``durable`` has the bytes on the disk first:
without it some file systems keep the new name and lose what is in it. That costs a write through to
the card, so it is for what cannot be made again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from split_core.errors import PermissionRefused, SplitError, StorageFailed, UsageError

# The disk's fault, not that of whoever named the place. EFBIG: a limit on the size of files.
_STORAGE = {errno.ENOSPC: "make room there", errno.EDQUOT: "make room there",
            errno.EFBIG: "this process may not write files that long",
            errno.EROFS: "it is mounted for reading only",
            **dict.fromkeys((errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE),
                            "the disk or what it hangs on has failed; see `dmesg`")}


def cannot_write(path: str | Path, error: OSError) -> SplitError:
    """What a command ends with that could not write ``path``: the one place that says whose fault
    that is. A full or failing disk is the machine's (74), a place that this user may not write to
    the operator's (77), any other place the caller's, who named it (64)."""
    why = f"cannot write {path}: {error.strerror or error}"
    if error.errno in _STORAGE:
        return StorageFailed(f"{why}; {_STORAGE[error.errno]}")
    if isinstance(error, PermissionError):
        return PermissionRefused(f"{why}; run it as who may, or name another place")
    return UsageError(why)


def write_whole(path: str | Path, data: bytes | str, *, durable: bool = False,
                mode: int | None = None) -> None:
    """Put ``data`` (text: as UTF-8) where ``path`` says, in a folder that is made where it is
    missing. ``mode``: the file's permissions, else as the process makes files.

    Of the threads of one process only one may write a path at a time. Raises what `cannot_write`
    makes of the cause, naming the path; the old file is then as it was, and nothing is left beside
    it.
    """
    path = Path(path)
    data = data.encode() if isinstance(data, str) else data
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            settle_folder(path.parent)
    except OSError as e:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise cannot_write(path, e) from None


def check_place(path: str | Path) -> None:
    """Whether `write_whole` will find a place at ``path``, before the work of which the outcome is
    to be kept there. Its folder is made; the file is left as it is. Raises what `cannot_write` makes
    of the cause."""
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("wb").close()
        part.unlink()
    except OSError as e:
        raise cannot_write(path, e) from None


def settle_folder(folder: str | Path) -> None:
    """Have the names in a folder on the disk, too. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
