"""Codec tables: what `edge-agent calibrate` learnt of a boundary tensor.

They travel in the bundle's metadata entry `split.coding` (docs/bundle-format.md), so that a
frame carries none of them: a mean, three small matrices, and one exponent for each row,
column and channel, whose sum is 16 * log2 of a coefficient's variance.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import msgspec
import numpy as np

from split_core.errors import BundleError
from split_core.tensors import TensorSpec

CODING_NAME = "split.coding"
FORMAT = 1
# A matrix of more channels would weigh more than the model's own layers, and a hundred inputs
# say little of so many directions: such a tensor is scaled channel by channel.
MAX_MATRIX = 512
# What one tensor's tables may claim before anything is allocated for them.
_MAX_ELEMENTS = 1 << 24


class TensorCoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor's tables. A tensor is seen as [blocks_h * rows, blocks_w * columns, channels].

    Matrices are float16 times a scale, empty for the identity; `channel` holds C values
    instead of C * C where channels are only scaled. The mean is in the coefficient domain,
    int16 times its step, deflated.
    """

    name: str
    blocks: tuple[int, int, int, int, int]   # blocks_h, rows, blocks_w, columns, channels
    channel_scale: float
    channel: bytes
    row: bytes
    column: bytes
    mean_step: float
    mean: bytes
    row_exponents: tuple[int, ...]
    column_exponents: tuple[int, ...]
    channel_exponents: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.blocks)

    def matrices(self) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """Channel, row and column matrix, float32; None for the identity."""
        _, rows, _, columns, channels = self.blocks
        channel = _halves(self.channel)
        if channel is not None:
            channel = channel * np.float32(self.channel_scale)
            channel = channel.reshape(channels, channels) if channel.size > channels else channel
        row, column = _halves(self.row), _halves(self.column)
        return (channel, None if row is None else row.reshape(rows, rows),
                None if column is None else column.reshape(columns, columns))

    def mean_coefficients(self) -> np.ndarray:
        """The transformed mean, float32 [elements]."""
        # One byte more than wanted shows what claims to be longer, and allocates no more.
        raw = zlib.decompressobj().decompress(self.mean, 2 * self.elements + 1)
        if len(raw) != 2 * self.elements:
            raise BundleError(f"damaged bundle: codec tables of {self.name!r}: mean of"
                              f" {len(raw)} bytes, wanted {2 * self.elements}")
        return np.frombuffer(raw, "<i2") * np.float32(self.mean_step)

    def exponents(self) -> np.ndarray:
        """round(16 * log2(variance)) of every coefficient, int16 [elements]."""
        blocks_h, _, blocks_w, _, channels = self.blocks
        row = np.tile(np.int32(self.row_exponents), blocks_h)
        column = np.tile(np.int32(self.column_exponents), blocks_w)
        total = (row[:, None, None] + column[None, :, None]
                 + np.int32(self.channel_exponents)[None, None, :])
        return np.clip(total, -32768, 32767).astype(np.int16).ravel()


def _halves(data: bytes) -> np.ndarray | None:
    return np.frombuffer(data, "<f2").astype(np.float32) if data else None


def push_halves(matrix: np.ndarray | None) -> bytes:
    return b"" if matrix is None else np.ascontiguousarray(matrix, "<f2").tobytes()


def push_mean(coefficients: np.ndarray, step: float) -> bytes:
    """``coefficients`` float [elements] in steps, as `TensorCoding.mean` holds them."""
    steps = np.clip(np.rint(coefficients.ravel() / step), -32767, 32767).astype("<i2")
    return zlib.compress(steps.tobytes(), 9)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    tensors: tuple[TensorCoding, ...]


def push_coding(codings: Mapping[str, TensorCoding]) -> bytes:
    """The metadata entry."""
    return msgspec.msgpack.encode(_File(FORMAT, tuple(codings.values())))


def pull_coding(data: bytes, specs: Mapping[str, TensorSpec]) -> dict[str, TensorCoding]:
    """The tables of a bundle's tensors, checked against their shapes. Raises BundleError."""
    try:
        file = msgspec.msgpack.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise BundleError(f"damaged bundle: {CODING_NAME}: {e}") from None
    if file.format != FORMAT:
        raise BundleError(f"codec tables of format {file.format}, this program reads {FORMAT}")
    for tensor in file.tensors:
        _check(tensor, specs)
    return {t.name: t for t in file.tensors}


def _check(t: TensorCoding, specs: Mapping[str, TensorSpec]) -> None:
    spec = specs.get(t.name)
    if spec is None:
        raise BundleError(f"damaged bundle: codec tables of {t.name!r}, which crosses no cut")
    if (min(t.blocks) < 1 or t.elements != spec.elements or t.elements > _MAX_ELEMENTS
            or t.blocks[4] != spec.channels or spec.dtype not in ("float32", "int8", "uint8")):
        raise BundleError(f"damaged bundle: codec tables of {t.name!r} are for"
                          f" {list(t.blocks)}, the tensor is {spec.dtype}{list(spec.shape)}")
    _, rows, _, columns, channels = t.blocks
    sizes = {"channel": (len(t.channel) / 2, (0, channels, channels * channels)),
             "row": (len(t.row) / 2, (0, rows * rows)),
             "column": (len(t.column) / 2, (0, columns * columns)),
             "row exponents": (len(t.row_exponents), (rows,)),
             "column exponents": (len(t.column_exponents), (columns,)),
             "channel exponents": (len(t.channel_exponents), (channels,))}
    for what, (found, wanted) in sizes.items():
        if found not in wanted:
            raise BundleError(f"damaged bundle: codec tables of {t.name!r}: {what} has {found}"
                              f" values, wanted {' or '.join(map(str, wanted))}")
    if not all(math.isfinite(v) and v > 0 for v in (t.channel_scale, t.mean_step)):
        raise BundleError(f"damaged bundle: codec tables of {t.name!r}: scale"
                          f" {t.channel_scale} and mean step {t.mean_step}")
    if any(abs(e) > 8192 for e in
           (*t.row_exponents, *t.column_exponents, *t.channel_exponents)):
        raise BundleError(f"damaged bundle: codec tables of {t.name!r}: exponent out of range")
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            mean, (channel, row, column) = t.mean_coefficients(), t.matrices()
    except zlib.error as e:
        raise BundleError(f"damaged bundle: codec tables of {t.name!r}: {e}") from None
    if not all(np.isfinite(m).all() for m in (mean, channel, row, column) if m is not None):
        raise BundleError(f"damaged bundle: codec tables of {t.name!r} are not finite")
    if channel is not None and channel.ndim == 1 and not channel.all():
        raise BundleError(f"damaged bundle: codec tables of {t.name!r} scale a channel by 0")
