"""`edge-agent calibrate`: a bundle whose cuts know their codec and its cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import msgspec
import numpy as np

from split_core.errors import BundleError
from split_core.model.build import Calibration, build_bundle
from split_core.model.cuts import Cut
from split_core.model.graph import Graph, read_graph
from split_core.model.manifest import PictureRate
from split_core.model.rate import RateCurve
from split_core.tensors import to_real
from split_core.wire.payload import Coder
from split_core.wire.rungs import Rung
from split_lab.calibrate import gradients as autodiff
from split_lab.calibrate.jpeg_tables import jpeg_tables, probe_jpeg_sensitivity, tables_from
from split_lab.calibrate.learn import (
    QUALITY_FLOOR, Learnt, Samples, gradients, groups, learn_cut,
)
from split_lab.judge import Judge
from split_lab.progress import Progress
from split_lab.split import Described, choose_cuts, describe_model, read_model, trial
from split_lab.views import list_inputs, views

# Of each picture: the centre, as a camera's is used, and harder crops. Four views instead of
# eight cost 1 to 3 % of bytes on MobileNetV2, one costs 5 %.
VIEWS = 8
# A cut whose estimated bytes exceed those of an earlier one by more than this is not learnt,
# unless asked for: estimates are off by half at most (bench/coded_bits.py).
_HOPE = 1.5
# A further cut has to save this much over the last one kept, or it only adds a segment border.
_LEAST_SAVING = 0.1
# Inputs on which JPEG's frequencies are probed where there are no gradients: so many runs of
# the whole model each, and of a large one fewer inputs (a minute or two of work).
_JPEG_PROBES, _JPEG_RUNS = 16, 384
_JPEG_MACS = 4_000_000_000_000
# Views whose gradients tune JPEG's tables: 192 numbers need no more.
_JPEG_GRADIENTS = 200
# A translation may be off by this share of the spread of a head: an integer model's own
# rounding is 0.02 to 0.1 of it.
_SAME_ANSWER = 0.3
# The input as a picture: qualities, and inputs for each, at most. MobileNetV2 is moved by 0.6
# to 0.015 nats by JPEG and 0.9 to 0.047 by WebP; 98 in place of 95 adds half of the bytes for a
# fifth of the divergence. Both formats take it 6 s.
_PICTURE_QUALITIES = (30, 50, 70, 85, 95)
_PICTURE_VIEWS = 100
# Below this a divergence says no more than that the answers are the same.
_LEAST_KL = 1e-7


@dataclass(frozen=True)
class Outcome:
    """A calibrated bundle and what was learnt on the way."""

    name: str
    data: bytes
    learnt: tuple[Learnt, ...]
    kept: tuple[int, ...]            # the cuts in the bundle
    table_bytes: int
    seconds: float
    method: str                      # "gradients" or "finite differences"
    files: int
    macs: int
    macs_before: dict[int, int]      # by cut
    # Divergence and bytes of the input as a picture, by format.
    pictures: dict[str, list[tuple[float, float]]]
    head_s: dict[int, float]         # where asked for: how long a head takes here, by kept cut


def calibrate_model(model: str | Path, inputs: str | Path, *, samples: int = 100,
                    cuts: str | Sequence[int] = "useful", seed: int = 1,
                    method: str | None = None, runtime: str | None = None,
                    compare: bool = False, **described) -> Outcome:
    """The bundle of a model, calibrated on ``samples`` files of a folder.

    ``cuts`` is "useful" (the front of work against coded bytes, as measured), "all", or op
    counts; ``method`` "gradients", "probes" or None for the better one that works here;
    ``compare`` also times heads on this machine, for the plot; ``described`` as in
    `split_model`. Raises BundleError, InputError, UsageError.
    """
    begin_s = time.monotonic()
    path = Path(model)
    source = read_model(path)
    graph = read_graph(source)
    what = describe_model(path, source, graph, **described)
    possible = trial(source, graph, what, "useful" if cuts == "all" else cuts, runtime)
    candidates = _candidates(possible, cuts)
    judge = Judge(source, graph, candidates, states=what.states, runtime=runtime,
                  image=what.image)
    files, rng = list_inputs(inputs, samples), np.random.default_rng(seed)
    pictures = [v for f in files for v in views(judge.bundle, f, centre=1, hard=VIEWS - 1,
                                                rng=rng, spare_thumbnails=True)]
    seen = Samples(judge, pictures, graph, Progress("whole model"))
    torch_graph = _torch_graph(seen, method)
    learnt = tuple(_learn_all(seen, candidates, graph, torch_graph, seed))
    kept = _front(possible, learnt) if cuts == "useful" else choose_cuts(possible, cuts)
    if what.image is not None:
        tables = _jpeg_tables(seen, torch_graph, seed, Progress("JPEG tables"))
        what = replace(what, image=msgspec.structs.replace(what.image, jpeg_tables=tables))
    rates = _picture_rates(seen, what) if what.image else ()
    names = {t for c in kept for t in c.boundary}
    names = {graph.spec(t).name for t in names}
    calibration = Calibration(
        {n: c for l in learnt for n, c in l.codings.items() if n in names},
        {l.cut.cut: l.rate for l in learnt}, {l.cut.cut: l.margin for l in learnt}, rates)
    kept = tuple(_measured_bytes(c, learnt) for c in kept)
    data = build_bundle(source, graph, kept, calibration=calibration, **what.fields())
    plain = build_bundle(source, graph, kept, **what.fields())
    numbers = tuple(c.cut for c in kept)
    return Outcome(
        what.name, data, learnt, numbers, len(data) - len(plain), time.monotonic() - begin_s,
        "gradients" if torch_graph else "finite differences", len(files),
        possible[0].macs_after, {c.cut: c.macs_before for c in possible},
        {kind: [(r.kl, r.bytes) for r in rates if r.format == kind]
         for kind in dict.fromkeys(r.format for r in rates)},
        _head_times(seen, kept) if compare else {})


def _picture_rates(seen: Samples, what: Described) -> tuple[PictureRate, ...]:
    """Divergence and bytes of what is sent at cut 0 as JPEG (with the tuned tables) and WebP."""
    judge = seen.judge
    specs = judge.bundle.boundary(0)
    coder, rates = Coder(image=what.image, lossless={s.input for s in what.states}), []
    # An odd stride meets all the views of a picture in turn.
    few = range(0, len(seen.views), -(-len(seen.views) // _PICTURE_VIEWS) | 1)
    progress, done = Progress("pictures"), 0
    for kind in ("jpeg", "webp"):
        measured = np.zeros((len(_PICTURE_QUALITIES), 2))
        for row, quality in zip(measured, _PICTURE_QUALITIES):
            for i in few:
                arrays = [seen.views[i].arrays[s.name] for s in specs]
                payload = coder.encode(arrays, specs, Rung.parse(f"{kind}{quality}"))
                live = {s.name: a for s, a in zip(specs, coder.decode(payload, specs))}
                row += judge.divergence(seen.answers[i], judge.answer(live, 0)), len(payload)
            done += 1
            progress(done, 2 * len(_PICTURE_QUALITIES))
        measured /= len(few)
        # In order, whatever the noise of a hundred inputs: from the finest side.
        kl = np.maximum.accumulate(np.maximum(measured[::-1, 0], _LEAST_KL))[::-1]
        nbytes = np.maximum.accumulate(measured[:, 1])
        rates += [PictureRate(kind, q, float(f"{k:.4g}"), float(f"{b:.5g}"))
                  for q, k, b in zip(_PICTURE_QUALITIES, kl, nbytes)]
    return tuple(rates)


def _head_times(seen: Samples, kept: Sequence[Cut]) -> dict[int, float]:
    """Median time of each kept cut's head, on this machine with the judge's threads."""
    times = {}
    for cut in kept[:-1]:
        samples = []
        for view in seen.views[:20]:
            begin_s = time.perf_counter()
            seen.judge.run(view.arrays, 0, cut.cut)
            samples.append(time.perf_counter() - begin_s)
        times[cut.cut] = float(np.median(samples))
    return times


def _candidates(possible: tuple[Cut, ...], cuts: str | Sequence[int]) -> list[Cut]:
    """Cuts worth learning: behind some work, before some, and not plainly dominated."""
    inner = [c for c in possible[1:-1] if c.macs_before and c.macs_after and c.boundary]
    if cuts != "useful":
        wanted = {c.cut for c in choose_cuts(possible, cuts)}
        return [c for c in inner if c.cut in wanted]
    # The input itself is what every cut has to beat.
    kept, least = [], possible[0].coded_bytes
    for cut in sorted(inner, key=lambda c: (c.macs_before, c.cut)):
        if cut.coded_bytes <= _HOPE * least:
            kept.append(cut)
        least = min(least, cut.coded_bytes)
    return kept


def _torch_graph(seen: Samples, method: str | None):
    """Gradients where they can be had, of a translation that answers as the runtime does;
    None for finite differences."""
    if method == "probes":
        return None
    try:
        if not autodiff.available():
            raise autodiff.Untranslatable(
                "PyTorch is not installed (pip install 'edge-agent[calibrate]')")
        torch_graph = autodiff.TorchGraph(seen.graph, seen.judge.heads.tensors)
        _check_translation(seen, torch_graph)
        return torch_graph
    except autodiff.Untranslatable as e:
        if method == "gradients":
            raise BundleError(f"no gradients: {e}") from None
        print(f"calibrate: {e}; using finite differences, which take longer", file=sys.stderr)
        return None


def _check_translation(seen: Samples, torch_graph) -> None:
    """Raises Untranslatable for one whose heads are not the runtime's: an op may mean more
    than its translation here knows."""
    view, graph = seen.views[0], seen.graph
    inputs = {t: to_real(view.arrays[graph.spec(t).name], graph.spec(t)) for t in graph.inputs}
    try:
        found = torch_graph.run(inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as e:
        raise autodiff.Untranslatable(f"PyTorch: {str(e).splitlines()[0]}") from None
    for t, wanted in zip(seen.judge.heads.tensors, seen.answers[0]):
        error = np.abs(found[t].reshape(wanted.shape) - wanted).mean()
        if not error <= _SAME_ANSWER * max(float(wanted.std()), 1e-6):
            raise autodiff.Untranslatable(
                f"PyTorch's {graph.spec(t).name!r} is off by {error:.3g} on average")


def _learn_all(seen: Samples, candidates: Sequence[Cut], graph: Graph, torch_graph, seed: int):
    for group in groups(candidates, graph, len(seen.views)):
        found = {}
        if torch_graph:
            tensors = sorted({t for c in group for t in c.boundary})
            found = gradients(seen, torch_graph, tensors, seed, Progress("gradients"))
        for cut in group:
            by_name = {graph.spec(t).name: found[t] for t in cut.boundary if t in found}
            values = seen.boundary(cut)
            if all(_can_learn(seen.judge.bundle.specs[n]) for n in values):
                yield learn_cut(seen, cut, values, by_name or None, seed=seed,
                                on_progress=Progress(f"cut {cut.cut}"))


def _can_learn(spec) -> bool:
    return spec.dtype in ("float32", "int8", "uint8") and spec.elements > 0 and (
        spec.dtype == "float32" or spec.quantization is not None)


def _front(possible: tuple[Cut, ...], learnt: Sequence[Learnt]) -> tuple[Cut, ...]:
    """The Pareto front of (MACs before, measured bytes at the quality floor), ends included."""
    kept, least = [possible[0]], float("inf")
    for l in sorted(learnt, key=lambda l: (l.cut.macs_before, l.cut.cut)):
        nbytes = bytes_at_floor(l)
        if nbytes <= (1 - _LEAST_SAVING) * least:
            kept.append(l.cut)
            least = nbytes
    return (*kept, possible[-1])


def bytes_at_floor(learnt: Learnt) -> float:
    """Predicted bytes at the quality floor; infinite where no step of the codec reaches it."""
    curve = RateCurve(learnt.rate)
    index = curve.index_for_kl(QUALITY_FLOOR)
    return curve.bytes(index) if curve.kl(index) <= QUALITY_FLOOR else float("inf")


def _measured_bytes(cut: Cut, learnt: Sequence[Learnt]) -> Cut:
    for l in learnt:
        if l.cut.cut == cut.cut and bytes_at_floor(l) < float("inf"):
            return replace(cut, coded_bytes=round(bytes_at_floor(l)))
    return cut


def _jpeg_tables(seen: Samples, torch_graph, seed: int, on_progress):
    """JPEG quantization tables after the model's own sensitivity, None for grey inputs."""
    image = seen.judge.bundle.manifest.image
    if torch_graph is None:
        affordable = _JPEG_MACS // (_JPEG_RUNS * max(1, seen.judge.bundle.manifest.macs))
        probes = max(1, min(_JPEG_PROBES, affordable))
        few = seen.views[:: max(1, len(seen.views) // probes)][:probes]
        made = count(1)
        return _pair(tables_from(probe_jpeg_sensitivity(
            seen.judge, image, (v.arrays for v in few),
            lambda: on_progress(next(made), len(few)))))
    t = next(t for t in seen.graph.inputs if seen.graph.spec(t).name == image.tensor)
    stride = max(1, len(seen.views) // _JPEG_GRADIENTS) | 1
    found = gradients(seen, torch_graph, [t], seed, on_progress, stride)[t]
    return _pair(jpeg_tables(found.reshape(-1, image.height, image.width, image.channels)
                             .astype(np.float32)))


def _pair(tables) -> tuple[tuple[int, ...], tuple[int, ...]]:
    luma, chroma = tables
    return tuple(luma), tuple(chroma)

