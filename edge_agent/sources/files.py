"""Pictures from a file or a folder, in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from split_core.errors import InputError
from split_core.pictures import SUFFIXES, read_picture


def list_pictures(path: str | Path) -> list[Path]:
    """The pictures at ``path``. Raises InputError when there is none, or none may be read."""
    path = Path(path)
    try:
        os.stat(path)
        if not path.is_dir():
            return [path]
        os.scandir(path).close()         # says why it cannot be read; `rglob` finds nothing then
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}; correct source.path, or let the user"
                         " of this program read it") from None
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"no pictures in {path} (looked for {', '.join(sorted(SUFFIXES))}); put"
                         " some there, or correct source.path")
    return files


class FileSource:
    def __init__(self, path: str | Path, *, loop: bool = False):
        self._path, self._loop = path, loop

    def frames(self) -> Iterator[tuple[str, np.ndarray | InputError]]:
        while True:
            for file in list_pictures(self._path):
                try:
                    yield str(file), read_picture(file)
                except InputError as e:
                    yield str(file), e
            if not self._loop:
                return
