"""Bundles: what is in them, what their segments compute, what is refused."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from split_core.errors import BundleError
from split_core.model.bundle import open_bundle, source_model, verify
from split_core.model.runner import Runner, WholeModel, available_runtimes
from split_lab.split import split_model
from split_lab.trial import random_tensor
from tests.support import tiny_models

RUNTIMES = available_runtimes()


@pytest.fixture
def make(tmp_path):
    """Write a model, split it, open the bundle: (model path, bundle)."""

    def make(data: bytes, **options):
        model, bundle = tmp_path / "m.tflite", tmp_path / "m.split.tflite"
        model.write_bytes(data)
        bundle.write_bytes(split_model(model, **options))
        return model, open_bundle(bundle)

    return make


def test_both_runtimes_are_here_or_the_suite_says_which():
    assert RUNTIMES, "install ai-edge-litert or tflite-runtime"


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("model", [
    tiny_models.skip_model, tiny_models.wide_integer_model, tiny_models.int16_model,
    tiny_models.state_model,
])
def test_every_cut_is_bit_identical_over_20_inputs(make, runtime, model):
    path, bundle = make(model(), cuts="all", runtime=runtime)
    assert [c.cut for c in bundle.manifest.cuts] == list(range(bundle.manifest.ops + 1))
    whole, head, tail = WholeModel(path, runtime=runtime), *(
        Runner(bundle, runtime=runtime) for _ in range(2))
    rng = np.random.default_rng(7)
    for _ in range(20):
        inputs = {n: random_tensor(bundle.specs[n], rng) for n in bundle.manifest.inputs}
        wanted = whole.run(inputs.values())
        for cut in range(bundle.manifest.ops + 1):
            live = head.run(inputs, 0, cut)
            crossing = {s.name: live[s.name] for s in bundle.boundary(cut)}
            outputs = live | tail.run(crossing, cut, bundle.last_cut)
            for name, array in zip(bundle.manifest.outputs, wanted):
                assert outputs[name].tobytes() == array.tobytes(), (cut, name)


def test_a_skip_connection_crosses_as_two_tensors(make):
    _, bundle = make(tiny_models.skip_model(), cuts="all")
    assert [s.name for s in bundle.boundary(1)] == ["conv1"]
    assert [s.name for s in bundle.boundary(2)] == ["conv1", "conv2"]
    assert [s.name for s in bundle.boundary(3)] == ["sum"]


def test_macs_are_those_counted_by_hand(make):
    _, bundle = make(tiny_models.skip_model(), cuts="all")
    conv1, conv2, dense = 8 * 8 * 4 * 3 * 3 * 3, 8 * 8 * 4 * 3 * 3 * 4, 5 * 256
    assert [c.macs_before for c in bundle.manifest.cuts] == [
        0, conv1, conv1 + conv2, conv1 + conv2, conv1 + conv2, conv1 + conv2 + dense,
        conv1 + conv2 + dense]
    assert bundle.manifest.macs == conv1 + conv2 + dense


def test_a_batch_of_minus_one_is_one(make):
    _, bundle = make(tiny_models.skip_model())
    assert bundle.specs["image"].shape == (1, 8, 8, 3)
    assert bundle.manifest.image.height == 8


def test_state_is_found_by_its_names(make):
    _, bundle = make(tiny_models.state_model())
    (state,) = bundle.manifest.states
    assert (state.input, state.output) == ("raw_inputs/init_sum", "raw_outputs/sum")


def test_state_made_by_the_head_is_no_result_of_the_tail(make):
    _, bundle = make(tiny_models.state_model(), cuts="all")
    assert bundle.tail_outputs(0) == ("z", "raw_outputs/sum")
    assert bundle.tail_outputs(1) == ("z",)
    # x is used again by the last op, so it crosses with the product.
    assert [s.name for s in bundle.boundary(2)] == ["in/x", "y"]


def test_weights_are_stored_once_and_the_model_is_the_tail(make):
    source = tiny_models.skip_model()
    _, bundle = make(source, cuts="all")
    data = bundle.path.read_bytes()
    weights = np.random.default_rng(1).standard_normal((4, 3, 3, 3)) * 0.5
    assert data.count(weights.astype(np.float32).tobytes()) == 1
    assert source_model(data) == source
    assert bundle.manifest.source_sha256 == hashlib.sha256(source).hexdigest()
    assert bundle.sha256 == hashlib.sha256(data).digest()


def test_signatures_are_named_and_any_runtime_lists_them(make):
    from importlib import import_module

    from split_core.model.runner import RUNTIMES as modules

    _, bundle = make(tiny_models.skip_model(), cuts=[2, 4])
    interpreter = import_module(modules[RUNTIMES[0]]).Interpreter(str(bundle.path))
    signatures = interpreter.get_signature_list()
    assert list(signatures) == ["segment_0", "segment_1", "segment_2"]
    assert set(signatures["segment_0"]["outputs"]) == {"conv1", "conv2"}
    assert set(signatures["segment_1"]["inputs"]) == {"conv1", "conv2"}


@pytest.mark.parametrize("model, words", [
    (tiny_models.control_flow_model, "op 0 IF"),
    (tiny_models.unknown_custom_model, "Frobnicate"),
    (tiny_models.disordered_model, "op 0 ADD reads tensor 1 'm' before"),
    (lambda: b"no model at all", "wanted b'TFL3'"),
    (lambda: b"", "0 bytes"),
    (lambda: tiny_models.skip_model()[:700], "offset"),
])
def test_what_cannot_be_split_is_refused_by_name(make, model, words):
    with pytest.raises(BundleError, match=words) as error:
        make(model())
    assert error.value.exit_code == 65


def test_a_bundle_is_not_split_again(make):
    _, bundle = make(tiny_models.skip_model())
    with pytest.raises(BundleError, match="bundle already"):
        split_model(bundle.path)


def test_a_missing_cut_names_those_there_are(make):
    _, bundle = make(tiny_models.skip_model(), cuts=[3])
    with pytest.raises(BundleError, match="has no cut 2; it has 0, 3, 6"):
        bundle.cut(2)


def test_every_truncation_of_a_bundle_is_refused(make):
    _, bundle = make(tiny_models.skip_model(), cuts=[2])
    data = bundle.path.read_bytes()
    for n in range(0, len(data), 7):
        with pytest.raises(BundleError):
            verify(data[:n])


def test_every_flipped_bit_of_a_bundle_is_refused(make):
    _, bundle = make(tiny_models.skip_model(), cuts=[2])
    data = bytearray(bundle.path.read_bytes())
    rng = np.random.default_rng(11)
    for at in range(len(data)):
        flip = 1 << int(rng.integers(8))
        data[at] ^= flip
        with pytest.raises(BundleError):
            verify(data)
        data[at] ^= flip
    verify(data)
