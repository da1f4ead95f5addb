"""The manifest: what the bundle says of itself, JSON in the metadata entry `split.json`.

Both sides take every size, shape and type from here; the wire only confirms them. The field
names are part of the format (docs/bundle-format.md).
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from split_core.errors import BundleError
from split_core.tensors import DTYPES, Quantization, TensorSpec

METADATA_NAME = "split.json"
SIGNATURE_PREFIX = "segment_"
FORMAT = 3
# Format 1 had neither rates nor JPEG tables, format 2 no rates of pictures.
FORMATS_ACCEPTED = (1, 2, 3)
# What stands in `content_sha256` while the file is hashed.
NO_DIGEST = "0" * 64

_encoder = msgspec.json.Encoder()


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    # Range of values worth keeping (real for floats, stored for integers); None: each frame's.
    clip: tuple[float, float] | None = None

    @property
    def spec(self) -> TensorSpec:
        quantization = (
            None if self.scale is None else Quantization(self.scale, self.zero_point or 0))
        return TensorSpec(self.name, self.shape, self.dtype, quantization)

    @classmethod
    def of(cls, spec: TensorSpec) -> TensorEntry:
        q = spec.quantization
        return cls(spec.name, spec.shape, spec.dtype, q and q.scale, q and q.zero_point)


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ops ``first_op`` up to, not including, ``end_op``; tensors by name."""

    first_op: int
    end_op: int
    macs: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stateful: bool = False           # holds variable tensors, to be reset for each frame


class RatePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Predicted at a step of 2**(index / 32): divergence in nats, mean payload in bytes."""

    index: int
    kl: float
    bytes: float


class PictureRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input as a picture of this quality: divergence in nats, mean payload in bytes."""

    format: Literal["jpeg", "webp"]
    quality: int
    kl: float
    bytes: float


class CutEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cut: int
    after_op: str
    boundary: tuple[str, ...]
    macs_before: int
    macs_after: int
    coded_bytes: int
    rate: tuple[RatePoint, ...] = ()       # in order of index; empty: not calibrated
    margin: float = 0.0                    # below it a worker asks for the refinement


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An output fed back as an input for the next frame. It belongs to the device."""

    input: str
    output: str


class ImageInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a picture becomes the model's input: crop, resize (bilinear), order, value.

    A sample of 0..255 becomes ``sample * scale + offset`` for a float input; an integer input
    takes the sample itself, moved by -128 for int8.
    """

    tensor: str
    height: int
    width: int
    channels: int
    crop: float = 0.875              # of the shorter side, centred; 1.0: all of it
    keep_aspect: bool = True         # False: stretch the whole picture
    order: str = "RGB"
    scale: float = 1.0
    offset: float = 0.0
    # Quantization tables for JPEG at quality 50, luma and chroma, tuned to the model.
    jpeg_tables: tuple[tuple[int, ...], tuple[int, ...]] | None = None


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the outputs mean: 'classification', 'sequence' (one class a position),
    'detection' (TFLite_Detection_PostProcess) or 'tensors'."""

    kind: str
    labels: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    name: str
    source_sha256: str
    source_bytes: int
    content_sha256: str
    ops: int
    macs: int
    tensors: tuple[TensorEntry, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    segments: tuple[Segment, ...]
    cuts: tuple[CutEntry, ...]
    states: tuple[State, ...] = ()
    image: ImageInput | None = None
    answer: Answer = Answer("tensors")
    # Of each format in order of quality; empty: not calibrated, or no image input.
    pictures: tuple[PictureRate, ...] = ()

    def to_json(self) -> bytes:
        return _encoder.encode(self)


def parse_manifest(data: bytes) -> Manifest:
    """Decode and check a manifest. Raises BundleError with the path of what is wrong."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise BundleError(f"damaged bundle: {METADATA_NAME}: {e}") from None
    _check(manifest)
    return manifest


def _check(m: Manifest) -> None:
    if m.format not in FORMATS_ACCEPTED:
        raise BundleError(f"bundle format {m.format}, this program reads"
                          f" {', '.join(map(str, FORMATS_ACCEPTED))}")
    for digest in (m.source_sha256, m.content_sha256):
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise BundleError(f"damaged bundle: {digest!r} is no SHA-256")
    known = {t.name for t in m.tensors}
    for t in m.tensors:
        if t.dtype not in DTYPES:
            raise BundleError(f"damaged bundle: tensor {t.name!r} has type {t.dtype!r}")
        if any(d < 0 for d in t.shape):
            raise BundleError(f"damaged bundle: tensor {t.name!r} has shape {list(t.shape)}")
    ends = [0, *(s.end_op for s in m.segments)]
    if [s.first_op for s in m.segments] != ends[:-1] or ends[-1] != m.ops:
        raise BundleError(f"damaged bundle: segments end at ops {ends[1:]}, model has {m.ops}")
    if [c.cut for c in m.cuts] != ends:
        raise BundleError(f"damaged bundle: cuts {[c.cut for c in m.cuts]} are not the"
                          f" segment borders {ends}")
    for c in m.cuts:
        _check_rate(c)
    _check_pictures(m.pictures)
    if m.pictures and m.image is None:
        raise BundleError("damaged bundle: it has rates of pictures and no image input")
    tables = m.image.jpeg_tables if m.image else None
    if tables and not all(len(t) == 64 and all(1 <= v <= 65535 for v in t) for t in tables):
        raise BundleError("damaged bundle: its JPEG tables are not 64 values from 1 to 65535")
    named = [n for s in m.segments for n in (*s.inputs, *s.outputs)]
    named += [n for c in m.cuts for n in c.boundary]
    named += [n for s in m.states for n in (s.input, s.output)]
    for name in (*named, *m.inputs, *m.outputs):
        if name not in known:
            raise BundleError(f"damaged bundle: tensor {name!r} is named but not described")


def _check_rate(c: CutEntry) -> None:
    for a, b in zip(c.rate, c.rate[1:]):
        if not (a.index < b.index and a.kl <= b.kl and a.bytes >= b.bytes):
            raise BundleError(f"damaged bundle: the rates of cut {c.cut} are not in order")
    for p in c.rate:
        if not (abs(p.index) <= 8192 and 0 < p.kl < 1e6 and 0 < p.bytes < 1e12):
            raise BundleError(f"damaged bundle: cut {c.cut} has the rate {p}")
    if not 0 <= c.margin <= 1:
        raise BundleError(f"damaged bundle: cut {c.cut} has the margin {c.margin}")


def _check_pictures(pictures: tuple[PictureRate, ...]) -> None:
    last: dict[str, PictureRate] = {}
    for b in pictures:
        if not (1 <= b.quality <= 100 and 0 < b.kl < 1e6 and 0 < b.bytes < 1e12):
            raise BundleError(f"damaged bundle: a picture has the rate {b}")
        a = last.get(b.format)
        if a and not (a.quality < b.quality and a.kl >= b.kl and a.bytes <= b.bytes):
            raise BundleError(f"damaged bundle: the rates of {b.format} pictures are not in order")
        last[b.format] = b
