"""Every model of the shared data through a real broker and worker: bit for bit the whole model.

Explicit state is fed back on the device; each model goes at its middle default cut, raw.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edge_agent.frames import Outcome
from split_core.model.bundle import open_bundle
from split_core.model.runner import WholeModel
from split_lab.split import split_model
from split_lab.trial import random_tensor
from tests.support.rig import Rig
from tests.support.shared_data import MODELS, needs_models

FRAMES = 6


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> Iterator[Rig]:
    with Rig(tmp_path_factory.mktemp("rig")) as rig:
        rig.worker()
        yield rig


@needs_models
@pytest.mark.parametrize("model", MODELS, ids=lambda p: p.stem)
def test_the_answer_is_the_whole_models(rig, model, tmp_path):
    path = tmp_path / "m.split.tflite"
    path.write_bytes(split_model(model))
    bundle = open_bundle(path)
    cuts = bundle.manifest.cuts
    device = rig.device(path, cut=cuts[len(cuts) // 2].cut, deadline_ms=20_000,
                        device_id=f"device-{model.stem[:40]}")
    whole, rng = WholeModel(model), np.random.default_rng(4)
    states = {s.input: s.output for s in bundle.manifest.states}
    state = dict(device.agent.deployment.state.arrays)
    for number in range(FRAMES):
        given = {n: random_tensor(bundle.specs[n], rng) for n in bundle.manifest.inputs
                 if n not in states}
        answer = device.agent.infer(given)
        assert answer.outcome == Outcome.REMOTE, answer.reason
        inputs = given | state
        wanted = dict(zip(bundle.manifest.outputs,
                          whole.run([inputs[n] for n in bundle.manifest.inputs])))
        for name, array in wanted.items():
            assert answer.outputs[name].tobytes() == array.tobytes(), (number, name)
        state = {i: wanted[o] for i, o in states.items()}
