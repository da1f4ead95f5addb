"""Sources: files in order, streams of JPEGs cut anywhere, the latest of a topic, a paced pump."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edge_agent.config import SourceConfig
from edge_agent.sources import Pump, open_source
from edge_agent.sources.stream import StreamSource, split_jpegs
from edge_agent.sources.topic import TopicSource
from split_core.errors import ConfigError, InputError, SourceLost


def jpeg(shade: int, size=(32, 24), **options) -> bytes:
    out = io.BytesIO()
    rng = np.random.default_rng(shade)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    pixels[...] = (pixels // 4 + shade).clip(0, 255)
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


PICTURES = [jpeg(10), jpeg(90, progressive=True), jpeg(150, optimize=True, quality=100)]


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int):
        self._data, self._step = data, step

    def read1(self, _size: int) -> bytes:
        data, self._data = self._data[: self._step], self._data[self._step :]
        return data


@pytest.mark.parametrize("step", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("between", [b"", b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n"])
def test_jpegs_of_a_stream_are_found_however_it_is_cut(step, between):
    data = b"".join(between + p for p in PICTURES)
    assert list(split_jpegs(Trickle(data, step))) == PICTURES


def test_a_thumbnail_inside_is_not_taken_for_the_end():
    # An APP1 segment that holds a whole JPEG, as cameras write it.
    inner = jpeg(30, (8, 8))
    outer = PICTURES[0]
    segment = b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner
    data = outer[:2] + segment + outer[2:]
    assert list(split_jpegs(Trickle(data * 2, 100))) == [data, data]


def test_an_unfinished_picture_is_not_given_out():
    assert list(split_jpegs(Trickle(PICTURES[0] + PICTURES[1][:-5], 64))) == PICTURES[:1]


def test_a_damaged_picture_of_a_stream_is_an_error_and_the_next_is_not():
    broken = b"\xff\xd8\xff\xfe\x00\x04ab\xff\xd9"
    found = [f for _, f in StreamSource(Trickle(broken + PICTURES[0], 50)).frames()]
    assert isinstance(found[0], InputError)
    assert found[1].shape == (24, 32, 3)


def test_a_folder_is_read_in_order_with_its_bad_files(tmp_path):
    (tmp_path / "b.jpg").write_bytes(PICTURES[0])
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("not a picture")
    source = open_source(SourceConfig(kind="folder", path=str(tmp_path)))
    (a, error), (b, pixels) = source.frames()
    assert a.endswith("a.jpg") and isinstance(error, InputError)
    assert b.endswith("b.jpg") and pixels.shape == (24, 32, 3)


def test_a_folder_without_pictures_says_so(tmp_path):
    with pytest.raises(InputError, match="no pictures in"):
        list(open_source(SourceConfig(kind="folder", path=str(tmp_path))).frames())


def test_a_path_that_cannot_be_read_says_why(tmp_path, monkeypatch):
    missing = SourceConfig(kind="file", path=str(tmp_path / "x.jpg"))
    with pytest.raises(InputError, match="x.jpg: No such file or directory; correct source.path"):
        list(open_source(missing).frames())

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refused)        # the tests may run as root
    (tmp_path / "a.jpg").write_bytes(PICTURES[0])
    with pytest.raises(InputError, match="Permission denied; .*let the user of this program"):
        list(open_source(SourceConfig(kind="folder", path=str(tmp_path))).frames())


class Picamera2:
    """As much of picamera2's as the source calls; ``fails`` names the call that does."""

    fails = ""
    stopped = False

    def __init__(self):
        self._fail("open")

    def _fail(self, call: str) -> None:
        if call == self.fails:
            raise IndexError("list index out of range") if call == "open" else (
                RuntimeError("Failed to acquire camera: Device or resource busy"))

    def create_video_configuration(self, **_) -> dict:
        return {}

    def configure(self, _) -> None:
        pass

    def start(self) -> None:
        self._fail("start")

    def capture_array(self, _) -> np.ndarray:
        self._fail("capture")
        return np.zeros((1, 1, 3), np.uint8)

    def stop(self) -> None:
        Picamera2.stopped = True


@pytest.mark.parametrize("fails", ["open", "start", "capture", ""])
def test_a_csi_camera_that_is_not_there_is_no_bug_of_ours(monkeypatch, fails):
    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Picamera2))
    monkeypatch.setattr(Picamera2, "fails", fails)
    monkeypatch.setattr(Picamera2, "stopped", False)
    if not fails:
        frames = open_source(SourceConfig(kind="csi")).frames()
        assert [next(frames)[0], next(frames)[0]] == ["csi-0", "csi-1"]
        frames.close()
        assert Picamera2.stopped
        return
    with pytest.raises(SourceLost, match="is its ribbon cable in") as caught:
        next(open_source(SourceConfig(kind="csi")).frames())
    assert caught.value.exit_code == 74 and Picamera2.stopped is (fails != "open")


def test_a_missing_camera_library_names_the_extra():
    try:
        import cv2  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"edge-agent\[camera\]"):
            open_source(SourceConfig(kind="camera", path="0"))
    else:
        with pytest.raises(InputError, match="cannot open camera"):
            open_source(SourceConfig(kind="camera", path="/dev/no-such-camera"))


def test_of_a_topic_the_latest_picture_wins():
    stopping = threading.Event()
    source = TopicSource(stopping)
    for picture in PICTURES:
        source.push(picture)
    frames = source.frames()
    _, pixels = next(frames)
    assert source.replaced == 2
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(PICTURES[2]))))
    stopping.set()
    assert list(frames) == []


class Counting:
    def __init__(self, count: int):
        self.count = count

    def frames(self):
        for i in range(self.count):
            yield str(i), np.zeros((1, 1, 3), np.uint8)


def test_the_pump_keeps_to_its_rate_and_says_when_it_ends():
    times, ended, stopping = [], threading.Event(), threading.Event()
    pump = Pump(Counting(6), lambda name, frame, captured_s: times.append(captured_s),
                max_fps=lambda: 50, stopping=stopping, on_end=ended.set, on_fatal=pytest.fail)
    pump.start()
    assert ended.wait(5)
    assert len(times) == 6
    # Capped from above; a loaded machine may be slower.
    assert times[-1] - times[0] >= 5 / 50 - 0.005


def test_the_rate_may_change_while_the_pump_runs():
    times, ended, rates = [], threading.Event(), iter([1000, 1000, 20, 20])
    pump = Pump(Counting(5), lambda name, frame, captured_s: times.append(captured_s),
                max_fps=lambda: next(rates, 1000), stopping=threading.Event(),
                on_end=ended.set, on_fatal=pytest.fail)
    pump.start()
    assert ended.wait(5)
    # The third and fourth waits are the long ones.
    assert times[4] - times[2] >= 2 / 20 - 0.01


def test_a_source_that_fails_is_reported():
    class Failing:
        def frames(self):
            raise InputError("camera gone")
            yield

    failed = []
    done = threading.Event()
    pump = Pump(Failing(), lambda *_: None, max_fps=lambda: 0, stopping=threading.Event(),
                on_end=done.set, on_fatal=lambda e: (failed.append(e), done.set()))
    pump.start()
    assert done.wait(5)
    assert str(failed[0]) == "camera gone"


@pytest.mark.parametrize("raised, wanted", [
    (OSError(errno.EIO, "Input/output error"), SourceLost), (ZeroDivisionError(), ZeroDivisionError)])
def test_a_pipe_that_breaks_is_lost_and_a_bug_stays_one(raised, wanted):
    class Breaking:
        def frames(self):
            raise raised
            yield

    failed, done = [], threading.Event()
    pump = Pump(Breaking(), lambda *_: None, max_fps=lambda: 0, stopping=threading.Event(),
                on_end=done.set, on_fatal=lambda e: (failed.append(e), done.set()))
    pump.start()
    assert done.wait(5)
    assert type(failed[0]) is wanted
    assert wanted is not SourceLost or "Input/output error" in str(failed[0])
