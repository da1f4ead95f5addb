"""A bundle: one file that is a model's segments, its manifest, and the model itself.

The file's SHA-256 is the bundle's id. The manifest holds two more digests: of the model it
was made from, and of the file with that digest's own place zeroed, so that a damaged bundle
is found out without knowing its id.
"""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from split_core.errors import BundleError
from split_core.model.graft import SegmentTensors, graft
from split_core.model.graph import Graph, read_graph, read_metadata
from split_core.model.manifest import (
    FORMAT, METADATA_NAME, NO_DIGEST, Answer, CutEntry, ImageInput, Manifest, Segment, State,
    TensorEntry, parse_manifest,
)
from split_core.model.cuts import Cut
from split_core.model.macs import op_macs
from split_core.tensors import TensorSpec

ID_BYTES = 32


@dataclass(frozen=True)
class Bundle:
    """A bundle as opened: its manifest and where its bytes are."""

    path: Path
    manifest: Manifest
    sha256: bytes                    # the bundle's id

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


def open_bundle(path: str | Path) -> Bundle:
    """Open and check a bundle. Raises BundleError for anything but an intact one."""
    path = Path(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            manifest, digest = verify(data)
    except FileNotFoundError:
        raise BundleError(f"no such file: {path}") from None
    except OSError as e:
        raise BundleError(f"cannot read {path}: {e.strerror}") from None
    except ValueError:
        raise BundleError(f"{path} is empty") from None
    return Bundle(path, manifest, digest)


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
        # Python's buffer protocol wants each slice released before an mmap may close.
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


def build_bundle(source: bytes, graph: Graph, cuts: tuple[Cut, ...], *, name: str,
                 states: tuple[State, ...] = (), image: ImageInput | None = None,
                 answer: Answer = Answer("tensors"),
                 clips: dict[str, tuple[float, float]] | None = None) -> bytes:
    """The bytes of a bundle of ``source`` cut at ``cuts`` (0 and n among them)."""
    ends = [c.cut for c in cuts]
    segments = [
        _segment_tensors(graph, first, end) for first, end in zip(ends[:-1], ends[1:])
    ]
    crossing = {t for s in segments for t in (*s.inputs, *s.outputs)}
    crossing |= {t for c in cuts for t in c.boundary} | {*graph.inputs, *graph.outputs}
    names = {t: graph.spec(t).name for t in crossing}
    entries = [TensorEntry.of(graph.spec(t)) for t in sorted(crossing)]
    if clips:
        entries = [_with_clip(e, clips.get(e.name)) for e in entries]

    def named(tensors) -> tuple[str, ...]:
        return tuple(names[t] for t in tensors)

    manifest = Manifest(
        format=FORMAT,
        name=name,
        source_sha256=hashlib.sha256(source).hexdigest(),
        source_bytes=len(source),
        content_sha256=NO_DIGEST,
        ops=len(graph.ops),
        macs=cuts[0].macs_after,
        tensors=tuple(entries),
        inputs=named(graph.inputs),
        outputs=named(graph.outputs),
        segments=tuple(
            Segment(s.first_op, s.end_op,
                    sum(op_macs(graph, op) for op in graph.ops[s.first_op : s.end_op]),
                    named(s.inputs), named(s.outputs), _is_stateful(graph, s))
            for s in segments
        ),
        cuts=tuple(
            CutEntry(c.cut, c.after_op, named(c.boundary), c.macs_before, c.macs_after,
                     c.coded_bytes)
            for c in cuts
        ),
        states=states, image=image, answer=answer,
    )
    blank = manifest.to_json()
    data = graft(source, graph, segments, METADATA_NAME, blank)
    digest = hashlib.sha256(data).hexdigest()
    place = data.index(blank) + blank.index(NO_DIGEST.encode())
    return data[:place] + digest.encode() + data[place + len(digest):]


def _with_clip(entry: TensorEntry, clip: tuple[float, float] | None) -> TensorEntry:
    return TensorEntry(entry.name, entry.shape, entry.dtype, entry.scale, entry.zero_point, clip)


def _segment_tensors(graph: Graph, first: int, end: int) -> SegmentTensors:
    """Inputs: made before, used here. Outputs: made here, used after or a model output."""
    ops = graph.ops[first:end]
    made = {t for op in ops for t in op.outputs if t >= 0}
    read = {t for op in ops for t in op.inputs if t >= 0}
    later = {t for op in graph.ops[end:] for t in op.inputs} | set(graph.outputs)
    inputs = {t for t in read - made
              if not graph.tensors[t].constant and not graph.tensors[t].variable}
    return SegmentTensors(first, end, tuple(sorted(inputs)), tuple(sorted(made & later)))


def _is_stateful(graph: Graph, segment: SegmentTensors) -> bool:
    ops = graph.ops[segment.first_op : segment.end_op]
    return any(graph.tensors[t].variable for op in ops for t in op.tensors)


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

