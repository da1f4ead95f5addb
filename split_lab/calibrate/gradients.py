"""A model's ops as PyTorch functions, for gradients at every cut in one backward pass.

The only importer of `torch`, an extra. Quantized models are run on their real values, with
each output clamped to what its type can hold, so that a gradient stops where the model's own
saturation would stop it. Ops without a translation here are refused, and calibration falls
back to finite differences through the runtime (`split_lab.calibrate.probe`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from split_core.model import schema
from split_core.model.graph import Graph, Op

# Slots of the options tables (schema.fbs).
_CONV = {"padding": 0, "stride_w": 1, "stride_h": 2, "dilation_w": 4, "dilation_h": 5}
_DEPTHWISE = {"padding": 0, "stride_w": 1, "stride_h": 2, "dilation_w": 5, "dilation_h": 6}
_POOL = {"padding": 0, "stride_w": 1, "stride_h": 2, "filter_w": 3, "filter_h": 4}
_SAME = 0
_BATCH = 8


class Untranslatable(Exception):
    """An op that has no translation; the message names it."""


def available() -> bool:
    """Whether PyTorch is installed."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


class TorchGraph:
    """A model's ops up to ``heads``, the tensors that its output is judged by."""

    def __init__(self, graph: Graph, heads: Iterable[int]):
        import torch

        self._torch, self._graph, self._heads = torch, graph, tuple(heads)
        needed, ops = set(self._heads), []
        for op in reversed(graph.ops):
            if needed.intersection(op.outputs):
                ops.append(op)
                needed.update(t for t in op.inputs if t >= 0)
        self._ops = ops[::-1]
        tables = graph.root.tables(schema.Model.SUBGRAPHS, "SubGraph")[0]
        self._op_tables = tables.tables(schema.SubGraph.OPERATORS, "op")
        self._tensor_tables = tables.tables(schema.SubGraph.TENSORS, "tensor")
        self._buffers = graph.root.tables(schema.Model.BUFFERS, "Buffer")
        self._constants = {t: self._constant(t) for op in self._ops for t in op.inputs
                           if t >= 0 and graph.tensors[t].constant}
        for op in self._ops:
            if op.name not in _TRANSLATIONS:
                raise Untranslatable(f"op {op.index} {op.name} has no gradient here")

    def gradients(self, inputs: Mapping[int, np.ndarray], tensors: Iterable[int], loss):
        """Yield ``{tensor: array [batch, ...]}`` of d loss / d tensor, batch by batch.

        ``inputs`` are real values [frames, ...] by tensor index; ``loss(heads)`` makes one
        number of the heads' values, a sum over frames.
        """
        torch, tensors = self._torch, list(tensors)
        count = len(next(iter(inputs.values())))
        for start in range(0, count, _BATCH):
            values = {t: torch.from_numpy(np.ascontiguousarray(a[start:start + _BATCH]))
                      for t, a in inputs.items()}
            for value in values.values():
                value.requires_grad_(True)
            self._run(values)
            heads = [values[t] for t in self._heads]
            total = loss(torch, heads, start)
            found = torch.autograd.grad(total, [values[t] for t in tensors], allow_unused=True)
            yield {t: (torch.zeros_like(values[t]) if g is None else g).numpy()
                   for t, g in zip(tensors, found)}

    def run(self, inputs: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Real values of every tensor, for comparison with the runtime."""
        torch = self._torch
        with torch.no_grad():
            values = {t: torch.from_numpy(np.ascontiguousarray(a)) for t, a in inputs.items()}
            self._run(values)
        return {t: v.numpy() for t, v in values.items()}

    def _run(self, values: dict) -> None:
        for op in self._ops:
            if op.outputs[0] in values:
                continue                       # handed in
            operands = [None if t < 0 else self._constants.get(t, values.get(t))
                        for t in op.inputs]
            value = _TRANSLATIONS[op.name](self, op, operands)
            values[op.outputs[0]] = self._saturate(op, self._activate(op, value))

    def _constant(self, index: int):
        """Real values of a constant tensor; integers that are indices stay integers."""
        tensor = self._graph.tensors[index]
        table = self._tensor_tables[index]
        data = self._buffers[table.u32(schema.Tensor.BUFFER)].octets(schema.Buffer.DATA)
        array = np.frombuffer(data, tensor.spec.np_dtype).reshape(tensor.spec.shape)
        quantization = table.table(schema.Tensor.QUANTIZATION, "quantization")
        scales = quantization.scalars(schema.Quantization.SCALE, "f") if quantization else ()
        if not scales:
            return array if array.dtype.kind == "i" else self._torch.tensor(array)
        zeros = quantization.scalars(schema.Quantization.ZERO_POINT, "q") or (0,) * len(scales)
        shape = [1] * array.ndim
        if len(scales) > 1:
            shape[quantization.i32(schema.Quantization.QUANTIZED_DIMENSION)] = len(scales)
        real = (array.astype(np.float64) - np.reshape(zeros, shape)) * np.reshape(scales, shape)
        return self._torch.tensor(np.asarray(real, np.float32))

    def options(self, op: Op, slots: Mapping[str, int]) -> dict[str, int]:
        table = self._op_tables[op.index].table(schema.Operator.BUILTIN_OPTIONS, op.name)
        default = {"dilation_w": 1, "dilation_h": 1}
        return {name: default.get(name, 0) if table is None else
                table.i8(slot) if name in ("padding", "keep_dims") else
                table.i32(slot, default.get(name, 0))
                for name, slot in slots.items()}

    def _activate(self, op: Op, value):
        slot = schema.FUSED_ACTIVATION.get(op.name)
        table = self._op_tables[op.index].table(schema.Operator.BUILTIN_OPTIONS, op.name)
        kind = 0 if slot is None or table is None else table.i8(slot)
        if kind == schema.RELU:
            return value.clamp(min=0)
        if kind == schema.RELU6:
            return value.clamp(0, 6)
        if kind:
            raise Untranslatable(f"op {op.index} {op.name}: activation {kind}")
        return value

    def _saturate(self, op: Op, value):
        spec = self._graph.spec(op.outputs[0])
        if spec.quantization is None or spec.dtype not in ("int8", "uint8"):
            return value
        q, info = spec.quantization, np.iinfo(spec.np_dtype)
        return value.clamp(q.scale * (info.min - q.zero_point), q.scale * (info.max - q.zero_point))

    def shape(self, op: Op, batch: int) -> list[int]:
        """The op's output shape for a batch: the file's first axis is 1."""
        return [batch, *self._graph.spec(op.outputs[0]).shape[1:]]


def _pad_same(g: TorchGraph, value, kernel, stride, dilation, fill=0.0):
    """TFLite's SAME: output is ceil(size / stride), the odd one is padded behind."""
    pads = []
    for size, k, s, d in zip(value.shape[:1:-1], kernel[::-1], stride[::-1], dilation[::-1]):
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        pads += [total // 2, total - total // 2]
    return g._torch.nn.functional.pad(value, pads, value=fill)


def _convolve(g: TorchGraph, op: Op, operands, slots, groups_of):
    value, weights, bias = (*operands, None)[:3]
    o = g.options(op, slots)
    value = value.permute(0, 3, 1, 2)
    # [out, h, w, in] for CONV_2D, [1, h, w, out] for DEPTHWISE_CONV_2D.
    weights = weights.permute((0, 3, 1, 2) if groups_of == 1 else (3, 0, 1, 2))
    stride, dilation = (o["stride_h"], o["stride_w"]), (o["dilation_h"], o["dilation_w"])
    if o["padding"] == _SAME:
        value = _pad_same(g, value, weights.shape[2:], stride, dilation)
    groups = 1 if groups_of == 1 else value.shape[1]
    out = g._torch.nn.functional.conv2d(value, weights, bias, stride, 0, dilation, groups)
    return out.permute(0, 2, 3, 1)


def _pool(g: TorchGraph, op: Op, operands, largest: bool):
    o = g.options(op, _POOL)
    value = operands[0].permute(0, 3, 1, 2)
    kernel, stride = (o["filter_h"], o["filter_w"]), (o["stride_h"], o["stride_w"])
    f = g._torch.nn.functional
    fill = float("-inf") if largest else 0.0
    ones = g._torch.ones_like(value[:1, :1])
    if o["padding"] == _SAME:
        value = _pad_same(g, value, kernel, stride, (1, 1), fill)
        ones = _pad_same(g, ones, kernel, stride, (1, 1))
    if largest:
        return f.max_pool2d(value, kernel, stride).permute(0, 2, 3, 1)
    # The average is over what lies inside.
    inside = f.avg_pool2d(ones, kernel, stride)
    return (f.avg_pool2d(value, kernel, stride) / inside).permute(0, 2, 3, 1)


def _dense(g: TorchGraph, op: Op, operands):
    value, weights, bias = (*operands, None)[:3]
    value = value.reshape(-1, weights.shape[1]) if value.shape[-1] != weights.shape[1] else value
    out = g._torch.nn.functional.linear(value, weights, bias)
    return out.reshape(g.shape(op, -1)) if len(g.shape(op, 1)) == out.ndim else out


def _mean(g: TorchGraph, op: Op, operands):
    axes = tuple(int(a) for a in np.ravel(operands[1]))
    return operands[0].mean(axes, keepdim=bool(g.options(op, {"keep_dims": 0})["keep_dims"]))


def _concatenate(g: TorchGraph, op: Op, operands):
    return g._torch.cat(operands, g.options(op, {"axis": 0})["axis"])


def _pad(g: TorchGraph, op: Op, operands):
    pads = np.asarray(operands[1])[::-1].ravel().tolist()
    return g._torch.nn.functional.pad(operands[0], [int(p) for p in pads])


_TRANSLATIONS = {
    "ADD": lambda g, op, v: v[0] + v[1],
    "SUB": lambda g, op, v: v[0] - v[1],
    "MUL": lambda g, op, v: v[0] * v[1],
    "CONV_2D": lambda g, op, v: _convolve(g, op, v, _CONV, 1),
    "DEPTHWISE_CONV_2D": lambda g, op, v: _convolve(g, op, v, _DEPTHWISE, 0),
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": lambda g, op, v: _pool(g, op, v, False),
    "MAX_POOL_2D": lambda g, op, v: _pool(g, op, v, True),
    "MEAN": _mean,
    "CONCATENATION": _concatenate,
    "PAD": _pad,
    "RELU": lambda g, op, v: v[0].clamp(min=0),
    "RELU6": lambda g, op, v: v[0].clamp(0, 6),
    "LOGISTIC": lambda g, op, v: v[0].sigmoid(),
    "TANH": lambda g, op, v: v[0].tanh(),
    "RESHAPE": lambda g, op, v: v[0].reshape(g.shape(op, len(v[0]))),
    "SQUEEZE": lambda g, op, v: v[0].reshape(g.shape(op, len(v[0]))),
    "QUANTIZE": lambda g, op, v: v[0],
    "DEQUANTIZE": lambda g, op, v: v[0],
    "SOFTMAX": lambda g, op, v: v[0].softmax(-1),
}
