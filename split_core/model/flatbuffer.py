"""A bounds-checked reader of FlatBuffers tables.

The generated readers trust every offset; a model file may come from anywhere, so each read
here names the offset that points outside of the file. Layout after the FlatBuffers
"internals" specification: a table starts with a signed offset back to its vtable, a vtable
is u16 size, u16 table size, then one u16 per field (0: absent).

It reads only. Writing is `split_core.model.graft`, the only importer of `flatbuffers`.
"""

from __future__ import annotations

import struct

from split_core.errors import BundleError

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")


class Buffer:
    """The bytes of one file and the checked primitive reads on them."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | memoryview):
        self.data = memoryview(data)

    def _unpack(self, fmt: struct.Struct, pos: int, what: str):
        if pos < 0 or fmt.size > len(self.data) - pos:
            raise BundleError(
                f"damaged model file: {what} at offset {pos} lies outside of its"
                f" {len(self.data)} bytes"
            )
        return fmt.unpack_from(self.data, pos)[0]

    def u16(self, pos: int, what: str) -> int:
        return self._unpack(_U16, pos, what)

    def u32(self, pos: int, what: str) -> int:
        return self._unpack(_U32, pos, what)

    def i32(self, pos: int, what: str) -> int:
        return self._unpack(_I32, pos, what)

    def indirect(self, pos: int, what: str) -> int:
        """The absolute position that the unsigned offset stored at ``pos`` points to."""
        target = pos + self.u32(pos, what)
        if target == pos or target >= len(self.data):
            raise BundleError(
                f"damaged model file: {what} at offset {pos} points to {target},"
                f" outside of its {len(self.data)} bytes"
            )
        return target

    def root(self, what: str) -> Table:
        return Table(self, self.indirect(0, what), what)


class Table:
    """One table. Fields are named by slot number, in the order of the schema."""

    __slots__ = ("buf", "pos", "what", "_vtable", "_slots")

    def __init__(self, buf: Buffer, pos: int, what: str):
        self.buf, self.pos, self.what = buf, pos, what
        self._vtable = pos - buf.i32(pos, f"{what} table")
        size = buf.u16(self._vtable, f"{what} vtable")
        table_size = buf.u16(self._vtable + 2, f"{what} vtable")
        if size < 4 or size % 2 or table_size < 4:
            raise BundleError(
                f"damaged model file: {what} vtable at offset {self._vtable} has sizes"
                f" {size} and {table_size}"
            )
        # Reading the last byte of each proves that the whole of it is inside.
        buf.u16(self._vtable + size - 2, f"{what} vtable")
        if table_size > len(buf.data) - pos:
            raise BundleError(
                f"damaged model file: {what} table at offset {pos} runs past the end"
            )
        self._slots = (size - 4) // 2

    def field(self, slot: int) -> int | None:
        """Absolute position of a field's inline part, None where the file has none."""
        if slot >= self._slots:
            return None
        offset = self.buf.u16(self._vtable + 4 + 2 * slot, self.what)
        return self.pos + offset if offset else None

    def i8(self, slot: int, default: int = 0) -> int:
        pos = self.field(slot)
        return default if pos is None else self.buf._unpack(struct.Struct("<b"), pos, self.what)

    def u8(self, slot: int, default: int = 0) -> int:
        pos = self.field(slot)
        return default if pos is None else self.buf._unpack(struct.Struct("<B"), pos, self.what)

    def i32(self, slot: int, default: int = 0) -> int:
        pos = self.field(slot)
        return default if pos is None else self.buf.i32(pos, self.what)

    def u32(self, slot: int, default: int = 0) -> int:
        pos = self.field(slot)
        return default if pos is None else self.buf.u32(pos, self.what)

    def u64(self, slot: int, default: int = 0) -> int:
        pos = self.field(slot)
        return default if pos is None else self.buf._unpack(struct.Struct("<Q"), pos, self.what)

    def target(self, slot: int) -> int | None:
        """Absolute position of what an offset field points to."""
        pos = self.field(slot)
        return None if pos is None else self.buf.indirect(pos, self.what)

    def table(self, slot: int, what: str) -> Table | None:
        pos = self.target(slot)
        return None if pos is None else Table(self.buf, pos, what)

    def _vector(self, slot: int, itemsize: int) -> tuple[int, int]:
        pos = self.target(slot)
        if pos is None:
            return 0, 0
        count = self.buf.u32(pos, f"{self.what} vector")
        if count * itemsize > len(self.buf.data) - pos - 4:
            raise BundleError(
                f"damaged model file: {self.what} vector at offset {pos} claims {count}"
                f" entries of {itemsize} bytes, more than the file holds"
            )
        return pos + 4, count

    def scalars(self, slot: int, fmt: str) -> tuple:
        """A vector of scalars; ``fmt`` is one `struct` letter."""
        start, count = self._vector(slot, struct.calcsize("<" + fmt))
        return struct.unpack_from(f"<{count}{fmt}", self.buf.data, start) if count else ()

    def octets(self, slot: int) -> memoryview:
        start, count = self._vector(slot, 1)
        return self.buf.data[start : start + count]

    def string(self, slot: int) -> str:
        return bytes(self.octets(slot)).decode("utf-8", "replace")

    def tables(self, slot: int, what: str) -> list[Table]:
        start, count = self._vector(slot, 4)
        return [
            Table(self.buf, self.buf.indirect(start + 4 * i, f"{what} {i}"), f"{what} {i}")
            for i in range(count)
        ]
