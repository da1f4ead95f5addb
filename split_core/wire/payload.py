"""Boundary tensors to payload bytes and back.

A rung says how: raw (lossless), quantized to 1..8 bits, transformed with the bundle's tables,
or the image input as a picture file. Every tensor is a block with a header of 16 bytes; its
shape, type and size come from the bundle. The block decides for itself what it stores, so a
tensor that coding does not shrink, or of a type without a quantizer, travels as it is.

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
from split_core.errors import BundleError, InputError, MessageError
from split_core.model.coding import TensorCoding
from split_core.model.manifest import ImageInput
from split_core.tensors import TensorSpec
from split_core.wire.grids import (
    float_grid, from_symbols, integer_grid, integer_to_symbol, packed_bytes,
)
from split_core.wire.messages import Codec
from split_core.wire.rungs import BASE_OFFSET, MAX_STEP_INDEX, STEPS_AN_OCTAVE, Rung
from split_core.wire.transformed import TensorTransform

_BLOCK = struct.Struct("<BBBBffI")
# The same 16 bytes of a transformed tensor: a margin in place of lo, a step index of step.
_INDEXED = struct.Struct("<BBBBfiI")
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
    WEBP = 6
    TRANSFORMED = 7       # coded symbols of coefficients
    BASE = 8              # the same, the first of two layers
    REFINEMENT = 9        # the second, in a message of its own


_PICTURES = {"jpeg": Encoding.JPEG, "webp": Encoding.WEBP}
# Tensors that a calibrated rung finds without tables lose next to nothing.
_WITHOUT_TABLES = Rung(Codec.QUANTIZED, 8, "q")
# A payload above its ceiling is coded again with the step that the excess asks for: a byte
# count falls with about the 0.8th power of the step. Once nearly always; a frame unlike those
# of the calibration takes more, and each time a bolder one.
_CEILING_TRIES = 12
_BYTES_EXPONENT, _BOLDER = 0.8, 1.5


@dataclass(slots=True)
class Layers:
    """A payload in two layers: what either side holds until the second is asked for."""

    index: int
    specs: tuple[TensorSpec, ...]
    margin: float
    # By tensor: symbols of the fine step (device) or of the base (worker).
    symbols: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]            # decoded; those without tables are final


class Coder:
    """Encodes and decodes payloads, for one thread."""

    def __init__(self, *, clips: Mapping[str, tuple[float, float] | None] | None = None,
                 image: ImageInput | None = None, lossless: Container[str] = (),
                 codings: Mapping[str, TensorCoding] | None = None):
        self._clips, self._image, self._lossless = clips or {}, image, lossless
        self._codings = codings or {}
        self._transforms: dict[str, TensorTransform] = {}
        self._zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=False)
        self._unzstd = zstandard.ZstdDecompressor()
        self._scratch: dict[str, np.ndarray] = {}
        self._skips: dict[str, int] = {}         # tensor: frames to go without trying zstd

    # -- tensors to bytes

    def encode(self, arrays: Sequence[np.ndarray], specs: Sequence[TensorSpec],
               rung: Rung) -> bytes:
        """The payload of ``arrays``, which have the shapes and types of ``specs``, with a
        rung that needs no tables."""
        return b"".join(
            part for array, spec in zip(arrays, specs, strict=True)
            for part in self._encode_one(array, spec, rung)
        )

    def encode_at(self, arrays: Sequence[np.ndarray], specs: Sequence[TensorSpec], index: int,
                  ceiling_bytes: float = math.inf) -> tuple[bytes, int]:
        """The payload with the bundle's tables at a step index, and the index used: a larger
        one where the payload would exceed ``ceiling_bytes``."""
        index = _clamp_index(index)
        for attempt in range(_CEILING_TRIES):
            payload = b"".join(part for array, spec in zip(arrays, specs, strict=True)
                               for part in self._encode_transformed(array, spec, index))
            if len(payload) <= ceiling_bytes or index == MAX_STEP_INDEX:
                break
            octaves = math.log2(len(payload) / ceiling_bytes) / _BYTES_EXPONENT
            octaves *= _BOLDER**attempt
            index = _clamp_index(index + max(1, math.ceil(STEPS_AN_OCTAVE * octaves)))
        return payload, index

    def encode_base(self, arrays: Sequence[np.ndarray], specs: Sequence[TensorSpec], index: int,
                    margin: float) -> tuple[bytes, Layers]:
        """The base layer of what `encode_at` codes at ``index``, three times as coarse, and
        what the refinement is made of. Below ``margin`` a worker asks for that."""
        index = _clamp_index(index + BASE_OFFSET)
        layers, parts = Layers(index, tuple(specs), margin, {}, {}), []
        for array, spec in zip(arrays, specs, strict=True):
            transform = self._transform(spec)
            if transform is None:
                parts += self._encode_one(array, spec, _WITHOUT_TABLES)
                continue
            data, layers.symbols[spec.name] = transform.encode_base(array, index)
            if data is None:
                # Too rich to gain anything by layers: whole at once.
                del layers.symbols[spec.name]
                parts += self._encode_transformed(array, spec, index - BASE_OFFSET)
            else:
                parts += _indexed(Encoding.BASE, data, index, margin)
        return b"".join(parts), layers

    def encode_refinement(self, layers: Layers) -> bytes:
        """The second layer: a block for each tensor that the first coded as a base."""
        return b"".join(
            part for spec in layers.specs if spec.name in layers.symbols
            for part in _indexed(Encoding.REFINEMENT, self._transform(spec).encode_refinement(
                layers.symbols[spec.name], layers.index), layers.index))

    def prepare(self, specs: Sequence[TensorSpec]) -> None:
        """Unpack the tables of ``specs``, so that the first payload does not wait for it.
        Raises BundleError."""
        for spec in specs:
            self._transform(spec)

    def _transform(self, spec: TensorSpec) -> TensorTransform | None:
        if spec.name not in self._transforms:
            coding = self._codings.get(spec.name)
            if coding is None or spec.name in self._lossless:
                return None
            try:
                self._transforms[spec.name] = TensorTransform(coding, spec)
            except ValueError as e:
                raise BundleError(f"codec tables of {spec.name!r}: {e}") from None
        return self._transforms[spec.name]

    def _encode_transformed(self, array: np.ndarray, spec: TensorSpec, index: int):
        transform = self._transform(spec)
        data = None if transform is None else transform.encode(array, index)
        if data is None:
            return self._encode_one(array, spec, _WITHOUT_TABLES)
        return _indexed(Encoding.TRANSFORMED, data, index)

    def _encode_one(self, array: np.ndarray, spec: TensorSpec, rung: Rung):
        if spec.name in self._lossless:
            return self._encode_lossless(array, spec)
        if rung.codec == Codec.IMAGE and self._image and self._image.tensor == spec.name:
            return _block(_PICTURES[rung.kind], self._encode_picture(array, rung))
        if rung.codec == Codec.QUANTIZED and spec.dtype in _QUANTIZABLE and array.size:
            return self._encode_quantized(array, spec, int(rung.level))
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
            lo, step, inverse = float_grid(self._range(flat, spec), top)
            cext.quantize_f32(flat, symbols, lo, inverse, top)
        else:
            lo, step = integer_grid(self._range(flat, spec), top)
            cext.lookup_u8(flat.view(np.uint8), symbols,
                           integer_to_symbol(spec.dtype, lo, step, top))
        planes = self._planes(symbols, spec.channels)
        packed = None
        if bits <= _PACK_UP_TO_BITS:
            packed = self._pack(planes, bits)
            coded, encoding = self._zstd.compress(packed), Encoding.PACKED_ZSTD
        else:
            coded, encoding = self._zstd.compress(planes), Encoding.SYMBOLS_ZSTD
        if len(coded) >= packed_bytes(flat.size, bits):
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

    def _encode_picture(self, array: np.ndarray, rung: Rung) -> bytes:
        from split_core import pictures      # loads Pillow, which few devices need

        image, quality = self._image, int(rung.level)
        samples = pictures.to_samples(array, image)
        samples = samples.reshape(image.height, image.width, image.channels)
        if rung.kind == "webp":
            return pictures.push_webp(samples, quality)
        return pictures.push_jpeg(samples, quality, image.jpeg_tables)

    # -- bytes to tensors

    def decode(self, payload: memoryview, specs: Sequence[TensorSpec], *,
               any_shape: Container[str] = ()) -> list[np.ndarray]:
        """Arrays of the shapes and types of ``specs``; stored tensors named in ``any_shape``
        may state another shape (model outputs that only running sizes). Raises MessageError."""
        return self.decode_layers(payload, specs, any_shape=any_shape)[0]

    def decode_layers(self, payload: memoryview, specs: Sequence[TensorSpec], *,
                      any_shape: Container[str] = ()
                      ) -> tuple[list[np.ndarray], Layers | None]:
        """As `decode`, and what a refinement needs where the payload is a base layer."""
        view, arrays = memoryview(payload), []
        layers = Layers(0, tuple(specs), 0.0, {}, {})
        for spec in specs:
            array, view = self._decode_one(view, spec, spec.name in any_shape, layers)
            arrays.append(array)
        if len(view):
            raise MessageError(f"{len(view)} bytes left over behind {len(specs)} tensors")
        layers.arrays.update((s.name, a) for s, a in zip(specs, arrays))
        return arrays, layers if layers.symbols else None

    def refine(self, layers: Layers, payload: memoryview) -> list[np.ndarray]:
        """The arrays of a base layer with its refinement. Raises MessageError."""
        view, arrays = memoryview(payload), dict(layers.arrays)
        for spec in layers.specs:
            base = layers.symbols.get(spec.name)
            if base is None:
                continue
            code, index, margin, data, view = _pull_indexed(view, spec)
            if code != Encoding.REFINEMENT or index != layers.index or margin:
                raise MessageError(f"tensor {spec.name!r}: encoding {code} at step {index} with"
                                   f" margin {margin}, wanted the refinement of {layers.index}")
            try:
                arrays[spec.name] = self._transform(spec).decode_refinement(data, base, index)
            except ValueError as e:
                raise MessageError(f"tensor {spec.name!r}: {e}") from None
        if len(view):
            raise MessageError(f"{len(view)} bytes left over behind a refinement")
        return [arrays[s.name] for s in layers.specs]

    def _decode_one(self, view: memoryview, spec: TensorSpec, any_shape: bool,
                    layers: Layers | None = None):
        if len(view) and view[0] in (Encoding.TRANSFORMED, Encoding.BASE):
            return self._decode_transformed(view, spec, layers)
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
        if code in (Encoding.STORED, Encoding.ZSTD, *_PICTURES.values()):
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
        if code in _PICTURES.values():
            return self._decode_picture(Encoding(code), data, spec), rest
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
        wanted_bytes = packed_bytes(spec.elements, bits)
        try:
            if encoding == Encoding.SYMBOLS_ZSTD:
                planes = self._decompress(data, spec.elements, spec.name)
            else:
                if encoding == Encoding.PACKED:
                    packed = np.frombuffer(data, np.uint8)
                    if len(data) != wanted_bytes:
                        raise MessageError(f"tensor {spec.name!r}: {len(data)} bytes of packed"
                                           f" symbols, wanted {wanted_bytes}")
                else:
                    packed = self._decompress(data, wanted_bytes, spec.name)
                planes = self._buffer("planes", spec.elements)
                cext.unpack_bits(packed, planes, bits)
            symbols = self._buffer("symbols", spec.elements)
            cext.pixels_from_planes(planes, symbols, spec.channels)
            return from_symbols(symbols, spec, bits, lo, step)
        except ValueError as e:       # symbols out of range, non-zero padding
            raise MessageError(f"tensor {spec.name!r}: {e}") from None

    def _decode_transformed(self, view: memoryview, spec: TensorSpec, layers: Layers):
        code, index, margin, data, rest = _pull_indexed(view, spec)
        transform = self._transform(spec)
        if transform is None:
            raise MessageError(f"tensor {spec.name!r} has no codec tables in this bundle")
        try:
            array, symbols = transform.decode(data, index)
        except ValueError as e:
            raise MessageError(f"tensor {spec.name!r}: {e}") from None
        if code == Encoding.BASE:
            if layers.symbols and (layers.index, layers.margin) != (index, margin):
                raise MessageError(f"tensor {spec.name!r}: step {index} and margin {margin}, the"
                                   f" one before has {layers.index} and {layers.margin}")
            layers.index, layers.margin = index, margin
            layers.symbols[spec.name] = symbols
        elif margin:
            raise MessageError(f"tensor {spec.name!r}: margin {margin}, wanted 0")
        return array, rest

    def _decode_picture(self, code: Encoding, data: memoryview, spec: TensorSpec) -> np.ndarray:
        from split_core import pictures

        image = self._image
        if image is None or image.tensor != spec.name:
            raise MessageError(f"tensor {spec.name!r} is no image input")
        pull = pictures.pull_webp if code == Encoding.WEBP else pictures.pull_jpeg
        try:
            samples = pull(data, image.height, image.width, image.channels)
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
        packed = self._buffer("packed", packed_bytes(planes.size, bits))
        cext.pack_bits(planes, packed, bits)
        return packed


def _block(encoding: Encoding, data: bytes, *, bits: int = 0, lo: float = 0.0, step: float = 0.0,
           dims: tuple[int, ...] = ()) -> tuple[bytes, bytes, bytes]:
    head = _BLOCK.pack(encoding, bits, len(dims), 0, lo, step, len(data))
    return head, struct.pack(f"<{len(dims)}I", *dims), data


def _indexed(encoding: Encoding, data: bytes, index: int, margin: float = 0.0):
    return _INDEXED.pack(encoding, 0, 0, 0, margin, index, len(data)), data


def _pull_indexed(view: memoryview, spec: TensorSpec):
    """Encoding, step index, margin, data and the rest behind one block. Raises MessageError."""
    if len(view) < BLOCK_HEADER_BYTES:
        raise MessageError(f"tensor {spec.name!r}: {len(view)} bytes left, its block header"
                           f" alone has {BLOCK_HEADER_BYTES}")
    code, *reserved, margin, index, size = _INDEXED.unpack_from(view)
    view = view[BLOCK_HEADER_BYTES:]
    if any(reserved) or not 0 <= margin <= 1 or abs(index) > MAX_STEP_INDEX:
        raise MessageError(f"tensor {spec.name!r}: reserved {reserved}, margin {margin}, step"
                           f" index {index}; wanted zeros, 0 to 1, at most {MAX_STEP_INDEX}")
    if size > len(view):
        raise MessageError(f"tensor {spec.name!r} says {size} bytes follow, {len(view)} do")
    return code, index, margin, view[:size], view[size:]


def _clamp_index(index: int) -> int:
    return max(-MAX_STEP_INDEX, min(MAX_STEP_INDEX, index))


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
