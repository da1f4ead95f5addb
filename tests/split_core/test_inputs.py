"""Model inputs from files and callers: what is there, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from split_core.errors import InputError
from split_core.inputs import check_inputs, first_states, read_arrays, state_inputs
from split_core.model.bundle import open_bundle
from split_lab.split import split_model
from tests.support import tiny_models


def made(folder, data: bytes):
    (folder / "m.tflite").write_bytes(data)
    path = folder / "m.split.tflite"
    path.write_bytes(split_model(folder / "m.tflite", cuts="all"))
    return open_bundle(path)


@pytest.fixture
def skip(tmp_path):
    return made(tmp_path, tiny_models.skip_model())


@pytest.fixture
def image():
    return np.random.default_rng(1).random((1, 8, 8, 3), np.float32)


def test_an_array_is_the_first_input_and_named_ones_are_theirs(skip, image, tmp_path):
    np.save(tmp_path / "x.npy", image)
    np.savez(tmp_path / "x.npz", image=image, of_no_use=np.zeros(3))
    for name in ("x.npy", "x.npz"):
        found = read_arrays(skip, tmp_path / name)
        assert list(found) == ["image"] and np.array_equal(found["image"], image)


@pytest.mark.parametrize("name, data, words", [
    ("x.npy", b"no array", "x.npy: "), ("x.npz", b"PK\x03\x04no zip", "x.npz: "),
    ("x.npy", None, "No such file")])
def test_a_file_that_is_none_is_named(skip, tmp_path, name, data, words):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_arrays(skip, tmp_path / name)


@pytest.mark.parametrize("change, words", [
    (lambda a: {}, "from: input 'image' is missing, wanted float32"),
    (lambda a: {"image": a[0]}, r"is float32\[8, 8, 3\], wanted float32\[1, 8, 8, 3\]"),
    (lambda a: {"image": a.astype(np.float64)}, r"is float64\[1, 8, 8, 3\]")])
def test_what_the_model_does_not_take_is_refused(skip, image, change, words):
    check_inputs(skip, {"image": image})
    with pytest.raises(InputError, match=words):
        check_inputs(skip, change(image), "from: ")
    check_inputs(skip, change(image), spare={"image"})


def test_state_that_a_file_lacks_is_as_before_the_first_frame(tmp_path):
    bundle = made(tmp_path, tiny_models.state_model())
    (state,) = state_inputs(bundle)
    zero = first_states(bundle)
    assert list(zero) == [state] == ["raw_inputs/init_sum"] and not zero[state].any()
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    found = read_arrays(bundle, tmp_path / "x.npy")
    assert not found[state].any() and found["in/x"].all()
    np.savez(tmp_path / "x.npz", **{"in/x": found["in/x"], state: zero[state] + 7})
    assert (read_arrays(bundle, tmp_path / "x.npz")[state] == 7).all()
