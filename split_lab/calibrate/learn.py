"""Learns codec tables and rate curves for a model's cuts from unlabelled inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from split_core.model.coding import TensorCoding
from split_core.model.cuts import Cut
from split_core.model.graph import Graph
from split_core.model.manifest import RatePoint
from split_core.tensors import TensorSpec, to_real
from split_core.wire.payload import Coder
from split_core.wire.rungs import STEPS_AN_OCTAVE
from split_lab.calibrate.gradients import TorchGraph
from split_lab.calibrate.metric import GradientMetric, Metric, ProbeMetric, head_response
from split_lab.calibrate.transform import Fit, blocks_of, fit_transform, fold, scaled, to_coding
from split_lab.judge import Judge, answer_margin, to_stored
from split_lab.views import View

# The divergence at which cuts are compared, and the step whose index is 0: 0.02 nats cost one
# point of accuracy on photographs (research: codec, section 0).
QUALITY_FLOOR = 0.02
# Step indices at which the curve is measured: 1/8 to 8 times the reference step.
INDICES = (-96, -64, -40, -24, -8, 8, 24, 48, 72, 96)
FOLDS = 4
# Frames on which each point of the curve is measured, at most.
_CURVE_FRAMES = 400
# Values and gradients of the cuts that are learnt together.
_MEMORY_BYTES = 1 << 30
# Of one cut: large tensors have so many pixels that fewer inputs do.
_MOST_VALUES = 40_000_000
# Finite differences: inputs, and the root mean square of a change in stored units (so many
# that an integer tail's own rounding is small beside the response) or in standard deviations.
# MobileNetV2 14x14x64 at KL 0.02: 24 inputs give 20 % more bytes than gradients do, 96 give
# 9 %; 2, 4 and 8 units are alike.
_PROBE_FRAMES = 96
_PROBE_LSB, _PROBE_SIGMA = 4.0, 0.1
# Gradients are kept in half precision; their squares only matter relative to each other.
_GRADIENT_SCALE = 256.0


@dataclass(frozen=True)
class Learnt:
    """What was learnt of one cut."""

    cut: Cut
    codings: dict[str, TensorCoding]
    rate: tuple[RatePoint, ...]
    margin: float                    # below it the refinement is worth asking for


class Samples:
    """Calibration inputs with the whole model's answer to each."""

    def __init__(self, judge: Judge, views: Sequence[View], graph: Graph,
                 on_progress: Callable[[int, int], None]):
        self.judge, self.views, self.graph = judge, views, graph
        files = {f: i for i, f in enumerate(dict.fromkeys(v.file for v in views))}
        self.photo = np.array([files[v.file] for v in views])
        self.answers = []
        for i, view in enumerate(views):
            self.answers.append(judge.answer(view.arrays, 0))
            on_progress(i + 1, len(views))
        judge.learn(self.answers)

    @property
    def photos(self) -> int:
        return int(self.photo.max()) + 1

    def boundary(self, cut: Cut) -> dict[str, np.ndarray]:
        """Every boundary tensor of ``cut``, stored values [n, *shape]."""
        names = self.judge.bundle.cut(cut.cut).boundary
        rows = {n: np.empty((len(self.views), *self.judge.bundle.specs[n].shape[1:]),
                            self.judge.bundle.specs[n].np_dtype) for n in names}
        for i, view in enumerate(self.views):
            live = self.judge.run(view.arrays, 0, cut.cut)
            for name in names:
                rows[name][i] = live[name][0]
        return rows


def gradients(samples: Samples, torch_graph: TorchGraph, tensors: Sequence[int], seed: int,
              on_progress: Callable[[int, int], None], stride: int = 1) -> dict[int, np.ndarray]:
    """float16 [n, *shape] for each tensor, of every ``stride``-th view: gradients of random
    combinations of the outputs, such that their second moment is the metric.

    With p the softmax of the logits z and r standard normal, sum_k v_k z_k with
    v = sqrt(p) r - p (sqrt(p) . r) has E[v v^T] = diag(p) - p p^T, the Fisher information.
    Gradients of log p(y) at a drawn class y have the same second moment, but where the model is
    sure nearly all of it is in classes that are hardly ever drawn.
    """
    rng, judge, views = np.random.default_rng(seed), samples.judge, samples.views[::stride]
    count = len(views)
    inputs = {t: np.concatenate([to_real(v.arrays[samples.graph.spec(t).name],
                                         samples.graph.spec(t)) for v in views])
              for t in samples.graph.inputs}
    drawn = [rng.standard_normal((count, *a.shape[1:])).astype(np.float32)
             for a in samples.answers[0]]

    def loss(torch, heads, start):
        total = 0
        for values, chance, scale in zip(heads, drawn, judge.scales):
            part = torch.from_numpy(chance[start:start + len(values)])
            if judge.heads.softmax:
                root = values.detach().softmax(-1).sqrt()
                v = root * (part - (root * part).sum(-1, keepdim=True) * root)
                total = total + (v * values).sum() / max(1, np.prod(values.shape[1:-1])) ** 0.5
            else:
                total = total + (part * values).sum() / (
                    float(scale) * (np.prod(values.shape[1:]) * len(heads)) ** 0.5)
        return total

    found = {t: np.empty((count, *samples.graph.spec(t).shape[1:]), np.float16) for t in tensors}
    done = 0
    for batch in torch_graph.gradients(inputs, tensors, loss):
        for t, g in batch.items():
            found[t][done:done + len(g)] = g * _GRADIENT_SCALE
        done += len(next(iter(batch.values())))
        on_progress(done, count)
    return found


def probe_metric(samples: Samples, cut: Cut, spec: TensorSpec, blocks, used: np.ndarray,
                 rng: np.random.Generator) -> Metric:
    """The metric of one boundary tensor by finite differences through the runtime, on some of
    the views that the mask ``used`` names."""
    judge, views = samples.judge, np.flatnonzero(used)
    chosen = rng.choice(views, min(_PROBE_FRAMES, len(views)), replace=False)
    frames: list[tuple[dict, np.ndarray]] = []
    for i in chosen:
        live = judge.run(samples.views[i].arrays, 0, cut.cut)
        frames.append((live, to_real(live[spec.name], spec)))
    sigma = float(np.std([real for _, real in frames]))
    step = _PROBE_LSB * spec.quantization.scale if spec.quantization else _PROBE_SIGMA * sigma

    def respond(frame: int, changes: np.ndarray) -> np.ndarray:
        live, real = frames[frame]
        rows = []
        for change in changes.reshape(len(changes), *spec.shape):
            # One size of change for every direction, whatever its coordinates are.
            unit = step / max(float(np.sqrt(np.mean(change[change != 0] ** 2))), 1e-30)
            up, down = (judge.answer(live | {spec.name: to_stored(real + sign * unit * change,
                                                                  spec)}, cut.cut)
                        for sign in (1, -1))
            moved = [(a - b) / (2 * unit) for a, b in zip(up, down)]
            rows.append(head_response(up, moved, softmax=judge.heads.softmax,
                                      scales=judge.scales))
        return np.array(rows)

    return ProbeMetric(blocks, len(frames), respond, rng)


def learn_cut(samples: Samples, cut: Cut, values: dict[str, np.ndarray],
              found: dict[str, np.ndarray] | None, *, seed: int,
              on_progress: Callable[[int, int], None] = lambda done, total: None) -> Learnt:
    """Tables and curve of one cut from its boundary (and gradients, where there are any).

    The curve is measured by cross-validation, each fold with tables that its photographs had
    no part in: what was fitted to a frame flatters it. Probing anew for each fold would take
    as long as everything else, so with probes one part of the photographs is only for that.
    """
    specs = {n: samples.judge.bundle.specs[n] for n in values}
    everything = _enough(samples, sum(s.elements for s in specs.values()))
    folds = FOLDS if samples.photos >= 2 * FOLDS else 1
    probes, parts = None, range(folds)
    if not found:
        parts = [0]
        everything &= (samples.photo % folds != 0) | (folds == 1)
        probes = {n: probe_metric(samples, cut, specs[n], blocks_of(specs[n].shape), everything,
                                  np.random.default_rng(seed)) for n in values}
    total = len(parts) * len(INDICES) + 1
    measured, close = np.zeros((len(INDICES), 2)), []
    fits = _fit(values, specs, found, probes, everything, samples)
    on_progress(1, total)
    for part in parts:
        test = samples.photo % folds == part
        mine = fits if len(parts) == 1 else _fit(values, specs, found, None, everything & ~test,
                                                 samples)
        frames = np.flatnonzero(test)
        frames = frames[:: max(1, len(frames) * len(parts) // _CURVE_FRAMES)]
        coder = Coder(codings=_codings(mine))
        close.append(_layers(samples, cut, coder, values, specs, frames))
        for i, index in enumerate(INDICES):
            measured[i] += _measure(samples, cut, coder, values, specs, frames, index)
            on_progress(1 + part * len(INDICES) + i + 1, total)
    measured /= len(parts)
    kl = np.maximum.accumulate(np.maximum(measured[:, 0], 1e-7))
    nbytes = np.minimum.accumulate(measured[:, 1])
    rate = tuple(RatePoint(i, float(f"{k:.4g}"), float(f"{b:.5g}"))
                 for i, k, b in zip(INDICES, kl, nbytes))
    return Learnt(cut, _codings(fits), rate, _margin(np.concatenate(close)))


def _enough(samples: Samples, elements: int) -> np.ndarray:
    """Which views to learn from, as a mask: of large tensors fewer of each input."""
    count = len(samples.views)
    stride = max(1, -(-count * elements // _MOST_VALUES))
    mask = np.zeros(count, bool)
    # An odd stride meets all the views of a picture in turn, not one of them again and again.
    mask[:: stride | 1 if stride > 1 else 1] = True
    return mask


def _fit(values, specs, found, probes, used, samples: Samples) -> dict[str, Fit]:
    """One fit a tensor, scaled together so that index 0 is about the quality floor."""
    fits, sensitivity = {}, 0.0
    for name, stored in values.items():
        blocks = blocks_of(specs[name].shape)
        metric = (probes[name] if probes else
                  GradientMetric(fold(found[name][used].astype(np.float32) / _GRADIENT_SCALE,
                                      blocks)))
        fits[name] = fit_transform(to_real(stored[used], specs[name]), metric, blocks,
                                   photos=len(np.unique(samples.photo[used])))
        # In its own metric every coefficient counts 1 (Shao and Zhang's task metric, whitened).
        sensitivity += fits[name].mean.size
    step = np.sqrt(24 * QUALITY_FLOOR / sensitivity)
    return {n: scaled(f, 1 / step) for n, f in fits.items()}


def _codings(fits: dict[str, Fit]) -> dict[str, TensorCoding]:
    finest = 2.0 ** (INDICES[0] / STEPS_AN_OCTAVE)
    return {n: to_coding(n, f, finest) for n, f in fits.items()}


def _measure(samples: Samples, cut: Cut, coder: Coder, values, specs, frames,
             index: int) -> np.ndarray:
    """Mean divergence and payload bytes over ``frames``, through coder and runtime."""
    total, order = np.zeros(2), list(specs.values())
    for i in frames:
        arrays = [values[s.name][i].reshape(s.shape) for s in order]
        payload, _ = coder.encode_at(arrays, order, index)
        live = dict(zip(specs, coder.decode(payload, order)))
        answer = samples.judge.answer(live, cut.cut)
        total += samples.judge.divergence(samples.answers[i], answer), len(payload)
    return total / len(frames)


def _layers(samples: Samples, cut: Cut, coder: Coder, values, specs, frames) -> np.ndarray:
    """Of each frame, in two layers at the quality floor: the base's margin, whether its best
    class is the whole model's, and whether the refined one's is, [n, 3]."""
    if not samples.judge.heads.softmax:
        return np.zeros((0, 3))
    rows, order = [], list(specs.values())
    for i in frames:
        arrays = [values[s.name][i].reshape(s.shape) for s in order]
        payload, layers = coder.encode_base(arrays, order, 0, 1.0)
        base, held = coder.decode_layers(payload, order)
        fine = coder.refine(held, coder.encode_refinement(layers)) if held else base
        answers = [samples.judge.answer(dict(zip(specs, a)), cut.cut)[0] for a in (base, fine)]
        wanted = samples.answers[i][0].argmax(-1)
        rows.append((answer_margin(answers[0]),
                     *(float(np.mean(a.argmax(-1) == wanted)) for a in answers)))
    return np.array(rows)


def _margin(rows: np.ndarray) -> float:
    """The least margin at which asking for the refinement keeps the agreement of always
    having it, on frames that the tables were not fitted to; 0 where there are no classes."""
    for margin in np.arange(0.05, 1.0, 0.05):
        asks = rows[:, 0] < margin if len(rows) else np.zeros(0)
        if len(rows) and np.where(asks, rows[:, 2], rows[:, 1]).mean() >= rows[:, 2].mean():
            return round(float(margin), 2)
    return 1.0 if len(rows) else 0.0


def groups(cuts: Sequence[Cut], graph: Graph, views: int) -> list[list[Cut]]:
    """Cuts to learn together: as many as fit into memory, because one backward pass gives the
    gradients at all of them."""
    found: list[list[Cut]] = []
    room = 0
    for cut in cuts:
        # Stored values and gradients (2 bytes each at most), and real ones while it is fitted.
        need = views * sum(graph.spec(t).elements * 6 for t in cut.boundary)
        if not found or need > room:
            found.append([])
            room = _MEMORY_BYTES
        found[-1].append(cut)
        room -= need
    return found
