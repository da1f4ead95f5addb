"""Damage to a payload, as bytes say: what the mutation test draws and the fuzzer breeds.

A program is a run of edits of seven bytes: operation, places a and b (u16), a value, a
length. Any bytes are a program, so that a fuzzer may change them as it likes.
"""

from __future__ import annotations

import struct

_EDIT = struct.Struct("<BHHBB")
EDIT_BYTES = _EDIT.size
MOST_EDITS = 8
# What a length field may claim that no length is.
_EXTREMES = (0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFF0)


def edit(payload: bytes, program: bytes, other: bytes = b"") -> bytes:
    """``payload`` after its damage; splices take from ``other``."""
    data = bytearray(payload)
    for at in range(0, min(len(program), EDIT_BYTES * MOST_EDITS) - EDIT_BYTES + 1, EDIT_BYTES):
        data = _apply(data, other, *_EDIT.unpack_from(program, at))
    return bytes(data)


def _apply(data: bytearray, other: bytes, op: int, a: int, b: int, value: int,
           length: int) -> bytearray:
    a %= len(data) + 1
    match op % 9:
        case 0 if a < len(data):
            data[a] ^= 1 << value % 8
        case 1 if a < len(data):
            data[a] = value
        case 2:
            del data[a:]
        case 3:
            del data[a:a + length]
        case 4:
            data[a:a] = bytes([value]) * length
        case 5:                                    # a splice
            data[a:] = other[b % (len(other) + 1):]
        case 6:                                    # repeated bytes
            data[a:a] = data[a:a + length] * (value % 4)
        case 7:                                    # a block's length field
            heads = headers(data)
            if heads:
                at = heads[a % len(heads)] + 12
                size = _EXTREMES[value % 6] if value < 128 else (
                    int.from_bytes(data[at:at + 4], "little") + b - 32768) % 2**32
                data[at:at + 4] = size.to_bytes(4, "little")
        case 8:                                    # two blocks change places
            heads = [*headers(data), len(data)]
            blocks = [data[i:j] for i, j in zip(heads, heads[1:])]
            if blocks:
                i, j = a % len(blocks), b % len(blocks)
                blocks[i], blocks[j] = blocks[j], blocks[i]
                data = bytearray().join(blocks)
    return data


def headers(payload: bytes) -> list[int]:
    """Where the block headers of a payload begin, as far as its lengths make sense."""
    found, at = [], 0
    while at + 16 <= len(payload) and len(found) < 32:
        found.append(at)
        at += 16 + 4 * payload[at + 2] + int.from_bytes(payload[at + 12:at + 16], "little")
    return found
