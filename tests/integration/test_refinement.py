"""Frames in two layers, from end to end: the second only where the worker asks for it, the
answer then that of the fine step, and whatever breaks in between loses no frame."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge_agent.cli import main as edge_agent
from edge_agent.frames import Answer, Outcome
from split_core.model.certainty import certainty
from split_core.model.runner import Runner
from split_core.wire import messages as m
from split_core.wire.payload import Coder
from split_core.wire.quality import encode
from split_core.wire.rungs import Rung
from split_core.wire.transformed import TensorTransform, step_of
from tests.support.rig import Device, Rig

RUNG = "kl0.02+refine"
DEADLINE_MS = 600.0
RATE_HZ = 8.0
CUT = 1


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path, proxied=True) as rig:
        yield rig


class Both:
    """Both sides' work on a frame, here: what each layer gives and what it costs."""

    def __init__(self, device: Device, arrays):
        self.bundle = bundle = device.agent.bundle
        self._runner, boundary = Runner(bundle), bundle.boundary(CUT)
        live = self._runner.run(arrays, 0, CUT)
        coder = Coder(codings=bundle.codings)
        encoded = encode(coder, [live[s.name] for s in boundary], boundary, Rung.parse(RUNG),
                         bundle.rate(CUT), bundle.cut(CUT).margin)
        self.fine_kl, self.base_kl = encoded.predicted_kl, encoded.base_kl
        self.base_bytes = len(encoded.payload)
        self.whole_bytes = self.base_bytes + len(coder.encode_refinement(encoded.layers))
        self.base_scores = self._scores(coder.decode(encoded.payload, boundary))
        self.is_sure = certainty(self.base_scores) >= bundle.cut(CUT).margin
        # In one layer: the symbols of the fine step, as they are before they are parted.
        fine = [TensorTransform(bundle.codings[s.name], s)._reconstruct(
            encoded.layers.symbols[s.name], step_of(encoded.layers.index) / 3) for s in boundary]
        self.fine_scores = self._scores(fine)

    def _scores(self, arrays) -> np.ndarray:
        live = dict(zip(self.bundle.cut(CUT).boundary, arrays))
        return self._runner.run(live, CUT, self.bundle.last_cut)["scores"]


def test_answers_and_bytes_are_those_of_the_layers_that_were_sent(rig, layered):
    rig.worker()
    device = rig.device(layered.bundle, cut=CUT, rung=RUNG, deadline_ms=5000)
    refined = []
    for arrays in device.inputs:
        answer, both = device.agent.infer(arrays), Both(device, arrays)
        assert answer.outcome == Outcome.REMOTE and answer.refined == (not both.is_sure)
        scores = both.base_scores if both.is_sure else both.fine_scores
        assert answer.outputs["scores"].tobytes() == scores.tobytes()
        assert answer.payload_bytes == (both.base_bytes if both.is_sure else both.whole_bytes)
        predicted = both.base_kl if both.is_sure else both.fine_kl
        assert answer.predicted_kl == predicted and both.fine_kl <= 0.02 < both.base_kl
        assert ("refine" in answer.stages_ms) == answer.refined
        assert sum(answer.stages_ms.values()) <= answer.total_ms, "no time is told twice"
        refined.append(answer.refined)
    assert set(refined) == {True, False}, "the model is made so"
    topic = rig.topics.device_up(device.agent.config.id, "result")
    rig.observer.wait(lambda _: len(rig.observer.on(topic)) == len(refined), 5, "all results")
    records = [s.record for s in rig.observer.on(topic)]
    assert [r["refined"] for r in records] == refined
    assert all(r["predicted_kl"] == pytest.approx(
        both.fine_kl if r["refined"] else both.base_kl, rel=1e-3) for r in records)
    assert {r["rung"] for r in records} == {RUNG}


def test_in_one_layer_there_is_nothing_to_refine_but_a_prediction(rig, doubtful):
    rig.worker()
    device = rig.device(doubtful.bundle, cut=CUT, rung="kl0.02", deadline_ms=5000)
    answer = device.agent.infer(device.inputs[0])
    assert answer.outcome == Outcome.REMOTE and answer.refined is None
    assert answer.predicted_kl == device.agent.bundle.rate(CUT).kl(
        device.agent.bundle.rate(CUT).index_for_kl(0.02))
    plain = rig.device(doubtful.bundle, cut=CUT, rung="q4", device_id="plain", deadline_ms=5000)
    answer = plain.agent.infer(plain.inputs[0])
    assert (answer.predicted_kl, answer.refined) == (None, None)


def as_it_is_asked(device: Device, act: Callable[[], None]) -> None:
    """Do something once, on the device's network thread, between the next request for a
    refinement and the refinement."""
    coder = device.agent.deployment.sender._coder
    encode_refinement = coder.encode_refinement

    def first_act(layers):
        coder.encode_refinement = encode_refinement
        act()
        return encode_refinement(layers)

    coder.encode_refinement = first_act


def lasting_fault(device: Device, act: Callable[[], None]) -> None:
    """Settle, let a fault come between request and refinement, and see it through."""
    device.wait_for_frames(10, 20)
    assert {e.outcome for e in device.history.ends[-5:]} == {Outcome.REMOTE}
    done_s = []

    def act_and_note() -> None:
        act()
        done_s.append(time.monotonic())

    as_it_is_asked(device, act_and_note)
    device.history.wait(lambda: bool(done_s), 10, "a request for a refinement")
    device.wait_for_frames(int(RATE_HZ), 20)


def check(device: Device) -> None:
    device.history.check_all_answered_in_time(device.agent)
    assert not any(f.layers for f in device.agent.deployment.sender.flights)
    print(dict(device.history.outcomes()))


def test_a_worker_that_is_killed_as_it_waits(rig, doubtful):
    worker = rig.worker()
    device = rig.device(doubtful.bundle, cut=CUT, rung=RUNG, deadline_ms=DEADLINE_MS)
    with device.feeding(RATE_HZ):
        lasting_fault(device, worker.kill)
        began_s = time.monotonic()
        worker.start()
        rig.wait_for_worker(worker, device.agent.bundle, after_s=began_s)
        device.history.wait_for_remote(time.monotonic(), 10)
    check(device)


@pytest.mark.parametrize("seconds", [0.2, 2.0])
def test_a_link_that_swallows_the_refinement(rig, doubtful, seconds):
    rig.worker()
    device = rig.device(doubtful.bundle, cut=CUT, rung=RUNG, deadline_ms=DEADLINE_MS)
    with device.feeding(RATE_HZ):
        lasting_fault(device, rig.proxy.black_hole)
        device.wait_for_frames(int(seconds * RATE_HZ), 20)
        rig.proxy.heal()
        device.history.wait_for_remote(time.monotonic(), 10)
        device.wait_for_frames(int(RATE_HZ), 20)
    check(device)


def test_a_link_that_is_cut_before_the_refinement(rig, doubtful):
    rig.worker()
    device = rig.device(doubtful.bundle, cut=CUT, rung=RUNG, deadline_ms=DEADLINE_MS)
    with device.feeding(RATE_HZ):
        lasting_fault(device, rig.proxy.cut)
        device.history.wait_for_remote(time.monotonic(), 10)
    check(device)


def test_without_its_refinement_a_frame_has_the_first_answer_in_time(rig, doubtful):
    rig.worker()
    device = rig.device(doubtful.bundle, cut=CUT, rung=RUNG, deadline_ms=1200)
    send_of = device.agent.deployment.sender._send_of

    def lose_refinements(flight, kind, nbytes, make_body) -> None:
        if kind is not m.Kind.REFINEMENT:
            send_of(flight, kind, nbytes, make_body)

    device.agent.deployment.sender._send_of = lose_refinements
    for arrays in device.inputs[:3]:
        answer, both = device.agent.infer(arrays), Both(device, arrays)
        assert answer.outcome == Outcome.REMOTE and answer.refined is False and not answer.late
        assert answer.outputs["scores"].tobytes() == both.base_scores.tobytes()
        assert answer.payload_bytes == both.base_bytes and "refine" not in answer.stages_ms
        # Half of what is left is waited for.
        assert 550 < answer.total_ms < 1200


def test_two_devices_in_two_layers_share_a_worker(rig, doubtful, layered):
    rig.worker()
    one = rig.device(doubtful.bundle, device_id="one", cut=CUT, rung=RUNG, keep_outputs=True)
    two = rig.device(layered.bundle, device_id="two", cut=CUT, rung=RUNG, seed=21)
    with one.feeding(8), two.feeding(12):
        one.wait_for_frames(24, 30)
    for device in (one, two):
        device.history.check(device.agent)
        outcomes = device.history.outcomes()
        assert outcomes["remote"] > 0.8 * outcomes.total(), outcomes
    answers: list[Answer] = [a for a in one.history.answers.values() if a.outcome == "remote"]
    # A busy worker may send a few as they are.
    assert sum(a.refined for a in answers) > 0.8 * len(answers)


def test_the_command_asks_for_a_quality_a_size_and_two_layers(rig, doubtful, tmp_path, capfd):
    rig.worker()
    array = tmp_path / "x.npy"
    np.save(array, np.random.default_rng(1).standard_normal((1, 64, 64, 3)).astype(np.float32))

    def infer(*options: str) -> str:
        assert edge_agent(["infer", str(doubtful.bundle), str(array), "--broker", rig.url,
                           "--cut", str(CUT), *options]) == 0
        return capfd.readouterr().out

    fine, coarse = (json.loads(infer("--json", "--kl", d)) for d in ("0.005", "0.2"))
    assert (fine["rung"], fine["outcome"], fine["refined"]) == ("kl0.005", "remote", None)
    assert fine["predicted_kl"] <= 0.005 < coarse["predicted_kl"] <= 0.2
    assert fine["payload_bytes"] > 1.5 * coarse["payload_bytes"]
    small = json.loads(infer("--json", "--bytes", "4000"))
    assert small["rung"] == "b4000" and 3000 < small["payload_bytes"] <= 4000
    layers = json.loads(infer("--json", "--kl", "0.02", "--refine"))
    assert (layers["rung"], layers["refined"]) == (RUNG, True)
    assert "refine" in layers["stages_ms"]
    said = infer("--kl", "0.02", "--refine")
    assert f"{layers['payload_bytes']} bytes (predicted KL 0.0" in said and ", refined," in said
    # A calibrated bundle needs to be told nothing.
    assert json.loads(infer("--json"))["rung"] == "kl0.02"
