"""The trained net as a fully-integer .tflite file, written field by field.

Only the schema's builder is used, no converter. The input is uint8, the frame as
the camera gives it, and the output uint8 too; between them all is int8. Ops
and tensors come in the order of layers.py, each tensor named after its layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import flatbuffers
import numpy as np
import tflite

from split_lab.demo import layers
from split_lab.demo.layers import Add, Conv, GlobalMaxPool, Reshape, Softmax, sources_of
from split_lab.demo.quantize import FloatWeights, Range, Scale, activation_scale, quantize_weights

DESCRIPTION = ("Meter reader: four handwritten digits on a 96x160 RGB frame. image: uint8 pixels as they are. "
               "digit_probabilities: [position from the left, digit 0..9], 255 is certain.")
OUTPUT_NAME = "digit_probabilities"

_INPUT_SCALE = Scale(1.0 / 255.0, 0)
# The spec fixes softmax: 256 steps from 0 to just under 1.
_PROBABILITY_SCALE = Scale(1.0 / 256.0, -128)
_OUTPUT_SCALE = Scale(1.0 / 256.0, 0)
_ALIGNMENT_BYTES = 16              # the schema's `force_align` for buffer data

# The oldest version of each op that knows int8; older runtimes refuse newer numbers.
_VERSIONS = {"QUANTIZE": 1, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "ADD": 2,
             "MAX_POOL_2D": 2, "RESHAPE": 1, "SOFTMAX": 2}


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    scales: np.ndarray
    zero_point: int = 0
    axis: int = 0
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class _Op:
    kind: str
    inputs: tuple[int, ...]
    output: int
    layer: layers.Layer | None = None


@dataclass(slots=True)
class _Graph:
    tensors: list[_Tensor] = field(default_factory=list)
    ops: list[_Op] = field(default_factory=list)

    def add(self, tensor: _Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def to_tflite(weights: dict[str, FloatWeights], ranges: dict[str, Range]) -> bytes:
    """The file's bytes. `ranges` needs an entry for each activation of layers.LAYERS."""
    return _serialize(_quantized_graph(weights, ranges))


def _quantized_graph(weights: dict[str, FloatWeights], ranges: dict[str, Range]) -> _Graph:
    graph, shapes = _Graph(), layers.output_shapes()
    pixels = graph.add(_activation(layers.INPUT_NAME, "UINT8", layers.INPUT_SHAPE, _INPUT_SCALE))
    # The same steps, moved by 128: no information is lost between the two.
    scales = {layers.INPUT_NAME: Scale(_INPUT_SCALE.scale, -128)}
    made = {layers.INPUT_NAME: graph.add(
        _activation("image_int8", "INT8", layers.INPUT_SHAPE, scales[layers.INPUT_NAME]))}
    graph.ops.append(_Op("QUANTIZE", (pixels,), made[layers.INPUT_NAME]))
    for layer in layers.LAYERS:
        sources = sources_of(layer)
        inputs = tuple(made[name] for name in sources)
        match layer:
            case Reshape():
                scales[layer.name] = scales[layer.source]
                shape = np.array(layer.shape, np.int32)
                inputs += (graph.add(_Tensor(f"{layer.name}/shape", "INT32", shape.shape, np.empty(0, np.float32),
                                             content=shape.tobytes())),)
            case GlobalMaxPool():
                scales[layer.name] = scales[layer.source]
            case Softmax():
                scales[layer.name] = _PROBABILITY_SCALE
            case _:
                scales[layer.name] = activation_scale(ranges[layer.name])
        if isinstance(layer, Conv):
            inputs += _constants(graph, layer, weights[layer.name], scales[layer.source])
        name = f"{layer.name}_int8" if layer.name == OUTPUT_NAME else layer.name
        made[layer.name] = graph.add(_activation(name, "INT8", shapes[layer.name], scales[layer.name]))
        graph.ops.append(_Op(_kind(layer), inputs, made[layer.name], layer))
    answer = graph.add(_activation(OUTPUT_NAME, "UINT8", shapes[OUTPUT_NAME], _OUTPUT_SCALE))
    graph.ops.append(_Op("QUANTIZE", (made[OUTPUT_NAME],), answer))
    return graph


def _activation(name: str, dtype: str, shape: tuple[int, ...], scale: Scale) -> _Tensor:
    return _Tensor(name, dtype, shape, np.array([scale.scale], np.float32), scale.zero_point)


def _constants(graph: _Graph, layer: Conv, weights: FloatWeights, source: Scale) -> tuple[int, int]:
    stored = quantize_weights(weights, source, axis=3 if layer.channels is None else 0)
    return (graph.add(_Tensor(f"{layer.name}/weights", "INT8", stored.weights.shape, stored.scales,
                              axis=stored.axis, content=stored.weights.tobytes())),
            graph.add(_Tensor(f"{layer.name}/bias", "INT32", stored.biases.shape, stored.bias_scales,
                              content=stored.biases.tobytes())))


def _kind(layer: layers.Layer) -> str:
    match layer:
        case Conv(channels=None):
            return "DEPTHWISE_CONV_2D"
        case Conv():
            return "CONV_2D"
        case Add():
            return "ADD"
        case GlobalMaxPool():
            return "MAX_POOL_2D"
        case Reshape():
            return "RESHAPE"
        case Softmax():
            return "SOFTMAX"


def _serialize(graph: _Graph) -> bytes:
    b = flatbuffers.Builder(1 << 19)
    # Buffer 0 is empty by convention and serves every tensor that holds no constant.
    contents = [b""] + [tensor.content for tensor in graph.tensors if tensor.content]
    buffers = _offsets(b, [_buffer(b, content) for content in contents])
    next_buffer, tensors = 1, []
    for tensor in graph.tensors:
        tensors.append(_tensor(b, tensor, next_buffer if tensor.content else 0))
        next_buffer += bool(tensor.content)
    tensors = _offsets(b, tensors)
    kinds = list(dict.fromkeys(op.kind for op in graph.ops))
    ops = _offsets(b, [_operator(b, op, kinds.index(op.kind)) for op in graph.ops])
    codes = _offsets(b, [_operator_code(b, kind) for kind in kinds])
    entry, answer = 0, len(graph.tensors) - 1
    inputs = b.CreateNumpyVector(np.array([entry], np.int32))
    outputs = b.CreateNumpyVector(np.array([answer], np.int32))
    subgraph = _table(b, "SubGraph", Name=b.CreateString("main"), Tensors=tensors, Inputs=inputs,
                      Outputs=outputs, Operators=ops)
    signature = _table(
        b, "SignatureDef", SignatureKey=b.CreateString("serving_default"), SubgraphIndex=0,
        Inputs=_offsets(b, [_table(b, "TensorMap", Name=b.CreateString(layers.INPUT_NAME), TensorIndex=entry)]),
        Outputs=_offsets(b, [_table(b, "TensorMap", Name=b.CreateString(OUTPUT_NAME), TensorIndex=answer)]))
    b.Finish(_table(b, "Model", Version=3, Description=b.CreateString(DESCRIPTION), OperatorCodes=codes,
                    Subgraphs=_offsets(b, [subgraph]), Buffers=buffers,
                    SignatureDefs=_offsets(b, [signature])), b"TFL3")
    return bytes(b.Output())


def _table(b: flatbuffers.Builder, name: str, **fields: int | float) -> int:
    """Write one table of the schema; offsets among the fields must exist already."""
    getattr(tflite, f"{name}Start")(b)
    for key, value in fields.items():
        getattr(tflite, f"{name}Add{key}")(b, value)
    return getattr(tflite, f"{name}End")(b)


def _offsets(b: flatbuffers.Builder, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _buffer(b: flatbuffers.Builder, content: bytes) -> int:
    if not content:
        return _table(b, "Buffer")
    # CreateByteVector would align to one byte, and kernels read 16 at a time.
    b.StartVector(1, len(content), _ALIGNMENT_BYTES)
    b.head -= len(content)
    b.Bytes[b.head:b.head + len(content)] = content
    return _table(b, "Buffer", Data=b.EndVector())


def _tensor(b: flatbuffers.Builder, tensor: _Tensor, buffer: int) -> int:
    more = {}
    if tensor.scales.size:
        zero_points = np.full(tensor.scales.shape, tensor.zero_point, np.int64)
        scale, zero_point = b.CreateNumpyVector(tensor.scales), b.CreateNumpyVector(zero_points)
        more["Quantization"] = _table(b, "QuantizationParameters", Scale=scale, ZeroPoint=zero_point,
                                      QuantizedDimension=tensor.axis)
    shape = b.CreateNumpyVector(np.array(tensor.shape, np.int32))
    return _table(b, "Tensor", Name=b.CreateString(tensor.name), Shape=shape, Buffer=buffer,
                  Type=getattr(tflite.TensorType, tensor.dtype), **more)


def _operator_code(b: flatbuffers.Builder, kind: str) -> int:
    # Written twice: readers older than the wide field look at the narrow one.
    code = getattr(tflite.BuiltinOperator, kind)
    return _table(b, "OperatorCode", DeprecatedBuiltinCode=code, BuiltinCode=code, Version=_VERSIONS[kind])


def _operator(b: flatbuffers.Builder, op: _Op, code_index: int) -> int:
    inputs = b.CreateNumpyVector(np.array(op.inputs, np.int32))
    outputs = b.CreateNumpyVector(np.array([op.output], np.int32))
    name, options = _options(b, op)
    return _table(b, "Operator", OpcodeIndex=code_index, Inputs=inputs, Outputs=outputs,
                  BuiltinOptionsType=getattr(tflite.BuiltinOptions, name), BuiltinOptions=_table(b, name, **options))


def _options(b: flatbuffers.Builder, op: _Op) -> tuple[str, dict[str, int | float]]:
    relu6, none = tflite.ActivationFunctionType.RELU6, tflite.ActivationFunctionType.NONE
    match op.layer:
        case None:
            return "QuantizeOptions", {}
        case Conv() as conv:
            common = {"Padding": tflite.Padding.SAME, "StrideH": conv.stride, "StrideW": conv.stride,
                      "DilationHFactor": 1, "DilationWFactor": 1,
                      "FusedActivationFunction": relu6 if conv.relu6 else none}
            if conv.channels is None:
                return "DepthwiseConv2DOptions", {**common, "DepthMultiplier": 1}
            return "Conv2DOptions", common
        case Add():
            return "AddOptions", {"FusedActivationFunction": relu6}
        case GlobalMaxPool() as pool:
            _, height, width, _ = layers.output_shapes()[pool.source]
            return "Pool2DOptions", {"Padding": tflite.Padding.VALID, "StrideH": height, "StrideW": width,
                                     "FilterHeight": height, "FilterWidth": width}
        case Reshape() as reshape:
            return "ReshapeOptions", {"NewShape": b.CreateNumpyVector(np.array(reshape.shape, np.int32))}
        case Softmax():
            return "SoftmaxOptions", {"Beta": 1.0}
