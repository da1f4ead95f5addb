"""Boundary tensors to payload bytes and back: the only importer of `cext`.

A rung says how: raw (lossless), quantized to 1..8 bits, or JPEG of an image input. Every
tensor is a block with a header of 16 bytes; its shape, type and size come from the bundle.
The block decides for itself what it stores, so a tensor that coding does not shrink, or of a
type without a quantizer, travels as it is.

A `Coder` belongs to one thread: it reuses its zstd contexts (1.2 to 1.7 times faster than new
ones for each payload) and its scratch memory.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import zstandard

import cext
from split_core.errors import InputError, MessageError
from split_core.model.manifest import ImageInput
from split_core.tensors import TensorSpec
from split_core.wire.messages import Codec

_BLOCK = struct.Struct("<BBBBffI")
BLOCK_HEADER_BYTES = _BLOCK.size
# Up to here symbols are packed before zstd: a byte then holds 2 to 8 neighbours of one plane,
# which beats order-0 entropy. Above, bytes code smaller than packed bits: MobileNetV2 14x14x64
# at 5 bits, 6784 bytes against 7699 packed; at 4 bits 5737 against 5319.
_PACK_UP_TO_BITS = 4
_ZSTD_LEVEL = 1       # 3 is larger on symbols, 19 a hundred times slower
# Level 1 never uses a larger window; a peer's may not make us allocate one.
_MAX_WINDOW_BYTES = 1 << 23
_MAX_RANK = 8
# Trying zstd in vain costs 50 to 90 us for 60 kB, as much as sending them over loopback, so a
# tensor that it shrank by less than this is left alone for some frames.
_LEAST_SAVING = 0.02
_SKIP_FRAMES = 15
_QUANTIZABLE = ("float32", "int8", "uint8")


class Encoding(IntEnum):
    """What a block's data is."""

    STORED = 0            # the tensor's bytes
    ZSTD = 1              # the tensor's bytes, channel planes for 8-bit types, zstd
    PACKED = 2            # symbols in channel planes, packed to ``bits``
    PACKED_ZSTD = 3
    SYMBOLS_ZSTD = 4      # symbols in channel planes, a byte each, zstd
    JPEG = 5              # a JPEG file of the image input


@dataclass(frozen=True, slots=True)
class Rung:
    """A codec with its bounds, as plans name it: "raw", "q4", "jpeg92"."""

    codec: Codec
    level: int = 0                   # bits for quantized, quality for JPEG

    @property
    def name(self) -> str:
        return {Codec.RAW: "raw", Codec.QUANTIZED: f"q{self.level}",
                Codec.JPEG: f"jpeg{self.level}"}[self.codec]

    @classmethod
    def parse(cls, name: str) -> Rung:
        """The rung of a name. Raises ValueError."""
        if name == "raw":
            return cls(Codec.RAW)
        if name[:1] == "q" and name[1:].isdigit() and 1 <= int(name[1:]) <= 8:
            return cls(Codec.QUANTIZED, int(name[1:]))
        if name[:4] == "jpeg" and name[4:].isdigit() and 1 <= int(name[4:]) <= 100:
            return cls(Codec.JPEG, int(name[4:]))
        raise ValueError(f"rung {name!r}: wanted raw, q1 to q8 or jpeg1 to jpeg100")


RAW = Rung(Codec.RAW)


class Coder:
    """Encodes and decodes payloads, for one thread."""

    def __init__(self, *, clips: Mapping[str, tuple[float, float] | None] | None = None,
                 image: ImageInput | None = None, lossless: Container[str] = ()):
        self._clips, self._image, self._lossless = clips or {}, image, lossless
        self._zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=False)
        self._unzstd = zstandard.ZstdDecompressor()
        self._scratch: dict[str, np.ndarray] = {}
        self._skips: dict[str, int] = {}         # tensor: frames to go without trying zstd

    # -- tensors to bytes

    def encode(self, arrays: Sequence[np.ndarray], specs: Sequence[TensorSpec],
               rung: Rung) -> bytes:
        """The payload of ``arrays``, which have the shapes and types of ``specs``."""
        return b"".join(
            part for array, spec in zip(arrays, specs, strict=True)
            for part in self._encode_one(array, spec, rung)
        )

    def _encode_one(self, array: np.ndarray, spec: TensorSpec, rung: Rung):
        if spec.name in self._lossless:
            return self._encode_lossless(array, spec)
        if rung.codec == Codec.JPEG and self._image and self._image.tensor == spec.name:
            return _block(Encoding.JPEG, self._encode_jpeg(array, rung.level))
        if rung.codec == Codec.QUANTIZED and spec.dtype in _QUANTIZABLE and array.size:
            return self._encode_quantized(array, spec, rung.level)
        return self._encode_lossless(array, spec)

    def _encode_lossless(self, array: np.ndarray, spec: TensorSpec):
        # A shape that only running tells (detections) is stated; others the bundle knows.
        dims = array.shape if array.shape != spec.shape else ()
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        data = raw
        if not dims and array.dtype.itemsize == 1:
            data = self._planes(raw, spec.channels)
        if dims or not raw.size:
            return _block(Encoding.STORED, raw.tobytes(), dims=dims)
        if self._skips.get(spec.name, 0) > 0:
            self._skips[spec.name] -= 1
            return _block(Encoding.STORED, raw)
        coded = self._zstd.compress(data)
        if len(coded) > (1 - _LEAST_SAVING) * raw.nbytes:
            self._skips[spec.name] = _SKIP_FRAMES
            return _block(Encoding.STORED, raw)
        return _block(Encoding.ZSTD, coded)

    def _encode_quantized(self, array: np.ndarray, spec: TensorSpec, bits: int):
        top = (1 << bits) - 1
        flat = np.ascontiguousarray(array).reshape(-1)
        symbols = self._buffer("symbols", flat.size)
        if spec.dtype == "float32":
            lo, step, inverse = _float_grid(self._range(flat, spec), top)
            cext.quantize_f32(flat, symbols, lo, inverse, top)
        else:
            lo, step = _integer_grid(self._range(flat, spec), top)
            cext.lookup_u8(flat.view(np.uint8), symbols,
                           _integer_to_symbol(spec.dtype, lo, step, top))
        planes = self._planes(symbols, spec.channels)
        packed = None
        if bits <= _PACK_UP_TO_BITS:
            packed = self._pack(planes, bits)
            coded, encoding = self._zstd.compress(packed), Encoding.PACKED_ZSTD
        else:
            coded, encoding = self._zstd.compress(planes), Encoding.SYMBOLS_ZSTD
        if len(coded) >= _packed_bytes(flat.size, bits):
            packed = self._pack(planes, bits) if packed is None else packed
            coded, encoding = packed.tobytes(), Encoding.PACKED
        return _block(encoding, coded, bits=bits, lo=lo, step=step)

    def _range(self, flat: np.ndarray, spec: TensorSpec) -> tuple[float, float]:
        clip = self._clips.get(spec.name)
        if clip is not None:
            return clip
        if spec.dtype == "float32":
            return cext.range_f32(flat)
        return float(flat.min()), float(flat.max())

    def _encode_jpeg(self, array: np.ndarray, quality: int) -> bytes:
        from split_core import pictures      # loads Pillow, which few devices need

        image = self._image
        samples = pictures.to_samples(array, image)
        return pictures.push_jpeg(
            samples.reshape(image.height, image.width, image.channels), quality)

    # -- bytes to tensors

    def decode(self, payload: memoryview, specs: Sequence[TensorSpec], *,
               any_shape: Container[str] = ()) -> list[np.ndarray]:
        """Arrays of the shapes and types of ``specs``; stored tensors named in ``any_shape``
        may state another shape (model outputs that only running sizes). Raises MessageError."""
        view, arrays = memoryview(payload), []
        for spec in specs:
            array, view = self._decode_one(view, spec, spec.name in any_shape)
            arrays.append(array)
        if len(view):
            raise MessageError(f"{len(view)} bytes left over behind {len(specs)} tensors")
        return arrays

    def _decode_one(self, view: memoryview, spec: TensorSpec, any_shape: bool):
        if len(view) < BLOCK_HEADER_BYTES:
            raise MessageError(f"tensor {spec.name!r}: {len(view)} bytes left, its block header"
                               f" alone has {BLOCK_HEADER_BYTES}")
        code, bits, rank, reserved, lo, step, size = _BLOCK.unpack_from(view)
        view = view[BLOCK_HEADER_BYTES:]
        if rank > _MAX_RANK or reserved:
            raise MessageError(f"tensor {spec.name!r}: rank {rank} and reserved {reserved},"
                               f" wanted at most {_MAX_RANK} and 0")
        if 4 * rank > len(view):
            raise MessageError(f"tensor {spec.name!r}: shape cut short")
        dims = struct.unpack_from(f"<{rank}I", view)
        view = view[4 * rank:]
        if size > len(view):
            raise MessageError(f"tensor {spec.name!r} says {size} bytes follow, {len(view)} do")
        data, rest = view[:size], view[size:]
        if rank and code != Encoding.STORED:
            raise MessageError(f"tensor {spec.name!r}: only stored tensors state their shape")
        if code in (Encoding.STORED, Encoding.ZSTD, Encoding.JPEG):
            if bits or lo or step:
                raise MessageError(f"tensor {spec.name!r}: encoding {code} with bits {bits},"
                                   f" lo {lo}, step {step}, wanted zeros")
        if dims and dims != spec.shape and not any_shape:
            raise MessageError(f"tensor {spec.name!r} has shape {list(dims)}, the bundle says"
                               f" {list(spec.shape)}")
        if code == Encoding.STORED:
            return _decode_stored(data, spec, dims), rest
        if code == Encoding.ZSTD:
            return self._decode_zstd(data, spec), rest
        if code == Encoding.JPEG:
            return self._decode_jpeg(data, spec), rest
        if code in (Encoding.PACKED, Encoding.PACKED_ZSTD, Encoding.SYMBOLS_ZSTD):
            return self._decode_quantized(Encoding(code), data, spec, bits, lo, step), rest
        raise MessageError(f"tensor {spec.name!r}: unknown encoding {code}")

    def _decode_zstd(self, data: memoryview, spec: TensorSpec) -> np.ndarray:
        raw = self._decompress(data, spec.nbytes, spec.name)
        if spec.np_dtype.itemsize != 1:
            return raw.view(spec.np_dtype).reshape(spec.shape)
        array = np.empty(spec.nbytes, np.uint8)
        cext.pixels_from_planes(raw, array, spec.channels)
        _check_bools(array, spec)
        return array.view(spec.np_dtype).reshape(spec.shape)

    def _decode_quantized(self, encoding: Encoding, data: memoryview, spec: TensorSpec,
                          bits: int, lo: float, step: float) -> np.ndarray:
        if spec.dtype not in _QUANTIZABLE or not spec.elements:
            raise MessageError(f"tensor {spec.name!r}: {spec.dtype}{list(spec.shape)} cannot be"
                               " quantized")
        if not 1 <= bits <= 8 or not (math.isfinite(lo) and math.isfinite(step) and step >= 0):
            raise MessageError(f"tensor {spec.name!r}: bits {bits}, lo {lo}, step {step}")
        packed_bytes = _packed_bytes(spec.elements, bits)
        try:
            if encoding == Encoding.SYMBOLS_ZSTD:
                planes = self._decompress(data, spec.elements, spec.name)
            else:
                if encoding == Encoding.PACKED:
                    packed = np.frombuffer(data, np.uint8)
                    if len(data) != packed_bytes:
                        raise MessageError(f"tensor {spec.name!r}: {len(data)} bytes of packed"
                                           f" symbols, wanted {packed_bytes}")
                else:
                    packed = self._decompress(data, packed_bytes, spec.name)
                planes = self._buffer("planes", spec.elements)
                cext.unpack_bits(packed, planes, bits)
            symbols = self._buffer("symbols", spec.elements)
            cext.pixels_from_planes(planes, symbols, spec.channels)
            return _from_symbols(symbols, spec, bits, lo, step)
        except ValueError as e:       # symbols out of range, non-zero padding
            raise MessageError(f"tensor {spec.name!r}: {e}") from None

    def _decode_jpeg(self, data: memoryview, spec: TensorSpec) -> np.ndarray:
        from split_core import pictures

        image = self._image
        if image is None or image.tensor != spec.name:
            raise MessageError(f"tensor {spec.name!r} is no image input")
        try:
            samples = pictures.pull_jpeg(data, image.height, image.width, image.channels)
        except InputError as e:
            raise MessageError(f"tensor {spec.name!r}: {e}") from None
        return pictures.from_samples(samples, image, spec.np_dtype).reshape(spec.shape)

    def _decompress(self, data: memoryview, nbytes: int, name: str) -> np.ndarray:
        """Exactly ``nbytes``. The frame header must claim that much, because zstandard
        allocates what the header claims and `max_output_size` does not cap it."""
        try:
            frame = zstandard.get_frame_parameters(data)
            if frame.content_size != nbytes:
                raise MessageError(f"tensor {name!r}: zstd frame claims {frame.content_size}"
                                   f" bytes, the bundle says {nbytes}")
            if frame.window_size > max(_MAX_WINDOW_BYTES, nbytes):
                raise MessageError(f"tensor {name!r}: zstd window of {frame.window_size} bytes")
            raw = self._unzstd.decompress(data, max_output_size=nbytes, allow_extra_data=False)
        except zstandard.ZstdError as e:
            raise MessageError(f"tensor {name!r}: {e}") from None
        if len(raw) != nbytes:
            raise MessageError(f"tensor {name!r}: {len(raw)} bytes, wanted {nbytes}")
        return np.frombuffer(raw, np.uint8)

    # -- scratch

    def _buffer(self, name: str, size: int) -> np.ndarray:
        held = self._scratch.get(name)
        if held is None or held.size < size:
            held = self._scratch[name] = np.empty(size, np.uint8)
        return held[:size]

    def _planes(self, symbols: np.ndarray, channels: int) -> np.ndarray:
        if channels <= 1:
            return symbols
        planes = self._buffer("planes", symbols.size)
        cext.planes_from_pixels(symbols, planes, channels)
        return planes

    def _pack(self, planes: np.ndarray, bits: int) -> np.ndarray:
        packed = self._buffer("packed", _packed_bytes(planes.size, bits))
        cext.pack_bits(planes, packed, bits)
        return packed


def _block(encoding: Encoding, data: bytes, *, bits: int = 0, lo: float = 0.0, step: float = 0.0,
           dims: tuple[int, ...] = ()) -> tuple[bytes, bytes, bytes]:
    head = _BLOCK.pack(encoding, bits, len(dims), 0, lo, step, len(data))
    return head, struct.pack(f"<{len(dims)}I", *dims), data


def _packed_bytes(elements: int, bits: int) -> int:
    return (elements * bits + 7) // 8


def _float_grid(bounds: tuple[float, float], top: int) -> tuple[float, float, float]:
    """Lowest value, step and its inverse for symbols 0..top over ``bounds``, as float32."""
    lo, hi = np.float32(bounds[0]), np.float32(bounds[1])
    # In double precision: the range of extreme floats is larger than a float32 can hold.
    step = np.float32((float(hi) - float(lo)) / top)
    if not np.isfinite(step) or step <= np.finfo(np.float32).tiny:
        return float(lo), 0.0, 0.0
    return float(lo), float(step), float(np.float32(1.0 / float(step)))


def _integer_grid(bounds: tuple[float, float], top: int) -> tuple[float, float]:
    """Lowest stored value and step; a step of 1, which loses nothing, where that suffices."""
    lo, hi = bounds
    return (lo, 1.0) if hi - lo <= top else (lo, float(np.float32((hi - lo) / top)))


def _integer_to_symbol(dtype: str, lo: float, step: float, top: int) -> np.ndarray:
    """Symbol of each stored byte, indexed by the byte as unsigned."""
    stored = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
    return np.clip(np.rint((stored - lo) / step), 0, top).astype(np.uint8)


def _from_symbols(symbols: np.ndarray, spec: TensorSpec, bits: int, lo: float,
                  step: float) -> np.ndarray:
    # In double precision: exact products, one rounding, the same on every platform.
    values = np.arange(1 << bits, dtype=np.float64) * step + lo
    if spec.dtype == "float32":
        limit = np.finfo(np.float32).max
        table = np.clip(values, -limit, limit).astype(np.float32)
        array = np.empty(spec.elements, np.float32)
        cext.lookup_f32(symbols, array, table)
        return array.reshape(spec.shape)
    info = np.iinfo(spec.np_dtype)
    table = np.zeros(256, np.uint8)
    table[: len(values)] = np.clip(np.rint(values), info.min, info.max).astype(
        spec.np_dtype).view(np.uint8)
    if bits < 8 and symbols.size and symbols.max() >> bits:
        raise MessageError(f"tensor {spec.name!r}: symbol {symbols.max()} of {bits} bits")
    array = np.empty(spec.elements, np.uint8)
    cext.lookup_u8(symbols, array, table)
    return array.view(spec.np_dtype).reshape(spec.shape)


def _decode_stored(data: memoryview, spec: TensorSpec, dims: tuple[int, ...]) -> np.ndarray:
    shape = dims or spec.shape
    nbytes = math.prod(shape) * spec.np_dtype.itemsize
    if len(data) != nbytes:
        raise MessageError(f"tensor {spec.name!r}: {len(data)} bytes stored, wanted {nbytes}")
    _check_bools(np.frombuffer(data, np.uint8), spec)
    try:
        return np.frombuffer(data, spec.np_dtype).reshape(shape)
    except ValueError as e:           # no elements, and other sizes too large to multiply
        raise MessageError(f"tensor {spec.name!r}: shape {list(shape)}: {e}") from None


def _check_bools(array: np.ndarray, spec: TensorSpec) -> None:
    if spec.dtype == "bool" and array.size and array.max() > 1:
        raise MessageError(f"tensor {spec.name!r}: a bool of value {array.max()}")
