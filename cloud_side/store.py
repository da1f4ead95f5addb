"""Bundles on disk, by digest: bounded in size, least recently used goes first.

Both threads of the worker use it, and `deploy` in a process of its own, without a lock: what is
listed may be gone when it is looked at, and is then as if it had not been listed.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import shutil
import tempfile
import time
from pathlib import Path

from split_core.blobs import BlobFetch
from split_core.errors import BundleError, ConfigError
from split_core.files import cannot_write, settle_folder
from split_core.model.bundle import Bundle, Unreadable, open_bundle, verify

_log = logging.getLogger(__name__)
_SUFFIX = ".split.tflite"
_PART_LIFE_S = 7 * 86_400.0


class BundleStore:
    """One folder of ``<sha256>.split.tflite``. A file's time of change is its last use."""

    def __init__(self, folder: str | Path, max_bytes: int):
        self.folder, self.max_bytes = Path(folder), max_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(f"cannot make the store {folder}: {e.strerror}") from None
        if not os.access(self.folder, os.W_OK):
            raise ConfigError(f"cannot write to the store {folder}")
        self._forget_old_parts()

    def digests(self) -> list[bytes]:
        """What is held, most recently used first."""
        return [bytes.fromhex(f.name.removesuffix(_SUFFIX))
                for f, _ in reversed(self._by_use(f"*{_SUFFIX}")) if _is_named(f)]

    def _by_use(self, *patterns: str) -> list[tuple[Path, os.stat_result]]:
        """The files there are, least recently used first."""
        found = []
        for pattern in patterns:
            for file in self.folder.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    found.append((file, file.stat()))
        return sorted(found, key=lambda item: item[1].st_mtime)

    def path(self, digest: bytes) -> Path:
        return self.folder / f"{digest.hex()}{_SUFFIX}"

    def holds(self, digest: bytes) -> bool:
        return self.path(digest).exists()

    def open(self, digest: bytes) -> Bundle:
        """The bundle, proven to be the one asked for; a damaged file is thrown away, one that
        cannot be read now is not. Raises BundleError."""
        path = self.path(digest)
        try:
            bundle = open_bundle(path)
            if bundle.sha256 != digest:
                raise BundleError(f"stored bundle {path.name} has SHA-256 {bundle.id_hex}")
        except Unreadable:
            raise
        except BundleError:
            path.unlink(missing_ok=True)
            raise
        self.touch(digest)
        return bundle

    def touch(self, digest: bytes) -> None:
        """It is in use. Its file may be gone, which whoever opens it next will see, or somebody
        else's, put here by hand: that goes sooner."""
        with contextlib.suppress(OSError):
            os.utime(self.path(digest))

    def remove(self, digest: bytes) -> None:
        self.path(digest).unlink(missing_ok=True)

    def put(self, path: Path) -> Bundle:
        """Copy a bundle in, proven to be intact. Raises BundleError, and what `files.cannot_write`
        makes of a store that takes no file."""
        bundle = open_bundle(path)
        try:
            # Root may put it here, into a folder in which the service may put links to anything:
            # the name is new, and all that follows is done to the open file, never to a name.
            handle, part = tempfile.mkstemp(".part", f"{bundle.id_hex}.", self.folder)
            try:
                with open(handle, "w+b") as file:
                    self._fill(file, path, bundle)
                os.replace(part, self.path(bundle.sha256))
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)
            settle_folder(self.folder)
        except OSError as e:
            raise cannot_write(self.folder / path.name, e) from None
        self.trim(keep=bundle.sha256)
        return bundle

    def _fill(self, file, path: Path, bundle: Bundle) -> None:
        """Copy a bundle into an open file, and prove it. Raises BundleError, OSError."""
        with path.open("rb") as source:
            shutil.copyfileobj(source, file)
        file.flush()
        try:
            copied = verify(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))[1]
        except (ValueError, BundleError):
            copied = None                         # emptied, or half of the one and the other
        if copied != bundle.sha256:
            raise BundleError(f"{path} changed while it was copied")
        if os.geteuid() == 0:
            # Put here by root, the file belongs to the service all the same.
            owner = self.folder.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())

    def fetch(self, digest: bytes) -> BlobFetch:
        """A transfer into the store; goes on where an earlier one stopped."""
        return BlobFetch(digest, self.path(digest), max_bytes=self.max_bytes)

    def _forget_old_parts(self) -> None:
        """A transfer that nobody went on with for a week will not be gone on with."""
        for part, status in self._by_use("*.part"):
            if time.time() - status.st_mtime > _PART_LIFE_S:
                part.unlink(missing_ok=True)

    def trim(self, keep: bytes) -> None:
        """Throw away the least recently used, half-fetched ones too, until all fits; never
        ``keep``."""
        files = self._by_use(f"*{_SUFFIX}", "*.part")
        total = sum(status.st_size for _, status in files)
        for file, status in files:
            if total <= self.max_bytes:
                return
            if file == self.path(keep):
                continue
            total -= status.st_size
            file.unlink(missing_ok=True)
            _log.info("event=bundle-evicted file=%s", file.name)


def _is_named(path: Path) -> bool:
    try:
        return len(bytes.fromhex(path.name.removesuffix(_SUFFIX))) == 32
    except ValueError:
        return False
