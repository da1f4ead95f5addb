"""What outputs say: classes, texts, boxes, with numbers worked out by hand."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from edge_agent.frames import Answer, Outcome
from edge_agent.results.answers import (
    detections, read_answer, read_sequence, to_real, to_record, top_classes,
)
from edge_agent.results.record import ResultRecord
from split_core.errors import BundleError
from split_core.tensors import Quantization, TensorSpec


def bundle(kind: str, labels: tuple[str, ...], *specs: TensorSpec):
    """As much of a bundle as answers look at."""
    manifest = SimpleNamespace(outputs=tuple(s.name for s in specs),
                               answer=SimpleNamespace(kind=kind, labels=labels))
    return SimpleNamespace(manifest=manifest, output_specs=specs)


def test_stored_values_become_real_ones():
    spec = TensorSpec("y", (3,), "uint8", Quantization(0.5, 10))
    real = to_real(np.array([10, 12, 0], np.uint8), spec)
    assert real.tolist() == [0.0, 1.0, -5.0]
    floats = np.array([1.5], np.float32)
    assert to_real(floats, TensorSpec("y", (1,), "float32", Quantization(0.5, 1))) is floats
    plain = np.array([7], np.int64)
    assert to_real(plain, TensorSpec("y", (1,), "int64")) is plain


def test_the_best_classes_best_first_and_of_equals_the_lower():
    scores = np.array([0.1, 0.4, 0.4, 0.05, 0.05], np.float32)
    assert top_classes(scores, ("a", "b"), 3) == [
        {"index": 1, "label": "b", "score": pytest.approx(0.4)},
        {"index": 2, "label": None, "score": pytest.approx(0.4)},
        {"index": 0, "label": "a", "score": pytest.approx(0.1)},
    ]
    assert len(top_classes(scores, (), 99)) == 5


def test_a_sequence_is_as_sure_as_its_least_sure_position():
    scores = np.array([[[0.1, 0.9, 0.0], [0.6, 0.3, 0.1], [0.0, 0.2, 0.8]]], np.float32)
    assert read_sequence(scores, ("x", "y")) == {"text": "yx2", "score": pytest.approx(0.6)}


def test_only_as_many_boxes_as_are_counted():
    boxes = np.array([[[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8], [0, 0, 1, 1]]], np.float32)
    classes, scores = np.array([[1.0, 0.0, 5.0]]), np.array([[0.9, 0.8, 0.7]], np.float32)
    found = detections([boxes, classes, scores, np.array([2.0])], ("cat", "dog"))
    assert found == [
        {"label": "dog", "index": 1, "score": pytest.approx(0.9), "box": [0.1, 0.2, 0.3, 0.4]},
        {"label": "cat", "index": 0, "score": pytest.approx(0.8), "box": [0.5, 0.6, 0.7, 0.8]},
    ]
    # A count beyond the rows there are, and none at all.
    assert len(detections([boxes, classes, scores, np.array([10.0])], ())) == 3
    assert detections([boxes, classes, scores, np.array([0.0])], ()) == []


def test_the_kind_of_answer_decides_the_fields():
    spec = TensorSpec("y", (1, 2), "uint8", Quantization(1 / 256, 0))
    outputs = {"y": np.array([[64, 192]], np.uint8)}
    assert read_answer(bundle("classification", ("no", "yes"), spec), outputs, top_k=1) == {
        "top": [{"index": 1, "label": "yes", "score": 0.75}]}
    assert read_answer(bundle("sequence", ("no", "yes"), spec), outputs) == {
        "text": "yes", "score": 0.75}
    assert read_answer(bundle("tensors", (), spec), outputs) == {}


def answer(outputs=None, **more) -> Answer:
    return Answer(7, Outcome.REMOTE, "", "door", 1.0, 12.34567, False, 3, "q4", 2, 99, "w",
                  {"head": 1.23456}, outputs, **more)


def test_a_record_says_all_of_an_answer():
    spec = TensorSpec("y", (2,), "float32")
    outputs = {"y": np.array([0.25, 0.75], np.float32)}
    record = to_record(answer(outputs), bundle("classification", (), spec), at="then", top_k=1,
                       raw_tensors=True)
    assert record == {
        "frame_id": 7, "source": "door", "at": "then", "outcome": "remote", "reason": "", "late": False,
        "cut": 3, "rung": "q4", "plan_id": 2, "worker": "w", "payload_bytes": 99,
        "predicted_kl": None, "refined": None, "raced": False, "stages_ms": {"head": 1.235}, "total_ms": 12.346,
        "top": [{"index": 1, "label": None, "score": 0.75}],
        "tensors": [{"name": "y", "dtype": "float32", "shape": [2],
                     "data": base64.b64encode(outputs["y"].tobytes()).decode()}],
    }
    assert set(record) <= set(ResultRecord.__struct_fields__)
    assert msgspec.json.decode(msgspec.json.encode(msgspec.convert(record, ResultRecord))) == record


def test_a_record_says_what_the_code_was_to_cost_and_whether_it_was_refined():
    record = to_record(answer(predicted_kl=0.01987654, refined=False), bundle("tensors", ()),
                       at="then", top_k=1, raw_tensors=False)
    assert (record["predicted_kl"], record["refined"]) == (0.01988, False)


def test_a_frame_without_outputs_has_a_record_too():
    record = to_record(answer(), bundle("classification", ()), at="then", top_k=5, raw_tensors=True)
    assert "top" not in record and "tensors" not in record


def test_unsigned_scores_are_ranked_as_numbers():
    top = top_classes(np.array([0, 10, 200, 5], np.uint8), (), 2)
    assert [t["index"] for t in top] == [2, 1]


@pytest.mark.parametrize("outputs", [
    {"b": np.zeros((1, 1, 2), np.float32)},                        # boxes of two numbers
    {"c": np.full((1, 1), np.nan, np.float32)},                    # no class
    {"n": np.array([np.nan], np.float32)},                         # no count
])
def test_outputs_that_are_no_detection_are_refused_in_one_line(outputs):
    specs = [TensorSpec(n, (), "float32") for n in "bcsn"]
    good = {"b": np.zeros((1, 1, 4), np.float32), "c": np.zeros((1, 1), np.float32),
            "s": np.ones((1, 1), np.float32), "n": np.ones(1, np.float32)}
    found = read_answer(bundle("detection", (), *specs), good)["objects"]
    assert len(found) == 1
    if "b" in outputs:
        outputs["b"] = np.zeros((2, 1, 4), np.float32)             # a batch of two
    with pytest.raises(BundleError, match="no detection"):
        read_answer(bundle("detection", (), *specs), good | outputs)


def test_a_class_below_nought_has_no_label():
    """Some detectors say -1 for what they are not sure of; the last label is not meant."""
    found = detections([np.zeros((1, 1, 4)), np.full((1, 1), -1.0), np.ones((1, 1)), np.ones(1)],
                       ("cat", "dog"))
    assert [(o["index"], o["label"]) for o in found] == [(-1, None)]
