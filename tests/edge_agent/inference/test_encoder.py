"""Boundaries to payloads as a plan says, with a real coder and tiny tables."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from edge_agent.frames import Plan
from edge_agent.inference.encoder import Encoder
from split_core.model.manifest import PictureRate
from split_core.model.runner import Runner
from split_core.wire.messages import Codec
from split_core.wire.payload import Coder
from split_core.wire.rungs import Rung
from tests.support import tiny_models
from tests.support.calibrated import calibrate_roughly

CUT = 1
JPEG = (PictureRate("jpeg", 20, 0.08, 300.0), PictureRate("jpeg", 90, 0.01, 900.0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skip")
    (folder / "skip.tflite").write_bytes(tiny_models.skip_model())
    bundle = calibrate_roughly(folder / "skip.tflite", folder / "b.split.tflite", CUT, margin=0.5)
    # Pictures, as a calibration would have measured them.
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, pictures=JPEG))


@pytest.fixture(scope="module")
def live(bundle):
    """A frame that is no noise, and what it makes at each border."""
    ramp = np.linspace(0, 255, 8 * 8 * 3, dtype=np.float32).reshape(1, 8, 8, 3)
    return {"image": ramp} | Runner(bundle).run({"image": ramp}, 0, CUT)


def plan(rung: str, cut: int = CUT) -> Plan:
    return Plan(1, cut, Rung.parse(rung))


def coder(bundle) -> Coder:
    return Coder(clips=bundle.clips, image=bundle.manifest.image, codings=bundle.codings)


def test_an_index_is_the_step_and_none_is_as_the_rung_says(bundle, live):
    encoder, rate, specs = Encoder(bundle), bundle.rate(CUT), bundle.boundary(CUT)
    asked = rate.index_for_kl(0.02)
    payloads = {}
    for index in (None, asked, asked + 40):
        encoded = encoder.encode(live, plan("kl0.02"), index)
        used = asked if index is None else index
        payloads[index] = encoded.payload
        assert encoded.payload == coder(bundle).encode_at([live[s.name] for s in specs], specs,
                                                          used)[0]
        assert encoded.predicted_kl == pytest.approx(rate.kl(used))
    assert payloads[None] == payloads[asked]
    assert len(payloads[asked + 40]) < len(payloads[asked])


def test_of_a_picture_the_index_is_its_quality(bundle, live):
    encoder, specs = Encoder(bundle), bundle.boundary(0)
    curve = bundle.picture_rate("jpeg")
    for rung, index, quality in (("jpeg90", None, 90), ("jpeg90", 20, 20), ("jpeg30", 90, 90)):
        encoded = encoder.encode(live, plan(rung, 0), index)
        assert encoded.payload == coder(bundle).encode(
            [live["image"]], specs, Rung(Codec.IMAGE, quality, "jpeg"))
        assert encoded.predicted_kl == pytest.approx(curve.kl(quality))
    small, large = (encoder.encode(live, plan("jpeg90", 0), q).payload for q in (5, 100))
    assert len(small) < len(large)


def test_a_picture_that_nobody_measured_has_no_prediction(bundle, live):
    unmeasured = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, pictures=()))
    assert Encoder(unmeasured).encode(live, plan("jpeg90", 0), None).predicted_kl is None


@pytest.mark.parametrize("rung", ["raw", "q4"])
def test_what_has_no_step_is_coded_as_it_says(bundle, live, rung):
    specs = bundle.boundary(CUT)
    encoded = Encoder(bundle).encode(live, plan(rung), None)
    assert encoded.payload == coder(bundle).encode([live[s.name] for s in specs], specs,
                                                   Rung.parse(rung))
    assert encoded.predicted_kl is None


def test_every_cut_is_prepared_so_that_no_frame_after_a_switch_has_to(bundle, monkeypatch):
    prepared = []
    monkeypatch.setattr(Coder, "prepare", lambda self, specs: prepared.append(tuple(specs)))
    Encoder(bundle).prepare()
    cuts = [c.cut for c in bundle.manifest.cuts if c.cut != bundle.last_cut]
    assert len(cuts) > 3 and prepared == [bundle.boundary(cut) for cut in cuts]


def test_a_state_that_comes_back_is_never_coded_with_loss(tmp_path):
    from split_core.model.bundle import open_bundle
    from split_lab.split import split_model

    (tmp_path / "s.tflite").write_bytes(tiny_models.state_model())
    (tmp_path / "s.split.tflite").write_bytes(split_model(tmp_path / "s.tflite", cuts="all"))
    bundle = open_bundle(tmp_path / "s.split.tflite")
    specs = bundle.boundary(0)
    values = {s.name: np.random.default_rng(1).standard_normal(s.shape).astype(np.float32)
              for s in specs}
    assert {s.input for s in bundle.manifest.states} <= set(values)
    payload = Encoder(bundle).encode(values, plan("q1", 0), None).payload
    decoded = dict(zip(values, Coder(clips=bundle.clips).decode(payload, specs)))
    for state in bundle.manifest.states:
        assert np.array_equal(decoded[state.input], values[state.input])
    assert not np.array_equal(decoded["in/x"], values["in/x"]), "what is no state is in one bit"
