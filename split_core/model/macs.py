"""Multiply-accumulates per op, the usual measure of a layer's work.

Counted from shapes alone: convolutions, matrix products and recurrent cells. Element-wise
ops, pooling and data movement count as 0, as in the published tables for these networks.
"""

from __future__ import annotations

from math import prod

from split_core.model.graph import Graph, Op

_RECURRENT = {
    "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN",
}


def op_macs(graph: Graph, op: Op) -> int:
    """Multiply-accumulates of one op for the shapes in the file (batch 1 for -1)."""
    if not op.outputs or len(op.inputs) < 2:
        return 0
    out = prod(graph.spec(op.outputs[0]).shape)
    first, second = (graph.spec(i).shape if i >= 0 else () for i in op.inputs[:2])
    if op.name in ("CONV_2D", "CONV_3D"):          # weights [out, h, w, in] / [d, h, w, in, out]
        kernel = second[1:] if op.name == "CONV_2D" else second[:-1]
        return out * prod(kernel)
    if op.name == "DEPTHWISE_CONV_2D":             # weights [1, h, w, out]
        return out * prod(second[1:3])
    if op.name == "FULLY_CONNECTED":               # weights [out, in]
        return out * (second[-1] if second else 0)
    if op.name == "BATCH_MATMUL":
        return out * (first[-1] if first else 0)
    if op.name == "TRANSPOSE_CONV" and len(op.inputs) > 2:   # inputs: shape, weights, data
        return prod(graph.spec(op.inputs[2]).shape) * prod(second[:3])
    if op.name in _RECURRENT:
        steps = first[1] if len(first) == 3 and "SEQUENCE" in op.name else 1
        weights = sum(
            prod(graph.spec(i).shape) for i in op.inputs
            if i >= 0 and graph.tensors[i].constant and len(graph.spec(i).shape) == 2
        )
        return steps * weights
    return 0
