"""Damaged models are refused or, where the damage makes another valid model, split: never a
traceback, a crash or a hang."""

from __future__ import annotations

import random

import pytest

from split_core.errors import BundleError
from split_core.model.build import build_bundle
from split_core.model.bundle import verify
from split_core.model.cuts import find_cuts
from split_core.model.graph import read_graph
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.shared_data import model as shared_model


def parse_and_build(data: bytes) -> None:
    """All that happens before the trial run."""
    graph = read_graph(data)
    verify(build_bundle(data, graph, find_cuts(graph), name="m"))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("make", [tiny_models.skip_model, tiny_models.state_model])
def test_every_truncation_is_refused(make):
    data = make()
    whole = read_graph(data)
    for n in range(len(data)):
        try:
            graph = read_graph(data[:n])
        except BundleError:
            continue
        # What was cut off was padding: nothing that the graph refers to.
        assert graph.ops == whole.ops and graph.tensors == whole.tensors


def test_every_flipped_bit_is_refused_or_another_model():
    data = tiny_models.state_model()
    refused = 0
    for bit in range(8 * len(data)):
        try:
            parse_and_build(flipped(data, bit))
        except BundleError:
            refused += 1
    assert refused > len(data)          # of eight bits a byte, more than one finds a reader


@pytest.mark.parametrize("name", ["keras_lstm_mnist_ptq.tflite", "traffic_model.tflite"])
def test_flipped_bits_of_real_models(name):
    data = shared_model(name).read_bytes()
    rng = random.Random(1)
    for _ in range(60):
        try:
            parse_and_build(flipped(data, rng.randrange(8 * len(data))))
        except BundleError:
            continue


def _split_flipped(tmp_path, count: int) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    data, path = tiny_models.skip_model(), tmp_path / "m.tflite"
    for _ in range(count):
        path.write_bytes(flipped(data, rng.randrange(8 * len(data))))
        try:
            verify(split_model(path))
        except BundleError as e:
            assert str(e)


def test_a_damaged_model_is_split_or_refused(tmp_path):
    _split_flipped(tmp_path, 12)


@pytest.mark.check
def test_many_damaged_models_are_split_or_refused(tmp_path):
    _split_flipped(tmp_path, 600)
