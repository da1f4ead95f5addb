"""A `.tflite` model as a checked list of ops and tensors.

Everything a later step relies on is proven here: every offset and index is inside its file,
ops are in topological order, constants have the size their shape says. What fails is refused
with the op, tensor or offset named. Only the graph is read; weights are never copied.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from split_core.errors import BundleError
from split_core.model import schema
from split_core.model.flatbuffer import Buffer, Table
from split_core.tensors import DTYPES, Quantization, TensorSpec

_BITS_PER_ELEMENT = {
    "int4": 4, "uint4": 4, "int2": 2, "float64": 64, "complex64": 64, "complex128": 128,
    "uint64": 64, "uint32": 32, "uint16": 16, "bfloat16": 16,
    "float8_e4m3fn": 8, "float8_e5m2": 8,
} | {name: 8 * dtype.itemsize for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Op:
    """One operator. Tensor indices are the model's; -1 is an optional input left out."""

    index: int
    name: str                        # "CONV_2D", or "CUSTOM:name"
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    rectifies: bool                  # ends in a ReLU, its own or a fused one

    @property
    def tensors(self) -> tuple[int, ...]:
        return tuple(t for t in self.inputs + self.outputs + self.intermediates if t >= 0)


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """One tensor of the model; ``spec.dtype`` may be a type that cannot cross a cut."""

    index: int
    spec: TensorSpec
    constant: bool
    variable: bool
    can_cross: bool                  # fixed-size elements of a type both sides know


@dataclass(frozen=True, slots=True)
class Graph:
    """The model's only subgraph."""

    ops: tuple[Op, ...]
    tensors: tuple[GraphTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    description: str
    metadata: dict[str, bytes]
    root: Table

    def spec(self, index: int) -> TensorSpec:
        return self.tensors[index].spec

    def specs(self, indices) -> tuple[TensorSpec, ...]:
        return tuple(self.tensors[i].spec for i in indices)


def read_graph(data: bytes | memoryview) -> Graph:
    """Parse and check one model file.

    Raises BundleError for a file that is no TFLite model, is damaged, or cannot be split.
    """
    root = _root(data)
    version = root.u32(schema.Model.VERSION)
    if version != schema.SCHEMA_VERSION:
        raise BundleError(
            f"model schema version {version}, this program reads {schema.SCHEMA_VERSION}"
        )
    subgraphs = root.tables(schema.Model.SUBGRAPHS, "SubGraph")
    op_names = _op_names(root)
    for subgraph in subgraphs:
        _refuse_control_flow(subgraph, op_names)
    if len(subgraphs) != 1:
        raise BundleError(
            f"model has {len(subgraphs)} subgraphs; only a model of one can be split"
            " (export each signature to a file of its own)"
        )
    buffers = [_Buffer.read(t) for t in root.tables(schema.Model.BUFFERS, "Buffer")]
    graph = Graph(
        ops=_read_ops(subgraphs[0], op_names),
        tensors=_read_tensors(subgraphs[0], buffers),
        inputs=subgraphs[0].scalars(schema.SubGraph.INPUTS, "i"),
        outputs=subgraphs[0].scalars(schema.SubGraph.OUTPUTS, "i"),
        description=root.string(schema.Model.DESCRIPTION),
        metadata=_read_metadata(root, buffers),
        root=root,
    )
    _check_order(graph)
    return graph


def read_metadata(data: bytes | memoryview) -> dict[str, bytes]:
    """The model's metadata entries alone, of any number of subgraphs."""
    root = _root(data)
    return _read_metadata(
        root, [_Buffer.read(t) for t in root.tables(schema.Model.BUFFERS, "Buffer")]
    )


def _root(data: bytes | memoryview) -> Table:
    if len(data) < 8:
        raise BundleError(f"no TFLite model: it has {len(data)} bytes")
    if bytes(data[4:8]) != schema.FILE_IDENTIFIER:
        raise BundleError(f"no TFLite model: found {bytes(data[4:8])!r} at offset 4, wanted"
                          f" {schema.FILE_IDENTIFIER!r}")
    return Buffer(data).root("Model")


@dataclass(frozen=True, slots=True)
class _Buffer:
    data: memoryview
    external: bool

    @classmethod
    def read(cls, table: Table) -> _Buffer:
        # Offsets of 0 and 1 mean "inside the flatbuffer" (schema.fbs, Buffer.offset).
        return cls(table.octets(schema.Buffer.DATA), table.u64(schema.Buffer.OFFSET) > 1)


def _read_metadata(root: Table, buffers: list[_Buffer]) -> dict[str, bytes]:
    entries = {}
    for table in root.tables(schema.Model.METADATA, "Metadata"):
        index = table.u32(schema.Metadata.BUFFER)
        if index >= len(buffers):
            raise BundleError(f"damaged model file: metadata names buffer {index}"
                              f" of {len(buffers)}")
        entries[table.string(schema.Metadata.NAME)] = bytes(buffers[index].data)
    return entries


def _op_names(root: Table) -> list[str]:
    names = []
    for table in root.tables(schema.Model.OPERATOR_CODES, "OperatorCode"):
        # Codes above 127 did not fit the first, 8-bit field; the larger of both counts.
        code = max(table.i8(schema.OperatorCode.DEPRECATED_BUILTIN_CODE),
                   table.i32(schema.OperatorCode.BUILTIN_CODE))
        if not 0 <= code < len(schema.BUILTIN_OPERATORS):
            raise BundleError(f"unknown builtin operator code {code} in {table.what}")
        name = schema.BUILTIN_OPERATORS[code]
        if name == "CUSTOM":
            name = f"CUSTOM:{table.string(schema.OperatorCode.CUSTOM_CODE)}"
        names.append(name)
    return names


def _op_name(table: Table, op_names: list[str]) -> str:
    code = table.u32(schema.Operator.OPCODE_INDEX)
    if code >= len(op_names):
        raise BundleError(
            f"damaged model file: {table.what} at offset {table.pos} names operator code"
            f" {code} of {len(op_names)}"
        )
    return op_names[code]


def _refuse_control_flow(subgraph: Table, op_names: list[str]) -> None:
    for i, table in enumerate(subgraph.tables(schema.SubGraph.OPERATORS, "op")):
        name = _op_name(table, op_names)
        if name in schema.CONTROL_FLOW:
            raise BundleError(
                f"op {i} {name} runs another subgraph; control flow cannot be split"
            )
        if table.u64(schema.Operator.LARGE_CUSTOM_OPTIONS_OFFSET) > 1:
            raise BundleError(f"op {i} {name} keeps its options outside of the flatbuffer;"
                              " such models cannot be split")


def _read_ops(subgraph: Table, op_names: list[str]) -> tuple[Op, ...]:
    field = schema.Operator
    ops = []
    for i, table in enumerate(subgraph.tables(schema.SubGraph.OPERATORS, "op")):
        name = _op_name(table, op_names)
        ops.append(Op(
            index=i,
            name=name,
            inputs=table.scalars(field.INPUTS, "i"),
            outputs=table.scalars(field.OUTPUTS, "i"),
            intermediates=table.scalars(field.INTERMEDIATES, "i"),
            rectifies=name in ("RELU", "RELU6") or _fused_relu(table, name),
        ))
    return tuple(ops)


def _fused_relu(table: Table, name: str) -> bool:
    slot = schema.FUSED_ACTIVATION.get(name)
    options = table.table(schema.Operator.BUILTIN_OPTIONS, f"{table.what} options")
    if slot is None or options is None:
        return False
    return options.i8(slot) in (schema.RELU, schema.RELU6)


def _read_tensors(subgraph: Table, buffers: list[_Buffer]) -> tuple[GraphTensor, ...]:
    tables = subgraph.tables(schema.SubGraph.TENSORS, "tensor")
    names = _unique([t.string(schema.Tensor.NAME) for t in tables])
    return tuple(
        _read_tensor(i, table, name, buffers)
        for i, (table, name) in enumerate(zip(tables, names))
    )


def _unique(names: list[str]) -> list[str]:
    """Names as they are where they are unique and not empty, else with their index."""
    seen = Counter(names)
    return [
        name if name and seen[name] == 1 else f"{name or 'tensor'}#{i}"
        for i, name in enumerate(names)
    ]


def _read_tensor(index: int, table: Table, name: str, buffers: list[_Buffer]) -> GraphTensor:
    field = schema.Tensor
    code = table.i8(field.TYPE)
    if not 0 <= code < len(schema.TENSOR_TYPES):
        raise BundleError(f"tensor {index} {name!r} has unknown type {code}")
    dtype = schema.TENSOR_TYPES[code]
    shape = table.scalars(field.SHAPE, "i")
    if any(d < 0 for d in shape):
        raise BundleError(f"tensor {index} {name!r} has a negative size in {list(shape)}")
    buffer_index = table.u32(field.BUFFER)
    if buffer_index >= len(buffers):
        raise BundleError(f"damaged model file: tensor {index} {name!r} names buffer"
                          f" {buffer_index} of {len(buffers)}")
    buffer = buffers[buffer_index]
    if buffer.external:
        raise BundleError(f"tensor {index} {name!r} keeps its data outside of the flatbuffer;"
                          " such models cannot be split")
    bits = _BITS_PER_ELEMENT.get(dtype)
    sparse = table.field(field.SPARSITY) is not None
    wanted = (math.prod(shape) * bits + 7) // 8 if bits else None
    if len(buffer.data) and wanted is not None and not sparse and len(buffer.data) != wanted:
        raise BundleError(f"damaged model file: constant tensor {index} {name!r}"
                          f" {dtype}{list(shape)} has {len(buffer.data)} bytes of data,"
                          f" wanted {wanted}")
    return GraphTensor(
        index=index,
        spec=TensorSpec(name, shape, dtype, _read_quantization(table)),
        constant=len(buffer.data) > 0,
        variable=bool(table.u8(field.IS_VARIABLE)),
        can_cross=dtype in DTYPES,
    )


def _read_quantization(table: Table) -> Quantization | None:
    quantization = table.table(schema.Tensor.QUANTIZATION, f"{table.what} quantization")
    if quantization is None:
        return None
    scales = quantization.scalars(schema.Quantization.SCALE, "f")
    zero_points = quantization.scalars(schema.Quantization.ZERO_POINT, "q")
    # Activations are quantized per tensor; per-channel parameters belong to weights.
    if len(scales) != 1:
        return None
    return Quantization(scales[0], zero_points[0] if zero_points else 0)


def _check_order(graph: Graph) -> None:
    """Every index names a tensor, and every op's inputs exist before it runs."""
    count = len(graph.tensors)
    for index in graph.inputs + graph.outputs:
        if not 0 <= index < count:
            raise BundleError(f"damaged model file: the model's inputs or outputs name tensor"
                              f" {index} of {count}")
    for index in graph.inputs + graph.outputs:
        tensor = graph.tensors[index]
        if not tensor.can_cross:
            raise BundleError(f"the model's input or output {tensor.spec.name!r} has type"
                              f" {tensor.spec.dtype}; supported are {', '.join(DTYPES)}")
    ready = {t.index for t in graph.tensors if t.constant or t.variable} | set(graph.inputs)
    for op in graph.ops:
        for index in op.inputs + op.outputs + op.intermediates:
            if not -1 <= index < count:
                raise BundleError(f"damaged model file: op {op.index} {op.name} names tensor"
                                  f" {index} of {count}")
        for index in op.inputs:
            # A tensor without elements needs no producer (an empty constant).
            if index >= 0 and index not in ready and 0 not in graph.spec(index).shape:
                raise BundleError(f"op {op.index} {op.name} reads tensor {index}"
                                  f" {graph.spec(index).name!r} before anything writes it")
        for index in op.outputs:
            if index in graph.inputs or (index >= 0 and graph.tensors[index].constant):
                raise BundleError(f"op {op.index} {op.name} writes tensor {index}"
                                  f" {graph.spec(index).name!r}, a constant or an input")
        ready.update(op.outputs)
    for index in graph.outputs:
        if index not in ready:
            raise BundleError(f"nothing writes the model's output tensor {index}"
                              f" {graph.spec(index).name!r}")
