"""Small `.tflite` files made from scratch, so that tests need no model from elsewhere.

A model is a list of tensors and a list of ops, written with the FlatBuffers builder field by
field. Only what the tests need of the schema is here.
"""

from __future__ import annotations

from dataclasses import dataclass

import flatbuffers
import numpy as np

from split_core.model import schema

_TYPE = {name: code for code, name in enumerate(schema.TENSOR_TYPES)}


@dataclass(frozen=True)
class T:
    """A tensor; ``data`` makes it a constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: np.ndarray | None = None
    scale: float | None = None
    zero_point: int = 0
    signature: tuple[int, ...] | None = None
    variable: bool = False


@dataclass(frozen=True)
class O:  # noqa: E742 - one letter keeps the models below readable
    """An op: its name, tensors by index, and options as (union type, {slot: (kind, value)})."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: tuple[int, dict] | None = None


# Members of the BuiltinOptions union used here (schema.fbs).
CONV, FULLY_CONNECTED, SOFTMAX, ADD, RESHAPE, CAST, MUL = 1, 8, 9, 11, 17, 37, 21


def write_model(tensors: list[T], ops: list[O], inputs: list[int], outputs: list[int],
                subgraphs: int = 1) -> bytes:
    """The file's bytes."""
    b = flatbuffers.Builder(1024)
    datas = [b""] + [t.data.tobytes() for t in tensors if t.data is not None]
    next_buffer = iter(range(1, len(datas)))
    buffer_of = [next(next_buffer) if t.data is not None else 0 for t in tensors]
    buffers = _vector(b, [_table(b, 3, {0: ("ref", _bytes(b, d))} if d else {}) for d in datas])
    codes = sorted({op.name for op in ops})
    code_vector = _vector(b, [_op_code(b, name) for name in codes])
    graphs = []
    for _ in range(subgraphs):
        tensor_vector = _vector(b, [_tensor(b, t, i) for t, i in zip(tensors, buffer_of)])
        op_vector = _vector(b, [_op(b, op, codes.index(op.name)) for op in ops])
        graphs.append(_table(b, 5, {
            0: ("ref", tensor_vector), 1: ("ref", _ints(b, inputs)),
            2: ("ref", _ints(b, outputs)), 3: ("ref", op_vector)}))
    root = _table(b, 8, {
        0: ("u32", 3), 1: ("ref", code_vector), 2: ("ref", _vector(b, graphs)),
        3: ("ref", b.CreateString("tiny")), 4: ("ref", buffers)})
    b.Finish(root, file_identifier=b"TFL3")
    return bytes(b.Output())


def _op_code(b, name: str) -> int:
    if name.startswith("CUSTOM:"):
        return _table(b, 4, {0: ("i8", 32), 1: ("ref", b.CreateString(name[7:])), 2: ("u32", 1),
                             3: ("u32", 32)})
    code = schema.BUILTIN_OPERATORS.index(name)
    return _table(b, 4, {0: ("i8", min(code, 127)), 2: ("u32", 1), 3: ("u32", code)})


def _tensor(b, t: T, buffer: int) -> int:
    fields = {0: ("ref", _ints(b, t.shape)), 1: ("i8", _TYPE[t.dtype]), 2: ("u32", buffer),
              3: ("ref", b.CreateString(t.name))}
    if t.scale is not None:
        scale = b.CreateNumpyVector(np.array([t.scale], np.float32))
        zero = b.CreateNumpyVector(np.array([t.zero_point], np.int64))
        fields[4] = ("ref", _table(b, 7, {2: ("ref", scale), 3: ("ref", zero)}))
    if t.variable:
        fields[5] = ("i8", 1)
    if t.signature is not None:
        fields[7] = ("ref", _ints(b, t.signature))
    return _table(b, 8, fields)


def _op(b, op: O, code: int) -> int:
    fields = {0: ("u32", code), 1: ("ref", _ints(b, op.inputs)), 2: ("ref", _ints(b, op.outputs))}
    if op.options is not None:
        union, slots = op.options
        fields[4] = ("ref", _table(b, 8, slots))
        fields[3] = ("i8", union)
    return _table(b, 13, fields)


def _bytes(b, data: bytes) -> int:
    b.StartVector(1, len(data), 16)
    b.head -= len(data)
    b.Bytes[b.head : b.head + len(data)] = data
    return b.EndVector()


def _ints(b, values) -> int:
    return b.CreateNumpyVector(np.array(values, np.int32)) if len(values) else _vector(b, [])


def _vector(b, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _table(b, fields: int, values: dict) -> int:
    b.StartObject(fields)
    for slot, (kind, value) in values.items():
        if kind == "ref":
            b.PrependUOffsetTRelativeSlot(slot, value, 0)
        elif kind == "u32":
            b.PrependUint32Slot(slot, value, 0)
        elif kind == "f32":
            b.PrependFloat32Slot(slot, value, 0.0)
        else:
            b.PrependInt8Slot(slot, value, 0)
    return b.EndObject()


# -- models


def skip_model(seed: int = 1) -> bytes:
    """Float: conv, conv, ADD with the first conv's output (two tensors cross inside), dense,
    softmax. Batch -1 in its shape signature."""
    rng = np.random.default_rng(seed)

    def weights(name, *shape):
        return T(name, shape, data=(rng.standard_normal(shape) * 0.5).astype(np.float32))

    tensors = [
        T("image", (1, 8, 8, 3), signature=(-1, 8, 8, 3)),
        weights("w1", 4, 3, 3, 3), weights("b1", 4), T("conv1", (1, 8, 8, 4)),
        weights("w2", 4, 3, 3, 4), weights("b2", 4), T("conv2", (1, 8, 8, 4)),
        T("sum", (1, 8, 8, 4)),
        T("shape", (2,), "int32", np.array([1, 256], np.int32)), T("flat", (1, 256)),
        weights("w3", 5, 256), weights("b3", 5), T("logits", (1, 5)), T("scores", (1, 5)),
    ]
    # Conv2DOptions: padding SAME, strides 1, fused RELU; its dilations default to 1.
    conv = (CONV, {1: ("u32", 1), 2: ("u32", 1), 3: ("i8", 1)})
    ops = [
        O("CONV_2D", (0, 1, 2), (3,), conv),
        O("CONV_2D", (3, 4, 5), (6,), conv),
        O("ADD", (3, 6), (7,), (ADD, {})),
        O("RESHAPE", (7, 8), (9,)),
        O("FULLY_CONNECTED", (9, 10, 11), (12,), (FULLY_CONNECTED, {})),
        O("SOFTMAX", (12,), (13,), (SOFTMAX, {0: ("f32", 1.0)})),     # beta
    ]
    return write_model(tensors, ops, [0], [13])


def wide_integer_model() -> bytes:
    """int32 -> int64 -> ... : types that only travel losslessly."""
    tensors = [
        T("x", (1, 6), "int32"), T("wide", (1, 6), "int64"), T("narrow", (1, 6), "int32"),
        T("one", (1, 6), "int32", np.ones((1, 6), np.int32)), T("y", (1, 6), "int32"),
    ]
    ops = [
        # CastOptions: in and out type.
        O("CAST", (0,), (1,), (CAST, {0: ("i8", _TYPE["int32"]), 1: ("i8", _TYPE["int64"])})),
        O("CAST", (1,), (2,), (CAST, {0: ("i8", _TYPE["int64"]), 1: ("i8", _TYPE["int32"])})),
        O("ADD", (2, 3), (4,), (ADD, {})),
    ]
    return write_model(tensors, ops, [0], [4])


def int16_model() -> bytes:
    """int16 activations (scale, zero point 0), as 16x8 quantization makes them."""
    tensors = [
        T("x", (1, 8), "int16", scale=0.5), T("y", (1, 8), "int16", scale=0.5),
        T("s", (1, 8), "int16", scale=0.5), T("t", (1, 8), "int16", scale=0.5),
    ]
    add = (ADD, {})
    return write_model(tensors, [O("ADD", (0, 1), (2,), add), O("ADD", (2, 0), (3,), add)],
                       [0, 1], [3])


def control_flow_model() -> bytes:
    """An IF op, whose branches are other subgraphs."""
    tensors = [T("c", (1,), "bool"), T("x", (1, 4)), T("y", (1, 4))]
    return write_model(tensors, [O("IF", (0, 1), (2,))], [0, 1], [2], subgraphs=3)


def unknown_custom_model() -> bytes:
    """A custom op that no runtime has a kernel for."""
    return write_model([T("x", (1, 4)), T("y", (1, 4))], [O("CUSTOM:Frobnicate", (0,), (1,))],
                       [0], [1])


def disordered_model() -> bytes:
    """An op reads what a later one writes."""
    tensors = [T("x", (1, 4)), T("m", (1, 4)), T("y", (1, 4))]
    add = (ADD, {})
    return write_model(tensors, [O("ADD", (1, 0), (2,), add), O("ADD", (0, 0), (1,), add)],
                       [0], [2])


def state_model() -> bytes:
    """Explicit state: y = x + state, and the new state is y."""
    tensors = [T("in/x", (1, 4)), T("raw_inputs/init_sum", (1, 4)), T("y", (1, 4)),
               T("two", (1, 4), data=np.full((1, 4), 2, np.float32)),
               T("raw_outputs/sum", (1, 4)), T("z", (1, 4))]
    add, mul = (ADD, {}), (MUL, {})
    return write_model(tensors, [O("ADD", (0, 1), (4,), add), O("MUL", (4, 3), (2,), mul),
                                 O("ADD", (2, 0), (5,), add)],
                       [0, 1], [5, 4])


def camera_model(seed: int = 2) -> bytes:
    """Float, 60 million multiplications, a few milliseconds: five convolutions, dense, softmax.
    Behind the first convolution (cut 1) 32 x 32 x 24 floats cross, 98 kB; it has no activation,
    so that noise goes through it and does not shrink when it is coded without loss."""
    rng = np.random.default_rng(seed)

    def weights(name, *shape):
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        return T(name, shape, data=(rng.standard_normal(shape) * scale).astype(np.float32))

    tensors, ops = [T("image", (1, 64, 64, 3))], []
    side, channels = 64, 3
    for stride, filters in ((2, 24), (1, 64), (1, 64), (2, 32), (2, 16)):
        side //= stride
        at, n = len(tensors), len(ops) + 1
        tensors += [weights(f"w{n}", filters, 3, 3, channels), weights(f"b{n}", filters),
                    T(f"conv{n}", (1, side, side, filters))]
        options = {1: ("u32", stride), 2: ("u32", stride), 3: ("i8", int(n > 1))}
        ops.append(O("CONV_2D", (at - 1, at, at + 1), (at + 2,), (CONV, options)))
        channels = filters
    at, flat = len(tensors), side * side * channels
    tensors += [
        T("shape", (2,), "int32", np.array([1, flat], np.int32)), T("flat", (1, flat)),
        weights("w6", 10, flat), weights("b6", 10), T("logits", (1, 10)), T("scores", (1, 10)),
    ]
    ops += [
        O("RESHAPE", (at - 1, at), (at + 1,)),
        O("FULLY_CONNECTED", (at + 1, at + 2, at + 3), (at + 4,), (FULLY_CONNECTED, {})),
        O("SOFTMAX", (at + 4,), (at + 5,), (SOFTMAX, {0: ("f32", 1.0)})),
    ]
    return write_model(tensors, ops, [0], [at + 5])


def input_like(spec, rng: np.random.Generator) -> np.ndarray:
    """Noise of a tensor's shape and type."""
    if spec.np_dtype.kind == "f":
        return rng.standard_normal(spec.shape).astype(spec.np_dtype)
    return rng.integers(0, 100, spec.shape).astype(spec.np_dtype)
