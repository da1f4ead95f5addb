"""`edge-agent run` as systemd and other programs meet it: a process, a file, signals, topics."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.rig import Rig, wait_until

RESULT = "si/v1/pi/up/result"
STATUS = "si/v1/pi/up/status"


@pytest.fixture
def rig(tmp_path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        rig.worker()
        yield rig


def jpeg(shade: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), shade, np.uint8)).save(out, "JPEG")
    return out.getvalue()


def start(tmp_path: Path, rig: Rig, source: str, **popen) -> subprocess.Popen:
    model, bundle = tmp_path / "m.tflite", tmp_path / "m.split.tflite"
    model.write_bytes(tiny_models.skip_model())
    bundle.write_bytes(split_model(model))
    config = tmp_path / "agent.toml"
    config.write_text(f'id = "pi"\n[model]\nbundle = "{bundle}"\n[plan]\ncut = 0\nrung = "q8"\n'
                      f'[broker]\nurl = "{rig.device_url}"\n[source]\n{source}\n'
                      f'[result]\njournal = "{tmp_path / "journal.jsonl"}"\n')
    return subprocess.Popen([sys.executable, "-m", "edge_agent.cli", "run", "-c", str(config)],
                            stderr=subprocess.PIPE, text=True, **popen)


def records(rig: Rig) -> list[dict]:
    return [json.loads(seen.payload) for seen in rig.observer.on(RESULT)]


def states(rig: Rig) -> list[str]:
    return [json.loads(seen.payload)["state"] for seen in rig.observer.on(STATUS)
            if seen.payload]


def test_pictures_of_other_programs_are_answered_until_a_signal(rig, tmp_path):
    process = start(tmp_path, rig, 'kind = "mqtt"')
    try:
        wait_until(lambda: "ready" in states(rig), 20, "the agent's status")
        for shade in (10, 200):
            before = len(records(rig))
            rig.observer.publish("si/v1/pi/dn/frame", jpeg(shade))
            wait_until(lambda: len(records(rig)) > before, 10, "an answer")
        rig.observer.publish("si/v1/pi/dn/frame", b"no picture")
        wait_until(lambda: records(rig)[-1]["outcome"] == "failed", 10, "a failed frame")
        assert "no picture" in records(rig)[-1]["reason"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        wait_until(lambda: states(rig)[-1] == "stopped", 5, "the farewell")
    finally:
        process.kill()
        _, log = process.communicate(timeout=10)
    assert "Traceback" not in log
    assert {r["source"] for r in records(rig)} == {"topic-0", "topic-1", "topic-2"}
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame_id"] for line in lines] == [1, 2, 3]


def test_a_stream_on_standard_input_ends_the_agent_with_its_last_answer(rig, tmp_path):
    stream = tmp_path / "stream.mjpeg"
    stream.write_bytes(b"".join(jpeg(s) for s in (10, 90, 200)))
    with stream.open("rb") as file:
        process = start(tmp_path, rig, 'kind = "stdin"\n[frame]\nmax_fps = 10', stdin=file)
        _, log = process.communicate(timeout=40)
    assert process.returncode == 0, log
    wait_until(lambda: len(records(rig)) == 3, 5, "three answers")
    assert [r["frame_id"] for r in records(rig)] == [1, 2, 3]
    assert "event=stopped" in log


@pytest.mark.parametrize("source, code, words", [
    ('kind = "folder"\npath = "{}/empty"', 66, "no pictures in {}/empty (looked for"),
    ('kind = "folder"\npath = "{}/gone"', 66, "cannot read {}/gone: No such file"),
])
def test_a_source_that_fails_is_one_line_in_the_journal(rig, tmp_path, source, code, words):
    (tmp_path / "empty").mkdir()
    process = start(tmp_path, rig, source.format(tmp_path) + '\n[service]\nlog_format = "journal"')
    _, log = process.communicate(timeout=40)
    assert process.returncode == code, log
    lines = [line for line in log.splitlines() if re.match("<[0-4]>|[^<]", line)]
    assert [words.format(tmp_path) in line for line in lines] == [True], log
    assert lines[0].startswith("<3>event=ended why=")
