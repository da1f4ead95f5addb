"""The shipped meter.tflite reads frames whose digits it has never seen."""

from pathlib import Path

import numpy as np
import pytest

from split_lab.demo import frames, layers

MODEL = Path(frames.__file__).with_name("meter.tflite")
FRAMES = 100


def _interpreter_class():
    """The runtime at hand; a machine with neither cannot run these tests, and says so."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            pytest.fail("needs ai-edge-litert or tflite-runtime: neither is installed")
    return Interpreter


@pytest.fixture(scope="module")
def interpreter():
    loaded = _interpreter_class()(model_path=str(MODEL), num_threads=1)
    loaded.allocate_tensors()
    return loaded


@pytest.fixture(scope="module")
def probabilities(interpreter):
    """uint8 [frames, 4, 10], for the first test frames."""
    image = interpreter.get_input_details()[0]["index"]
    answer = interpreter.get_output_details()[0]["index"]
    answers = []
    for index in range(FRAMES):
        interpreter.set_tensor(image, frames.compose(index, "test").pixels[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(answer)[0].copy())
    return np.stack(answers)


def test_it_takes_the_camera_bytes_as_they_are(interpreter):
    (image,) = interpreter.get_input_details()
    assert tuple(image["shape"]) == layers.INPUT_SHAPE == (1, frames.HEIGHT_PX, frames.WIDTH_PX, 3)
    assert image["dtype"] == np.uint8
    scale, zero_point = image["quantization"]
    assert scale == pytest.approx(1 / 255)
    assert zero_point == 0


def test_it_answers_with_a_probability_per_position_and_digit(interpreter):
    (answer,) = interpreter.get_output_details()
    assert tuple(answer["shape"]) == (1, frames.DIGITS_PER_FRAME, layers.CLASSES)
    assert answer["dtype"] == np.uint8
    assert answer["quantization"] == (1 / 256, 0)


def test_the_signature_names_input_and_output(interpreter):
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["digit_probabilities"]}}


def test_probabilities_add_up_to_one(probabilities):
    # Ten values, each rounded to 1/256.
    assert np.abs(probabilities.sum(axis=2) / 256 - 1.0).max() <= 10 * 0.5 / 256 + 1 / 256


def test_it_reads_digits_it_has_never_seen(probabilities):
    wanted = np.array([[int(digit) for digit in frames.compose(index, "test").text] for index in range(FRAMES)])
    right = probabilities.argmax(axis=2) == wanted
    # Measured on 2000 frames: see split_lab/demo/README.md; a hundred frames wander by 1 point.
    assert right.mean() >= 0.97
    assert right.all(axis=1).mean() >= 0.92


def test_the_file_is_small_enough_to_ship():
    assert MODEL.stat().st_size <= 400_000


def test_the_shipped_ops_are_the_ones_in_layers(interpreter):
    """train.py was run after the last change to layers.py."""
    shapes = {tensor["name"]: tuple(tensor["shape"]) for tensor in interpreter.get_tensor_details()}
    for name, shape in (layers.output_shapes() | {
            f"{name}/weights": shape for name, shape in layers.weight_shapes().items()}).items():
        assert shapes[name] == shape, name


def test_the_net_shrinks_what_a_cut_would_send():
    """What makes splitting worthwhile: boundaries far smaller than the frame, early enough."""
    shapes = layers.output_shapes()
    frame_bytes = int(np.prod(shapes["image"]))
    macs = layers.multiply_accumulates()
    names = list(macs)
    before = sum(macs[name] for name in names[:names.index("down2/pointwise") + 1])
    assert int(np.prod(shapes["down2/pointwise"])) * 4 < frame_bytes
    assert before < 0.5 * sum(macs.values())
    assert int(np.prod(shapes["squeeze"])) * 30 < frame_bytes
