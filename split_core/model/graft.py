"""Writes a bundle: a new index of segments in front of the model's own bytes.

FlatBuffers offsets point forward, so new tables may share the old ones: each segment's
subgraph lists the model's own Tensor tables, each of its ops keeps the model's options, and
all weights stay where they are. The model's bytes are the bundle's tail, unchanged, whatever
schema extensions they use. This is the only importer of `flatbuffers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import flatbuffers
from flatbuffers import number_types

from split_core.errors import BundleError
from split_core.model import schema
from split_core.model.flatbuffer import Table
from split_core.model.graph import Graph
from split_core.model.manifest import SIGNATURE_PREFIX

# Constant data is aligned to 16 in the model (schema.fbs, Buffer.data); its place in the
# bundle must keep that, so the index in front is a multiple of it.
_ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class SegmentTensors:
    """One segment to write: a range of ops and its inputs and outputs, as tensor indices."""

    first_op: int
    end_op: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def graft(source: bytes, graph: Graph, segments: Sequence[SegmentTensors],
          metadata: Mapping[str, bytes]) -> bytes:
    """The bundle's bytes for ``source``, which ``graph`` was read from."""
    return _Grafter(source, graph).write(segments, metadata)


class _Grafter:
    def __init__(self, source: bytes, graph: Graph):
        padded = len(source) + -len(source) % _ALIGNMENT
        if padded >= 2**31 - 2**24:
            raise BundleError(f"model of {len(source)} bytes: a bundle may have 2 GiB at most")
        self.graph = graph
        self.end = padded                     # builder offsets count back from the file's end
        self.subgraph = graph.root.tables(schema.Model.SUBGRAPHS, "SubGraph")[0]
        self.ops = self.subgraph.tables(schema.SubGraph.OPERATORS, "op")
        self.tensors = self.subgraph.tables(schema.SubGraph.TENSORS, "tensor")
        self.b = flatbuffers.Builder(0)
        self.b.Bytes = bytearray(padded)
        self.b.Bytes[: len(source)] = source
        self.b.head = 0                       # the model counts as already written

    def old(self, pos: int) -> int:
        """Builder offset of something at absolute position ``pos`` of the model's file."""
        return self.end - pos

    def write(self, segments, metadata: Mapping[str, bytes]) -> bytes:
        b = self.b
        root, model = self.graph.root, schema.Model
        subgraphs = self.vector([self.write_subgraph(i, s) for i, s in enumerate(segments)])
        signatures = self.vector([self.write_signature(i, s) for i, s in enumerate(segments)])
        old_buffers = root.tables(model.BUFFERS, "Buffer")
        new_buffers = [self.write_buffer(data) for data in metadata.values()]
        buffers = self.vector([*(self.old(t.pos) for t in old_buffers), *new_buffers])
        new_entries = [self.write_metadata(name, len(old_buffers) + i)
                       for i, name in enumerate(metadata)]
        entries = [t for t in root.tables(model.METADATA, "Metadata")
                   if t.string(schema.Metadata.NAME) not in metadata]
        metadata_vector = self.vector([*(self.old(t.pos) for t in entries), *new_entries])
        fields = {
            model.VERSION: ("u32", schema.SCHEMA_VERSION),
            model.OPERATOR_CODES: self.kept(root, model.OPERATOR_CODES),
            model.SUBGRAPHS: ("ref", subgraphs),
            model.DESCRIPTION: self.kept(root, model.DESCRIPTION),
            model.BUFFERS: ("ref", buffers),
            model.METADATA: ("ref", metadata_vector),
            model.SIGNATURE_DEFS: ("ref", signatures),
        }
        end = self.table(model.FIELDS, fields)
        # Finish pads to the largest alignment used, so the model starts at a multiple of 16.
        b.Finish(end, file_identifier=schema.FILE_IDENTIFIER)
        return bytes(b.Output())

    def write_buffer(self, data: bytes) -> int:
        b = self.b
        b.StartVector(1, len(data), _ALIGNMENT)
        b.head -= len(data)
        b.Bytes[b.head : b.head + len(data)] = data
        return self.table(schema.Buffer.FIELDS, {schema.Buffer.DATA: ("ref", b.EndVector())})

    def write_metadata(self, name: str, buffer: int) -> int:
        text = self.b.CreateString(name)
        return self.table(schema.Metadata.FIELDS, {
            schema.Metadata.NAME: ("ref", text), schema.Metadata.BUFFER: ("u32", buffer)})

    def write_subgraph(self, index: int, segment: SegmentTensors) -> int:
        local = self.local_indices(segment)
        tensors = self.vector([self.old(self.tensors[t].pos) for t in local])
        ops = self.vector([
            self.write_op(op, local) for op in range(segment.first_op, segment.end_op)
        ])
        fields = schema.SubGraph
        return self.table(fields.FIELDS, {
            fields.TENSORS: ("ref", tensors),
            fields.INPUTS: ("ref", self.ints([local[t] for t in segment.inputs])),
            fields.OUTPUTS: ("ref", self.ints([local[t] for t in segment.outputs])),
            fields.OPERATORS: ("ref", ops),
            fields.NAME: ("ref", self.b.CreateString(f"{SIGNATURE_PREFIX}{index}")),
        })

    def local_indices(self, segment: SegmentTensors) -> dict[int, int]:
        """Model tensor index -> index in the segment, for the tensors that it touches."""
        ops = self.graph.ops[segment.first_op : segment.end_op]
        used = {*segment.inputs, *segment.outputs, *(t for op in ops for t in op.tensors)}
        return {t: i for i, t in enumerate(sorted(used))}

    def write_op(self, index: int, local: dict[int, int]) -> int:
        op, old, field = self.graph.ops[index], self.ops[index], schema.Operator

        def re_indexed(indices):
            return ("ref", self.ints([local[t] if t >= 0 else -1 for t in indices]))

        fields = {
            field.OPCODE_INDEX: ("u32", old.u32(field.OPCODE_INDEX)),
            field.INPUTS: re_indexed(op.inputs),
            field.OUTPUTS: re_indexed(op.outputs),
            field.BUILTIN_OPTIONS_TYPE: ("u8", old.u8(field.BUILTIN_OPTIONS_TYPE)),
            field.BUILTIN_OPTIONS: self.kept(old, field.BUILTIN_OPTIONS),
            field.CUSTOM_OPTIONS: self.kept(old, field.CUSTOM_OPTIONS),
            field.CUSTOM_OPTIONS_FORMAT: ("u8", old.u8(field.CUSTOM_OPTIONS_FORMAT)),
            field.MUTATING_VARIABLE_INPUTS: self.kept(old, field.MUTATING_VARIABLE_INPUTS),
            field.BUILTIN_OPTIONS_2_TYPE: ("u8", old.u8(field.BUILTIN_OPTIONS_2_TYPE)),
            field.BUILTIN_OPTIONS_2: self.kept(old, field.BUILTIN_OPTIONS_2),
        }
        if op.intermediates:
            fields[field.INTERMEDIATES] = re_indexed(op.intermediates)
        return self.table(field.FIELDS, fields)

    def write_signature(self, index: int, segment: SegmentTensors) -> int:
        local = self.local_indices(segment)
        field = schema.SignatureDef
        return self.table(field.FIELDS, {
            field.INPUTS: ("ref", self.tensor_maps(segment.inputs, local)),
            field.OUTPUTS: ("ref", self.tensor_maps(segment.outputs, local)),
            field.SIGNATURE_KEY: ("ref", self.b.CreateString(f"{SIGNATURE_PREFIX}{index}")),
            field.SUBGRAPH_INDEX: ("u32", index),
        })

    def tensor_maps(self, indices, local: dict[int, int]) -> int:
        field = schema.TensorMap
        return self.vector([
            self.table(field.FIELDS, {
                field.NAME: ("ref", self.b.CreateString(self.graph.spec(t).name)),
                field.TENSOR_INDEX: ("u32", local[t]),
            })
            for t in indices
        ])

    # -- the three shapes everything above is made of

    def kept(self, table: Table, slot: int):
        """A field's value as it stands in the model."""
        pos = table.target(slot)
        return None if pos is None else ("ref", self.old(pos))

    def vector(self, offsets: Sequence[int]) -> int:
        self.b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.b.PrependUOffsetTRelative(offset)
        return self.b.EndVector()

    def ints(self, values: Sequence[int]) -> int:
        self.b.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.b.PrependInt32(value)
        return self.b.EndVector()

    def table(self, fields: int, values: dict) -> int:
        b = self.b
        b.StartObject(fields)
        for slot, value in values.items():
            if value is None:
                continue
            kind, number = value
            if kind == "ref":
                b.PrependUOffsetTRelativeSlot(slot, number, 0)
            elif kind == "u32":
                b.PrependUint32Slot(slot, number, 0)
            else:
                b.PrependSlot(number_types.Uint8Flags, slot, number, 0)
        return b.EndObject()
