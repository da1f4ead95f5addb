"""Files that are there whole or not at all: written beside their place, then put into it.

Whoever reads the old file goes on reading the old one, and a process that dies half way leaves the
old one in place. Where the power may go as well, ``durable`` has the bytes on the disk first:
without it some file systems keep the new name and lose what is in it. That costs a write through to
the card, so it is for what cannot be made again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from split_core.errors import SplitError


def write_whole(path: str | Path, data: bytes | str, *, durable: bool = False,
                mode: int | None = None, wrong: type[SplitError] = SplitError) -> None:
    """Put ``data`` (text: as UTF-8) where ``path`` says, in a folder that is made where it is
    missing. ``mode``: the file's permissions, else as the process makes files.

    Of the threads of one process only one may write a path at a time. Raises ``wrong``, naming the
    path; the old file is then as it was, and nothing is left beside it.
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
        raise wrong(f"cannot write {path}: {e.strerror or e}") from None


def settle_folder(folder: str | Path) -> None:
    """Have the names in a folder on the disk, too. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
