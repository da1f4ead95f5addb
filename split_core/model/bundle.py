"""A bundle: one file that is a model's segments, its manifest, and the model itself.

The file's SHA-256 is the bundle's id. The manifest holds two more digests: of the model it
was made from, and of the file with that digest's own place zeroed, so that a damaged bundle
is found out without knowing its id.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from split_core.errors import BundleError
from split_core.model.coding import CODING_NAME, TensorCoding, pull_coding
from split_core.model.graph import read_metadata
from split_core.model.manifest import (
    METADATA_NAME, NO_DIGEST, CutEntry, Manifest, parse_manifest,
)
from split_core.model.rate import PictureCurve, RateCurve, picture_curves
from split_core.tensors import TensorSpec


@dataclass(frozen=True)
class Bundle:
    """A bundle as opened: its manifest and where its bytes are."""

    path: Path
    manifest: Manifest
    sha256: bytes                    # the bundle's id
    stamp: tuple[int, ...] | None = None      # which file that was

    @property
    def has_changed(self) -> bool:
        """Whether another file lies there now. One that is gone is no other."""
        try:
            return _stamp_of(os.stat(self.path)) != self.stamp
        except OSError:
            return False

    def size_if_unchanged(self) -> int | None:
        """The file's bytes, while it is the one that was opened; None where it is another, or
        gone. What is in memory of it goes on either way."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_size if _stamp_of(status) == self.stamp else None

    @property
    def id_hex(self) -> str:
        return self.sha256.hex()

    @cached_property
    def specs(self) -> dict[str, TensorSpec]:
        """Every tensor that crosses a border, by name."""
        return {t.name: t.spec for t in self.manifest.tensors}

    @cached_property
    def clips(self) -> dict[str, tuple[float, float] | None]:
        return {t.name: t.clip for t in self.manifest.tensors}

    @cached_property
    def codings(self) -> dict[str, TensorCoding]:
        """Codec tables by tensor name; empty where nobody calibrated. Raises BundleError."""
        with self.path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        # Not a second look at the digest: the file was checked when it was opened, and is
        # replaced, never written to, while somebody has it open.
        entry = read_metadata(data).get(CODING_NAME)
        return pull_coding(entry, self.specs) if entry else {}

    def rate(self, cut: int) -> RateCurve | None:
        """The predicted curve of a cut; None where nobody calibrated it."""
        if cut not in self._rates:
            points = self.cut(cut).rate
            self._rates[cut] = RateCurve(points) if points else None
        return self._rates[cut]

    def picture_rate(self, format: str) -> PictureCurve | None:
        """The predicted curve of the input as a "jpeg" or "webp"; None where nobody measured
        it."""
        return self._pictures.get(format)

    @cached_property
    def _pictures(self) -> dict[str, PictureCurve]:
        return picture_curves(self.manifest.pictures)

    @cached_property
    def _rates(self) -> dict[int, RateCurve | None]:
        return {}

    @cached_property
    def _cuts(self) -> dict[int, CutEntry]:
        return {c.cut: c for c in self.manifest.cuts}

    @property
    def last_cut(self) -> int:
        """n, the cut at which everything runs on the device."""
        return self.manifest.ops

    def cut(self, cut: int) -> CutEntry:
        """The cut entry; BundleError naming the cuts there are when the bundle lacks it."""
        try:
            return self._cuts[cut]
        except KeyError:
            raise BundleError(
                f"bundle {self.manifest.name} has no cut {cut}; it has"
                f" {', '.join(map(str, self._cuts))}"
            ) from None

    def raw_bytes(self, cut: int) -> int:
        """What a cut's boundary weighs, as it is."""
        return sum(s.nbytes for s in self.boundary(cut))

    def boundary(self, cut: int) -> tuple[TensorSpec, ...]:
        """The tensors that cross at ``cut``, in wire order."""
        return tuple(self.specs[name] for name in self.cut(cut).boundary)

    def segment_index(self, cut: int) -> int:
        """Index of the first segment after ``cut`` (the number of segments for n)."""
        self.cut(cut)
        return list(self._cuts).index(cut)

    def tail_outputs(self, cut: int) -> tuple[str, ...]:
        """The model outputs that the tail makes and a result carries, in the model's order."""
        made = {n for s in self.manifest.segments[self.segment_index(cut):] for n in s.outputs}
        return tuple(n for n in self.manifest.outputs if n in made)

    @cached_property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        return tuple(self.specs[name] for name in self.manifest.outputs)


class Unreadable(BundleError):
    """A bundle's file cannot be read, or is not there: nothing is known of what is in it."""


def open_bundle(path: str | Path) -> Bundle:
    """Open and check a bundle. Raises BundleError for anything but an intact one; Unreadable where
    that is the file's fault."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            stamp = _stamp_of(os.fstat(file.fileno()))
            # Not closed by hand: views of it live on in the traceback of a refusal.
            manifest, digest = verify(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    except FileNotFoundError:
        raise Unreadable(f"no such file: {path}") from None
    except OSError as e:
        raise Unreadable(f"cannot read {path}: {e.strerror}") from None
    except ValueError:
        raise BundleError(f"{path} is empty") from None
    except BundleError as e:
        raise BundleError(f"{path}: {e}") from None
    return Bundle(path, manifest, digest, stamp)


def _stamp_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_bundle(data) -> bool:
    """Whether a valid TFLite file carries a manifest."""
    with memoryview(data) as view:
        return METADATA_NAME in read_metadata(view)


def verify(data) -> tuple[Manifest, bytes]:
    """Manifest and id of a bundle's bytes; BundleError unless they are intact."""
    with memoryview(data) as view:
        entry = read_metadata(view).get(METADATA_NAME)
        if entry is None:
            raise BundleError(
                f"this is a model, not a bundle: it has no {METADATA_NAME};"
                " make one with `edge-agent split`"
            )
        manifest = parse_manifest(entry)
        content = _content_sha256(view, entry, manifest.content_sha256)
        if content != manifest.content_sha256:
            raise BundleError(
                f"damaged bundle: content SHA-256 is {content[:16]}..., the manifest says"
                f" {manifest.content_sha256[:16]}..."
            )
        return manifest, hashlib.sha256(view).digest()


def _content_sha256(view: memoryview, entry: bytes, digest: str) -> str:
    start = bytes(view[: _index_bytes(view)]).find(entry)
    place = entry.find(f'"content_sha256":"{digest}"'.encode())
    if start < 0 or place < 0:
        raise BundleError("damaged bundle: its manifest is not in its index")
    at = start + place + len('"content_sha256":"')
    content = hashlib.sha256()
    for part in (view[:at], NO_DIGEST.encode(), view[at + len(digest):]):
        content.update(part)
    return content.hexdigest()


def _index_bytes(view: memoryview) -> int:
    """How far to look for the manifest: it stands in front of the model's own bytes."""
    return min(len(view), 64 << 20)


def source_model(data) -> bytes:
    """The model a bundle was made from, byte for byte; BundleError where it is not there."""
    manifest, _ = verify(data)
    with memoryview(data) as view:
        size = manifest.source_bytes
        start = len(view) - size - -size % 16
        model = bytes(view[start : start + size])
    if hashlib.sha256(model).hexdigest() != manifest.source_sha256:
        raise BundleError("damaged bundle: its tail is not the model it names")
    return model

