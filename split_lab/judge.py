"""How far a changed activation moves a model's answer, judged through the real runtime.

Classifiers are judged by the Kullback-Leibler divergence between the softmax of the whole
model's logits and the split model's, in nats: the logits are the tensor before SOFTMAX,
because its quantized output is too coarse. Everything else is judged by half the squared
error of its outputs, relative to their variance over the calibration inputs; for small
changes both are half a quadratic form, so the same codec serves both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from split_core.model.build import build_bundle
from split_core.model.bundle import Bundle, open_bundle
from split_core.model.certainty import certainty
from split_core.model.cuts import Cut, find_cuts
from split_core.model.graph import Graph
from split_core.model.manifest import ImageInput, State
from split_core.model.runner import Runner
from split_core.tensors import TensorSpec, to_real

# Behind these an output is a list that grows and shrinks: what goes in is judged.
_LISTS = ("CUSTOM:TFLite_Detection_PostProcess", "TOPK_V2", "ARG_MAX", "ARG_MIN")


@dataclass(frozen=True, slots=True)
class Heads:
    """The tensors that a model is judged by, and the cut behind which all are made."""

    softmax: bool
    tensors: tuple[int, ...]
    cut: int


def find_heads(graph: Graph) -> Heads:
    """What to judge: the input of the last SOFTMAX when it makes the output, else the float
    and quantized outputs (or what goes into the list that they are)."""
    maker = {t: op for op in graph.ops for t in op.outputs}
    heads, softmax = [], len(graph.outputs) == 1
    for t in graph.outputs:
        op = maker.get(t)
        while op is not None and op.name in ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE"):
            t, op = op.inputs[0], maker.get(op.inputs[0])
        softmax = softmax and op is not None and op.name == "SOFTMAX"
        if op is not None and op.name in ("SOFTMAX", *_LISTS):
            heads += [i for i in op.inputs if i >= 0 and not graph.tensors[i].constant]
        else:
            heads.append(t)
    heads = [t for t in dict.fromkeys(heads) if _judged(graph, t)]
    cuts = {c.cut for c in find_cuts(graph)}
    cut = max((maker[t].index + 1 for t in heads if t in maker), default=len(graph.ops))
    alive = next((c for c in find_cuts(graph) if c.cut == cut), None)
    if cut not in cuts or not {*heads} <= {*alive.boundary, *graph.outputs}:
        return Heads(False, tuple(t for t in graph.outputs if _judged(graph, t)), len(graph.ops))
    return Heads(softmax, tuple(heads), cut)


def _judged(graph: Graph, tensor: int) -> bool:
    spec = graph.spec(tensor)
    return spec.dtype == "float32" or spec.quantization is not None


class Judge:
    """Runs a model from a cut to its heads, and compares what comes out."""

    def __init__(self, source: bytes, graph: Graph, cuts: Sequence[Cut], *,
                 states: tuple[State, ...] = (), image: ImageInput | None = None,
                 runtime: str | None = None, threads: int = 2):
        self.heads = find_heads(graph)
        ends = {0, self.heads.cut, len(graph.ops), *(c.cut for c in cuts)}
        kept = tuple(c for c in find_cuts(graph) if c.cut in ends)
        with tempfile.TemporaryDirectory() as folder:
            # The runtime keeps the file mapped; its name may go.
            path = Path(folder) / "judge.split.tflite"
            path.write_bytes(build_bundle(source, graph, kept, name="judge", states=states,
                                          image=image))
            self.bundle: Bundle = open_bundle(path)
            self._runner = Runner(self.bundle, runtime=runtime, threads=threads)
            self._runner.warm_up(range(len(kept) - 1))
        self.runtime = self._runner.runtime
        self.names = [graph.spec(t).name for t in self.heads.tensors]
        self.scales = [np.float32(1)] * len(self.names)   # of each head, set by `learn`

    def run(self, live: Mapping[str, np.ndarray], first: int, end: int) -> dict:
        """What is alive at ``end`` (and outputs on the way), from what is alive at ``first``."""
        return self._runner.run(live, first, end)

    def answer(self, live: Mapping[str, np.ndarray], cut: int) -> list[np.ndarray]:
        """Real values of the heads."""
        tensors = {**live, **self.run(live, cut, self.heads.cut)}
        return [to_real(tensors[n], self.bundle.specs[n]) for n in self.names]

    def learn(self, answers: Sequence[list[np.ndarray]]) -> None:
        """Take the heads' spread over calibration inputs as their unit."""
        if not self.heads.softmax:
            self.scales = [np.float32(max(float(np.std([a[i] for a in answers])), 1e-6))
                           for i in range(len(self.names))]

    def divergence(self, reference: list[np.ndarray], answer: list[np.ndarray]) -> float:
        """Of one frame: nats for classifiers, else half the relative squared error."""
        if self.heads.softmax:
            return float(np.mean(kl_divergence(reference[0], answer[0])))
        # Outputs without variation carry nothing; several heads count alike.
        return float(np.mean([0.5 * np.mean(((a - r) / s) ** 2)
                              for r, a, s in zip(reference, answer, self.scales)]))


def to_stored(real: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Real values as the tensor's type stores them, rounded and saturated."""
    q = spec.quantization
    if q is None or spec.dtype == "float32":
        return real.astype(spec.np_dtype)
    info = np.iinfo(spec.np_dtype)
    return np.clip(np.rint(real / q.scale + q.zero_point), info.min, info.max).astype(spec.np_dtype)


def kl_divergence(reference: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """KL(softmax(reference) || softmax(answer)) along the last axis, nats."""
    p, q = log_softmax(reference), log_softmax(answer)
    return (np.exp(p) * (p - q)).sum(-1)


def answer_margin(logits: np.ndarray) -> float:
    """Largest less second largest probability; of several positions the least."""
    rows = np.exp(log_softmax(logits)).reshape(-1, logits.shape[-1])
    return min(certainty(row) for row in rows)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
