"""The published ways to bring a tensor or a picture across, to compare with: never used by
the agent, and favoured here wherever a choice had to be made.

Clip and uniform quantizer is Cohen, Choi and Bajic's lightweight coding of activations, with
an ideal coder in place of theirs: as many bytes as the symbols are worth under one static
distribution a channel, without any header. Pictures are coded by the libraries everybody has.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from split_core import pictures
from split_core.errors import UsageError
from split_core.model.bundle import Bundle
from split_core.tensors import TensorSpec, to_real
from split_core.wire.payload import BLOCK_HEADER_BYTES
from split_lab.judge import to_stored
from split_lab.methods import Live, need_picture, rung_method

_CODED = ("float32", "int8", "uint8")
# Of a tensor's values, to choose its range by: a histogram this fine (exact for 8-bit types).
_BINS = 4096
_GRID = 24               # ranges tried along each end, three times finer and finer


# -- clip, uniform quantizer, ideal static entropy coder


@dataclass(frozen=True)
class _Quantizer:
    """Real values [lo, hi] to symbols 0..levels-1, ends included."""

    lo: float
    step: float
    levels: int

    def symbols(self, real: np.ndarray) -> np.ndarray:
        return np.clip(np.rint((real - self.lo) / self.step), 0, self.levels - 1).astype(np.intp)

    def real(self, symbols: np.ndarray) -> np.ndarray:
        return (symbols * self.step + self.lo).astype(np.float32)


class _Clip:
    def __init__(self, specs: Sequence[TensorSpec], quantizers: Mapping[str, _Quantizer],
                 bits: Mapping[str, np.ndarray], name: str):
        self.name = name
        self._specs, self._quantizers, self._bits = specs, quantizers, bits

    def encode(self, live: Mapping[str, np.ndarray]) -> tuple[float, Live]:
        coded, nbytes = {}, 0.0
        for spec in self._specs:
            array = live[spec.name]
            if spec.name not in self._quantizers:
                coded[spec.name], nbytes = array, nbytes + array.nbytes
                continue
            symbols = self._quantizers[spec.name].symbols(to_real(array, spec))
            coded[spec.name] = symbols
            rows = symbols.reshape(-1, spec.channels)
            nbytes += self._bits[spec.name][np.arange(spec.channels), rows].sum() / 8
        return float(nbytes), coded

    def decode(self, coded: Live) -> Live:
        return {s.name: to_stored(self._quantizers[s.name].real(coded[s.name]), s)
                if s.name in self._quantizers else coded[s.name] for s in self._specs}


def clip_method(specs: Sequence[TensorSpec], samples: Mapping[str, np.ndarray],
                levels: int, clip: bool = True) -> _Clip:
    """Clip + ``levels`` uniform levels, fitted to ``samples`` [frames, *shape] of each tensor:
    the range of least squared error, and the distribution of the symbols in each channel.
    Tensors of other types count as they are. Raises UsageError.

    Without ``clip`` the levels cover all that occurs. Nobody publishes it so, but before an
    ideal coder it is the better one: rare large values cost few bytes and move the answer
    (MobileNetV2 14x14x64 at KL 0.02: 4440 bytes, clipped 5470).
    """
    if not 2 <= levels <= 256:
        raise UsageError(f"clip to {levels} levels: wanted 2 to 256")
    quantizers, bits = {}, {}
    for spec in specs:
        if spec.dtype not in _CODED or not spec.elements:
            continue
        quantizer = quantizers[spec.name] = _best_range(samples[spec.name], spec, levels, clip)
        counts = np.zeros((spec.channels, levels))
        for frame in samples[spec.name]:
            rows = quantizer.symbols(to_real(frame, spec)).reshape(-1, spec.channels)
            cells = rows + levels * np.arange(spec.channels)
            counts += np.bincount(cells.ravel(), minlength=counts.size).reshape(counts.shape)
        counts = np.maximum(counts, 0.5)       # what calibration never saw is dear, not endless
        bits[spec.name] = -np.log2(counts / counts.sum(1, keepdims=True))
    return _Clip(specs, quantizers, bits, f"{'clip' if clip else 'uniform'}{levels}")


def _best_range(samples: np.ndarray, spec: TensorSpec, levels: int, clip: bool) -> _Quantizer:
    values, counts = _histogram(samples, spec)
    ends = float(values[0]), float(values[-1])
    if ends[0] == ends[1]:
        return _Quantizer(ends[0], 1.0, levels)
    # Zero is the one value of a rectified tensor that must be met exactly, as published.
    width_lo, width_hi = (0.0 if ends[0] == 0 else ends[1] - ends[0]), ends[1] - ends[0]
    lo, hi = ends
    for _ in range(3 if clip else 0):
        lows = np.unique(np.linspace(lo - width_lo, lo + width_lo, 2 * _GRID + 1).clip(*ends))
        highs = np.unique(np.linspace(hi - width_hi, hi + width_hi, 2 * _GRID + 1).clip(*ends))
        _, lo, hi = min((_squared_error(values, counts, a, b, levels), a, b)
                        for a in lows for b in highs if a < b)
        width_lo, width_hi = 2 * width_lo / _GRID, 2 * width_hi / _GRID
    return _Quantizer(lo, (hi - lo) / (levels - 1), levels)


def _histogram(samples: np.ndarray, spec: TensorSpec) -> tuple[np.ndarray, np.ndarray]:
    """Real values that occur, ascending, and how often."""
    if spec.dtype != "float32":
        stored, counts = np.unique(samples, return_counts=True)
        return to_real(stored, spec).astype(np.float64), counts
    bounds = float(samples.min()), float(samples.max())
    counts = sum(np.histogram(frame, _BINS, bounds)[0] for frame in samples)
    values = np.linspace(*bounds, _BINS)
    used = counts > 0
    used[[0, -1]] = True
    return values[used], counts[used]


def _squared_error(values, counts, lo: float, hi: float, levels: int) -> float:
    step = (hi - lo) / (levels - 1)
    error = values - (np.clip(np.rint((values - lo) / step), 0, levels - 1) * step + lo)
    return float(counts @ (error * error))


# -- pictures of the input


class _Picture:
    def __init__(self, bundle: Bundle, name: str, push: Callable, pull: Callable):
        self.name, self._push, self._pull = name, push, pull
        self._image = bundle.manifest.image
        self._spec = bundle.specs[self._image.tensor]

    def encode(self, live: Mapping[str, np.ndarray]) -> tuple[int, tuple[bytes, Live]]:
        others = {n: a for n, a in live.items() if n != self._image.tensor}
        samples = pictures.to_samples(live[self._image.tensor], self._image)
        data = self._push(samples.reshape(self._shape))
        return len(data) + sum(a.nbytes for a in others.values()), (data, others)

    def decode(self, coded: tuple[bytes, Live]) -> Live:
        data, others = coded
        samples = self._pull(data, *self._shape)
        array = pictures.from_samples(samples, self._image, self._spec.np_dtype)
        return {self._image.tensor: array.reshape(self._spec.shape)} | others

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self._image.height, self._image.width, self._image.channels


def picture_method(bundle: Bundle, cut: int, kind: str, quality: int,
                   tables: pictures.Tables | None = None) -> _Picture:
    """WebP ("webp"), AVIF of speed 8 ("avif"), JPEG with the library's tables in half and in
    full colour resolution ("jpeg", "jpeg444"), or with ``tables``. Raises UsageError."""
    need_picture(bundle, cut, f"{kind}{quality}")
    if not (1 if kind.startswith("jpeg") else 0) <= quality <= 100:
        raise UsageError(f"{kind} quality {quality}: wanted up to 100")
    push, pull = {
        "webp": (pictures.push_webp, pictures.pull_webp),
        "avif": (pictures.push_avif, pictures.pull_avif),
        "jpeg": (lambda s, q: pictures.push_jpeg(s, q, tables), pictures.pull_jpeg),
        "jpeg444": (_push_jpeg444, pictures.pull_jpeg),
    }[kind]
    name = f"{kind}{quality}" if tables is None else f"tuned-{kind}{quality}"
    return _Picture(bundle, name, lambda samples: push(samples, quality), pull)


def _push_jpeg444(samples: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    pixels = samples[..., 0] if samples.shape[2] == 1 else samples
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        out, "JPEG", quality=quality, subsampling=0, optimize=True, progressive=True)
    return out.getvalue()


# -- bytes and a general compressor


class _Bytes:
    """8 bits an element, channel planes, zstd level 1, our block headers not counted."""

    name = "uint8-zstd1"

    def __init__(self, bundle: Bundle, cut: int):
        specs = bundle.boundary(cut)
        self._floats = {s.name for s in specs if s.dtype == "float32"}
        self._method = rung_method(bundle, cut, "q8" if self._floats else "raw")
        self._headers = BLOCK_HEADER_BYTES * len(specs)

    def encode(self, live: Mapping[str, np.ndarray]) -> tuple[int, bytes]:
        nbytes, payload = self._method.encode(live)
        return nbytes - self._headers, payload

    def decode(self, coded: bytes) -> Live:
        return self._method.decode(coded)


def uint8_zstd_method(bundle: Bundle, cut: int) -> _Bytes:
    """Stored 8-bit tensors as they are, floats in 256 steps over each frame's range; channel
    planes and zstd level 1."""
    return _Bytes(bundle, cut)
