"""Where a model can be cut, what crosses there, and which cuts are worth keeping.

A cut is a prefix length k of the op list. Its boundary is every tensor produced before k
(or given as a model input) and used at or after k: one tensor in a plain chain, several
across a skip connection. Pure: the same graph gives the same cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

from split_core.model.graph import Graph
from split_core.model.macs import op_macs
from split_core.tensors import TensorSpec

# Bits an element takes at the default rung (4 bits, channel planes, packed, zstd level 1):
# medians over 102 cuts of four models (bench/coded_bits.py). Rectified tensors spread most, 1.2
# to 2.6, with how much of them is zero.
_BITS_LINEAR = 2.6
_BITS_RECTIFIED = 2.1
_BITS_IMAGE = 2.0
# A further cut has to save this much over the last one kept, or it only adds a segment border.
_LEAST_SAVING = 0.1


@dataclass(frozen=True, slots=True)
class Cut:
    """One possible cut: ``cut`` ops run before it, ``boundary`` crosses it."""

    cut: int
    after_op: str
    boundary: tuple[int, ...]        # tensor indices, in the model's order
    macs_before: int
    macs_after: int
    coded_bytes: int                 # estimate, see estimate_coded_bytes


def find_cuts(graph: Graph) -> tuple[Cut, ...]:
    """All possible cuts in order, 0 (send the input) and n (all local) always among them.

    A position is left out where something cannot cross: a tensor of a type without a fixed
    element size, or a variable tensor (recurrent state) used on both sides.
    """
    macs = [op_macs(graph, op) for op in graph.ops]
    total = sum(macs)
    rectified, images = rectified_tensors(graph), image_tensors(graph)
    last_use = {t: op.index for op in graph.ops for t in op.inputs if t >= 0}
    first_use = {}
    for op in graph.ops:
        for t in op.tensors:
            first_use.setdefault(t, op.index)
    produced = {t: -1 for t in graph.inputs}
    for op in graph.ops:
        produced.update((t, op.index) for t in op.outputs)
    cuts = []
    before = 0
    for k in range(len(graph.ops) + 1):
        boundary = tuple(sorted(
            t for t, made in produced.items() if made < k <= last_use.get(t, -1)
        ))
        if k == 0:
            # Every input crosses, in the model's own order, whether an op reads it or not.
            boundary = graph.inputs
        if k in (0, len(graph.ops)) or _can_cut(graph, k, boundary, first_use, last_use):
            cuts.append(Cut(
                cut=k,
                after_op=graph.ops[k - 1].name if k else "INPUT",
                boundary=boundary,
                macs_before=before,
                macs_after=total - before,
                coded_bytes=sum(
                    estimate_coded_bytes(
                        graph.spec(t), rectified=t in rectified, image=t in images)
                    for t in boundary
                ),
            ))
        if k < len(graph.ops):
            before += macs[k]
    return tuple(cuts)


def _can_cut(graph: Graph, k: int, boundary, first_use, last_use) -> bool:
    if not all(graph.tensors[t].can_cross for t in boundary):
        return False
    return not any(
        first_use.get(t.index, k) < k <= last_use.get(t.index, -1)
        for t in graph.tensors if t.variable
    )


def image_tensors(graph: Graph) -> frozenset[int]:
    """Inputs that look like pictures, and mere re-codings of them."""
    found = {t for t in graph.inputs
             if len(graph.spec(t).shape) == 4 and graph.spec(t).channels in (1, 3, 4)}
    for op in graph.ops:
        if op.name in ("QUANTIZE", "DEQUANTIZE", "CAST") and found.intersection(op.inputs):
            found.update(op.outputs)
    return frozenset(found)


def estimate_coded_bytes(spec: TensorSpec, *, rectified: bool, image: bool) -> int:
    """Bytes of one boundary tensor after coding, before anything has been measured."""
    if spec.dtype not in ("float32", "int8", "uint8"):
        return spec.nbytes
    bits = _BITS_IMAGE if image else _BITS_RECTIFIED if rectified else _BITS_LINEAR
    return max(1, round(spec.elements * bits / 8))


def rectified_tensors(graph: Graph) -> frozenset[int]:
    """Tensors that are zero for much of their range: behind a ReLU, or quantized so that
    their lowest stored value is real zero (converters fold the ReLU into that)."""
    lowest = {"uint8": 0, "int8": -128}
    found = set()
    for op in graph.ops:
        for t in op.outputs:
            spec = graph.spec(t)
            folded = spec.quantization and spec.quantization.zero_point == lowest.get(spec.dtype)
            if op.rectifies or folded:
                found.add(t)
    return frozenset(found)


def useful_cuts(cuts: tuple[Cut, ...]) -> tuple[Cut, ...]:
    """The Pareto front of (MACs before, coded bytes), the two ends always included.

    Raw bytes would mislead: in residual networks every inner tensor is larger than the input.
    """
    kept = [cuts[0]]
    for cut in sorted(cuts[1:-1], key=lambda c: (c.macs_before, c.coded_bytes, c.cut)):
        if cut.coded_bytes <= (1 - _LEAST_SAVING) * kept[-1].coded_bytes:
            kept.append(cut)
    # What costs all of the work but is not the end saves nothing over the end.
    kept = [c for c in kept if c.cut == 0 or c.macs_after > 0]
    return (*kept, cuts[-1])
