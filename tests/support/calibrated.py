"""Calibrated bundles of tiny models in a moment: a DCT, the variances of noise, and a curve.

What `edge-agent calibrate` learns in minutes is here as plain as it works at all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from split_core.model.build import Calibration, build_bundle
from split_core.model.bundle import Bundle, open_bundle
from split_core.model.cuts import find_cuts
from split_core.model.graph import read_graph
from split_core.model.manifest import RatePoint
from split_core.model.runner import Runner
from split_core.wire.payload import Coder
from split_lab.calibrate.transform import Fit, blocks_of, dct, to_coding
from split_lab.split import describe_model
from tests.support.tiny_models import input_like

_INDICES = range(-160, 97, 32)
_SAMPLES = 6


def calibrate_roughly(model: Path, output: Path, cut: int, *, margin: float) -> Bundle:
    """Write the bundle of a classifier with all its cuts, calibrated at one, and open it.

    A worker asks for the refinement of an answer that is less sure than ``margin``.
    """
    source = model.read_bytes()
    graph = read_graph(source)
    cuts, what = find_cuts(graph), describe_model(model, source, graph).fields()
    plain = output.with_name(f"plain-{output.name}")
    plain.write_bytes(build_bundle(source, graph, cuts, **what))
    bundle = open_bundle(plain)
    runner, rng = Runner(bundle), np.random.default_rng(5)
    frames = [runner.run({n: input_like(bundle.specs[n], rng) for n in bundle.manifest.inputs},
                         0, cut) for _ in range(_SAMPLES)]
    codings = {s.name: _coding(s, np.concatenate([f[s.name] for f in frames]))
               for s in bundle.boundary(cut)}
    rate = _curve(bundle, runner, codings, frames, cut)
    output.write_bytes(build_bundle(source, graph, cuts, **what, calibration=Calibration(
        codings, {cut: rate}, {cut: margin})))
    return open_bundle(output)


def _coding(spec, values: np.ndarray):
    blocks = blocks_of(spec.shape)
    _, rows, _, columns, channels = blocks
    fit = Fit(blocks, np.zeros(spec.shape[1:]), np.eye(channels), dct(rows), dct(columns),
              np.ones((rows, columns, channels)))
    y = fit.coefficients(values)
    fit = Fit(*(getattr(fit, f) for f in ("blocks", "mean", "channel", "row", "column")),
              np.mean(y.astype(np.float64) ** 2, axis=(0, 1, 3)))
    return to_coding(spec.name, fit, 2.0 ** (_INDICES[0] / 32))


def _curve(bundle: Bundle, runner: Runner, codings, frames, cut: int) -> tuple[RatePoint, ...]:
    """Measured: mean bytes, and how far the answer moves."""
    coder, specs = Coder(codings=codings), bundle.boundary(cut)
    name, points = bundle.manifest.outputs[0], []

    def scores(arrays) -> np.ndarray:
        live = dict(zip(bundle.cut(cut).boundary, arrays))
        return runner.run(live, cut, bundle.last_cut)[name].astype(np.float64).ravel() + 1e-12

    kl = nbytes = 0.0
    for index in _INDICES:
        payloads = [coder.encode_at([f[s.name] for s in specs], specs, index)[0] for f in frames]
        found = []
        for frame, payload in zip(frames, payloads):
            p, q = scores([frame[s.name] for s in specs]), scores(coder.decode(payload, specs))
            found.append(float((p * np.log(p / q)).sum()))
        # A curve is in order, whatever the noise of six frames.
        kl = max(kl * 1.01, 1e-9, float(np.mean(found)))
        mean = float(np.mean([len(p) for p in payloads]))
        nbytes = min(nbytes * 0.99, mean) if points else mean
        points.append(RatePoint(index, kl, nbytes))
    return tuple(points)


