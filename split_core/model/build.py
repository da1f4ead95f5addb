"""Makes a bundle's bytes from a model and the cuts to keep."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from split_core.model.coding import CODING_NAME, TensorCoding, push_coding
from split_core.model.cuts import Cut
from split_core.model.graft import SegmentTensors, graft
from split_core.model.graph import Graph
from split_core.model.macs import op_macs
from split_core.model.manifest import (
    FORMAT, METADATA_NAME, NO_DIGEST, Answer, CutEntry, ImageInput, Manifest, PictureRate,
    RatePoint, Segment, State, TensorEntry,
)


@dataclass(frozen=True)
class Calibration:
    """What was learnt of a model's cuts: tables by tensor name, rates and margins by cut; and
    what its input costs as a picture."""

    codings: Mapping[str, TensorCoding] = field(default_factory=dict)
    rates: Mapping[int, tuple[RatePoint, ...]] = field(default_factory=dict)
    margins: Mapping[int, float] = field(default_factory=dict)
    pictures: tuple[PictureRate, ...] = ()


def build_bundle(source: bytes, graph: Graph, cuts: tuple[Cut, ...], *, name: str,
                 states: tuple[State, ...] = (), image: ImageInput | None = None,
                 answer: Answer = Answer("tensors"),
                 clips: Mapping[str, tuple[float, float]] | None = None,
                 calibration: Calibration | None = None) -> bytes:
    """The bytes of a bundle of ``source`` cut at ``cuts`` (0 and n among them)."""
    calibration = calibration or Calibration()
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
                     c.coded_bytes, calibration.rates.get(c.cut, ()),
                     calibration.margins.get(c.cut, 0.0))
            for c in cuts
        ),
        states=states, image=image, answer=answer, pictures=calibration.pictures,
    )
    blank = manifest.to_json()
    # Tables of a bundle that was calibrated before do not outlive it.
    coding = {CODING_NAME: push_coding(calibration.codings)} if calibration.codings else {}
    data = graft(source, graph, segments, {METADATA_NAME: blank} | coding)
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
