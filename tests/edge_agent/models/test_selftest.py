"""What may run frames and what may not, found in a process of its own."""

from __future__ import annotations

import json
import os
import stat

import numpy as np
import pytest

from edge_agent.models import selftest
from edge_agent.models.selftest import check_fits, self_test
from split_core.errors import BundleError
from split_core.model.bundle import open_bundle
from split_lab.split import split_model
from tests.edge_agent.models.making import bundle_of
from tests.support import tiny_models


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    return bundle_of(tmp_path_factory.mktemp("m"), "camera", tiny_models.camera_model())


def test_a_good_bundle_passes_and_is_timed(camera):
    report = self_test(camera, runtime=None, threads=1)
    assert report.model == "camera" and 0 < report.whole_s < 5
    assert not list(camera.parent.glob("*.trial")), "its copy of the model is gone"


def test_a_model_with_state_passes(tmp_path):
    bundle = bundle_of(tmp_path, "counter", tiny_models.state_model())
    assert self_test(bundle, runtime=None, threads=1).model == "counter"


def test_a_damaged_bundle_fails(camera, tmp_path):
    data = bytearray(camera.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(data)
    with pytest.raises(BundleError, match="damaged bundle: content SHA-256"):
        self_test(damaged, runtime=None, threads=1)
    with pytest.raises(BundleError, match="no such file"):
        self_test(tmp_path / "none.tflite", runtime=None, threads=1)


def test_segments_that_are_not_the_model_fail(camera, monkeypatch):
    """As a runtime that computes otherwise than the one the bundle was made with."""
    whole = selftest.WholeModel.run

    def other(self, arrays):
        return [made * np.float32(1.01) for made in whole(self, arrays)]

    selftest.run_test(camera, None, 1)
    monkeypatch.setattr(selftest.WholeModel, "run", other)
    with pytest.raises(BundleError, match="its segments and its whole model differ in output"):
        selftest.run_test(camera, None, 1)


def program(tmp_path, body: str):
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_crash_is_its_own(camera, tmp_path, monkeypatch):
    monkeypatch.setattr(selftest.sys, "executable", program(tmp_path, "kill -SEGV $$"))
    with pytest.raises(BundleError, match="killed by signal 11: the runtime crashed on it"):
        self_test(camera, runtime=None, threads=1)


def test_what_hangs_is_ended(camera, tmp_path, monkeypatch):
    monkeypatch.setattr(selftest.sys, "executable", program(tmp_path, "exec sleep 60"))
    with pytest.raises(BundleError, match="did not end in 0 s"):
        self_test(camera, runtime=None, threads=1, timeout_s=0.1)


def test_what_dies_without_a_word_is_told_by_its_last(camera, tmp_path, monkeypatch):
    monkeypatch.setattr(selftest.sys, "executable", program(tmp_path, "echo one >&2; exit 3"))
    with pytest.raises(BundleError, match="ended without a word: one"):
        self_test(camera, runtime=None, threads=1)


def test_who_looks_on_may_end_it(camera, tmp_path, monkeypatch):
    """The agent stops: nothing is left running."""
    pid_file = tmp_path / "pid"
    monkeypatch.setattr(selftest.sys, "executable",
                        program(tmp_path, f"echo $$ > {pid_file}; exec sleep 60"))

    def look():
        if pid_file.exists() and pid_file.read_text().strip():
            raise KeyError("stop")

    with pytest.raises(KeyError):
        self_test(camera, runtime=None, threads=1, look=look)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_where_priorities_may_not_be_set_it_is_tried_all_the_same(camera, monkeypatch, capsys):
    """systemd/edge-agent.service answers the system call with EPERM."""
    def refused(by):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(selftest.os, "nice", refused)
    assert selftest.main([str(camera), "", "1"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["model"] == "camera"


def test_the_child_is_told_no_secret(monkeypatch):
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/it")
    found = selftest._environment()
    assert "hunter2" not in repr(found) and "/run/credentials" not in repr(found)
    assert found["PATH"] == os.environ["PATH"], "the rest it has"


# -- whether it fits


def test_other_weights_fit(tmp_path):
    old, new = (open_bundle(bundle_of(tmp_path, f"m{seed}", tiny_models.camera_model(seed)))
                for seed in (1, 2))
    check_fits(new, old)


def test_other_inputs_do_not(camera, tmp_path):
    old = open_bundle(camera)
    for name, data, words in (("skip", tiny_models.skip_model(), r"it takes float32\[1, 8, 8, 3\]"),
                              ("wide", tiny_models.wide_integer_model(), r"int32\[1, 6\]")):
        with pytest.raises(BundleError, match=words):
            check_fits(open_bundle(bundle_of(tmp_path, name, data)), old)


def test_an_input_of_another_name_fits_pictures_only(tmp_path):
    def renamed(data: bytes) -> bytes:
        assert b"image" in data
        return data.replace(b"image", b"photo")

    made = []
    camera = tiny_models.camera_model()
    for name, data in (("a", camera), ("b", renamed(camera))):
        made.append(open_bundle(bundle_of(tmp_path, name, data)))
    check_fits(made[1], made[0])
    arrays = []
    for name, data in (("c", tiny_models.wide_integer_model()),
                       ("d", tiny_models.wide_integer_model().replace(b"x\0\0\0", b"q\0\0\0"))):
        model, path = tmp_path / f"{name}.tflite", tmp_path / f"{name}.split.tflite"
        model.write_bytes(data)
        path.write_bytes(split_model(model, cuts="all"))
        arrays.append(open_bundle(path))
    assert arrays[0].manifest.inputs != arrays[1].manifest.inputs
    with pytest.raises(BundleError, match="its inputs are called q, the frames here have x"):
        check_fits(arrays[1], arrays[0])


def test_state_that_the_device_keeps_is_no_input(tmp_path):
    counter = open_bundle(bundle_of(tmp_path, "counter", tiny_models.state_model()))
    assert [name for name, _, _ in selftest._inputs(counter)] == ["in/x"]
