"""Fetched models on disk, by digest, and the record of which one is in force.

    state_dir/models/<sha256>.tflite      proven: its content has this digest
    state_dir/models/<sha256>.part        on its way; gone on with, not begun anew
    state_dir/models/current.json         `rollout.Record`

Names are made from digests only, so that nothing a peer says becomes a path.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from pathlib import Path

import msgspec

from edge_agent.models.rollout import Record
from split_core.blobs import BlobFetch
from split_core.errors import ConfigError, InputError
from split_core.files import settle_folder, write_whole

_log = logging.getLogger(__name__)
_SUFFIX = ".tflite"
_MAX_RECORD_BYTES = 65_536
_PART_LIFE_S = 7 * 86_400.0
# What other programs, the journal and the log are left on the disk.
RESERVE_BYTES = 32 << 20


class NoSpace(InputError):
    """The disk has no room for a model; make some and send it again."""


class ModelStore:
    """The folder, made when something is first kept."""

    def __init__(self, state_dir: str | Path):
        self.folder = Path(state_dir) / "models"

    def path(self, sha256: str) -> Path:
        digest = bytes.fromhex(sha256)
        if len(digest) != 32:
            raise ValueError(f"{sha256!r} is not a SHA-256")
        return self.folder / f"{digest.hex()}{_SUFFIX}"

    def proven(self, sha256: str) -> bool:
        """Whether the model is here, whole: its bytes are read and counted up again, because
        memory cards lose what they were given."""
        try:
            return digest_of(self.path(sha256)) == sha256
        except OSError:
            return False

    def fetch(self, sha256: str, nbytes: int) -> BlobFetch:
        """A transfer into the store, gone on with where an earlier one stopped. Raises NoSpace
        where the disk would be full, ConfigError where it cannot be written."""
        self._make()
        blob = BlobFetch(bytes.fromhex(sha256), self.path(sha256), max_bytes=nbytes)
        free = shutil.disk_usage(self.folder).free
        # The self-test writes the model a second time, for as long as it runs.
        needed = 2 * nbytes - blob.received + RESERVE_BYTES
        if free < needed:
            raise NoSpace(f"a model of {nbytes} bytes needs {needed} free in {self.folder}"
                          f" ({RESERVE_BYTES} of them stay free); there are {free}")
        return blob

    def settle(self, sha256: str) -> None:
        """Have the model's bytes on the disk before a record says that they are there."""
        with self.path(sha256).open("rb") as file:
            os.fsync(file.fileno())
        settle_folder(self.folder)

    def remove(self, sha256: str) -> None:
        self.path(sha256).unlink(missing_ok=True)

    def prune(self, keep: frozenset[str]) -> None:
        """Throw away models not in ``keep``, and what earlier transfers left. What cannot be
        thrown away is said, and stays: a card that may only be read must not end who tidies it."""
        if not self.folder.is_dir():
            return
        wanted = {f"{sha256}{_SUFFIX}" for sha256 in keep}
        for file in self.folder.iterdir():
            try:
                old_part = file.suffix == ".part" and (
                    time.time() - file.stat().st_mtime > _PART_LIFE_S)
                if file.suffix == ".trial" or old_part or (
                        file.suffix == _SUFFIX and file.name not in wanted):
                    file.unlink(missing_ok=True)
                    _log.info("event=model-removed file=%s", file.name)
            except OSError as e:
                _log.warning("event=model-not-removed file=%s error=%r", file, e.strerror)

    # -- the record

    @property
    def record_path(self) -> Path:
        return self.folder / "current.json"

    def load(self) -> Record | None:
        """The record; None where there is none, or only a damaged one, which is logged: the
        configuration's file is then in force."""
        try:
            with self.record_path.open("rb") as file:
                return msgspec.json.decode(file.read(_MAX_RECORD_BYTES), type=Record)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
            _log.warning("event=model-record-ignored file=%s reason=%r", self.record_path, str(e))
            return None

    def save(self, record: Record) -> None:
        """Keep a record, whole or not at all, also when the power goes. Raises SplitError."""
        self._make()
        write_whole(self.record_path, msgspec.json.format(msgspec.json.encode(record)) + b"\n",
                    durable=True)

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(f"cannot make {self.folder}: {e.strerror}; set state_dir to a"
                              " folder that may be written") from None


def digest_of(path: str | Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
