"""Every model of the shared data: all cuts bit-identical with the raw rung, in each runtime,
20 inputs in a row, two devices interleaved on one worker."""

from __future__ import annotations

import numpy as np
import pytest

from split_core.model.bundle import open_bundle
from split_core.model.runner import Runner, WholeModel, available_runtimes
from split_core.wire.payload import Coder
from split_core.wire.rungs import RAW
from split_lab.split import split_model
from split_lab.trial import random_tensor
from tests.support.shared_data import MODELS, needs_models

INPUTS = 20


@needs_models
@pytest.mark.parametrize("runtime", available_runtimes())
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_all_cuts_are_bit_identical(path, runtime, tmp_path):
    """Each of two devices holds its own state; every border is crossed as a payload, so one
    run of the chain is a run of every cut."""
    file = tmp_path / "m.split.tflite"
    file.write_bytes(split_model(path, cuts="all", runtime=runtime))
    bundle = open_bundle(file)
    whole = WholeModel(path, runtime=runtime)
    device, worker = (Runner(bundle, runtime=runtime) for _ in range(2))
    coder = Coder(clips=bundle.clips, image=bundle.manifest.image)
    rng = np.random.default_rng(20)
    states = [{}, {}]
    for number in range(INPUTS):
        state = states[number % 2]
        inputs = {n: random_tensor(bundle.specs[n], rng) for n in bundle.manifest.inputs} | state
        wanted = dict(zip(bundle.manifest.outputs, whole.run(inputs.values())))
        live, outputs = dict(inputs), {}
        for index, (here, there) in enumerate(zip(bundle.manifest.cuts, bundle.manifest.cuts[1:])):
            boundary = bundle.boundary(here.cut)
            payload = coder.encode([live[s.name] for s in boundary], boundary, RAW)
            crossed = dict(zip(here.boundary, coder.decode(payload, boundary)))
            live = (device, worker)[index % 2].run(crossed, here.cut, there.cut)
            outputs |= {n: a for n, a in live.items() if n in wanted}
        for name, array in wanted.items():
            assert outputs[name].tobytes() == array.tobytes(), (number, name)
        states[number % 2] = {s.input: wanted[s.output] for s in bundle.manifest.states}


@needs_models
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_default_cuts_are_few_and_worth_it(path, tmp_path):
    file = tmp_path / "m.split.tflite"
    file.write_bytes(split_model(path))
    manifest = open_bundle(file).manifest
    cuts = manifest.cuts
    assert 2 <= len(cuts) <= 12
    coded = [c.coded_bytes for c in cuts]
    assert coded == sorted(coded, reverse=True)
    assert [c.macs_before for c in cuts] == sorted(c.macs_before for c in cuts)
