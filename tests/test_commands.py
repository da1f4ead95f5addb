"""The commands as scripts use them: what they print, where, and their exit codes."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cloud_side.cli import build_parser as worker_parser
from cloud_side.cli import main as cloud_worker
from edge_agent.cli import build_parser as agent_parser
from edge_agent.cli import main as edge_agent
from edge_agent.cli import running
from edge_agent.cli.setting_up import SETTINGS
from tests.support import tiny_models

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "skip.tflite"
    path.write_bytes(tiny_models.skip_model())
    return path


@pytest.fixture
def bundle(model, tmp_path, capfd):
    path = tmp_path / "skip.split.tflite"
    assert edge_agent(["split", str(model), "-o", str(path), "--cuts", "all"]) == 0
    assert capfd.readouterr().out == f"{path}\n"
    return path


def test_inspect_json_of_a_model(model, capfd):
    assert edge_agent(["inspect", str(model), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["kind"] == "model"
    assert report["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    cut = report["cuts"][2]
    assert (cut["cut"], cut["after_op"]) == (2, "CONV_2D")
    assert cut["boundary"] == [
        {"name": "conv1", "shape": [1, 8, 8, 4], "dtype": "float32", "bytes": 1024},
        {"name": "conv2", "shape": [1, 8, 8, 4], "dtype": "float32", "bytes": 1024}]
    assert cut["macs_before"] == 16128 and cut["macs_after"] == 1280


def test_inspect_json_of_a_bundle(bundle, capfd):
    assert edge_agent(["inspect", str(bundle), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["kind"] == "bundle" and len(report["segments"]) == 6
    assert report["sha256"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert [c["cut"] for c in report["cuts"]] == list(range(7))


def test_inspect_for_people_shows_the_cut_table(bundle, capfd):
    assert edge_agent(["inspect", str(bundle)]) == 0
    text = capfd.readouterr().out
    assert "float32 1x8x8x4 + 1 more" in text and "nothing is sent" in text


def test_infer_without_a_broker_runs_here(bundle, tmp_path, capfd):
    array = tmp_path / "x.npy"
    np.save(array, np.ones((1, 8, 8, 3), np.float32))
    assert edge_agent(["infer", str(bundle), str(array), "--json"]) == 0
    (line,) = capfd.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["input"] == str(array) and record["outcome"] == "local"
    assert (record["cut"], record["payload_bytes"]) == (6, 0)
    assert sum(t["score"] for t in record["top"]) == pytest.approx(1.0, abs=1e-4)
    assert set(record["top"][0]) == {"index", "label", "score"}
    assert record["total_ms"] > 0 and "head" in record["stages_ms"]


@pytest.mark.parametrize("main", [edge_agent, cloud_worker])
def test_profile_keeps_and_prints_what_it_measured(main, bundle, tmp_path, capfd):
    state = tmp_path / "state"
    arguments = ["profile", str(bundle), "--seconds", "0.05", "--state", str(state)]
    assert main([*arguments, "--json", "--threads", "2"]) == 0
    out, error = capfd.readouterr()
    report = json.loads(out)
    (kept,) = (state / "profiles").iterdir()
    assert str(kept) in error and json.loads(kept.read_bytes()) == report
    assert report["bundle"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert len(report["segments"]) == 6 and report["threads"] == 2
    assert kept.name == (f"{report['bundle'][:16]}-{report['machine']}-{report['runtime']}"
                         "-2.json")
    array = tmp_path / "x.npy"
    np.save(array, np.ones((1, 8, 8, 3), np.float32))
    assert main([*arguments, "--inputs", str(array)]) == 0
    *table, path = capfd.readouterr().out.splitlines()
    assert path.endswith("-1.json") and (state / "profiles" / Path(path).name).exists()
    assert table[0].startswith("skip: ") and " 1 thread" in table[0]
    rows = [line.split() for line in table[3:]]
    assert [r[0] for r in rows] == [str(k) for k in range(7)]
    assert rows[3][1] == "ADD" and "q4" in rows[3] and "jpeg85" in rows[0]


def test_profile_tells_what_it_measured_where_it_cannot_keep_it(bundle, tmp_path, capfd):
    (tmp_path / "file").touch()
    assert edge_agent(["profile", str(bundle), "--seconds", "0.01",
                       "--state", str(tmp_path / "file")]) == 64
    out, error = capfd.readouterr()
    assert out.startswith("skip: ") and len(out.splitlines()) == 10
    assert f"cannot write {tmp_path / 'file'}/profiles/" in error


def test_calibrate_looks_for_its_place_before_it_works(model, tmp_path, capfd, monkeypatch):
    import split_lab.calibrate.run

    monkeypatch.setattr(split_lab.calibrate.run, "calibrate_model",
                        lambda *_a, **_k: pytest.fail("minutes of work for nothing"))
    (tmp_path / "file").touch()
    command = ["calibrate", str(model), "--inputs", str(tmp_path)]
    assert edge_agent([*command, "-o", str(tmp_path / "file/c.split.tflite")]) == 64
    assert edge_agent([*command, "-o", str(tmp_path / "c.split.tflite"),
                       "--plot", str(tmp_path / "file/c.png")]) == 64
    assert edge_agent([*command, "-o", str(tmp_path)]) == 64
    assert capfd.readouterr().err.count("cannot write") == 3


def test_profile_keeps_state_where_the_system_says(bundle, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "lib"))
    assert cloud_worker(["profile", str(bundle), "--seconds", "0.01"]) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith(str(tmp_path / "lib/profiles/"))


def test_split_chooses_cuts_by_number(model, tmp_path, capfd):
    path = tmp_path / "two.split.tflite"
    assert edge_agent(["split", str(model), "-o", str(path), "--cuts", "3"]) == 0
    capfd.readouterr()
    edge_agent(["inspect", str(path), "--json"])
    assert [c["cut"] for c in json.loads(capfd.readouterr().out)["cuts"]] == [0, 3, 6]


@pytest.mark.parametrize("arguments, code, words", [
    (["split", "{tmp}/missing.tflite"], 65, "No such file"),
    (["split", "{tmp}/text.tflite", "-o", "{tmp}/o"], 65, "no TFLite model"),
    (["split", "{tmp}/skip.tflite", "-o", "{tmp}/o", "--cuts", "1,x"], 64, "--cuts 1,x"),
    (["split", "{tmp}/skip.tflite", "-o", "{tmp}/o", "--cuts", "99"], 64, "no cut 99"),
    (["split", "{tmp}/skip.tflite", "-o", "{tmp}/o", "--state", "a=b"], 64, "wanted INPUT=OUTPUT"),
    (["inspect", "{tmp}/text.tflite"], 65, "no TFLite model"),
    (["infer", "{tmp}/skip.tflite", "x.jpg"], 65, "make one with `edge-agent split`"),
    (["profile", "{tmp}/skip.tflite"], 65, "make one with `edge-agent split`"),
    (["profile", "{tmp}/skip.tflite", "--threads", "0"], 64, "--threads 0"),
    (["profile", "{tmp}/skip.tflite", "--seconds", "nan"], 64, "--seconds nan"),
    (["run", "-c", "{tmp}/missing.toml"], 78, "cannot read"),
    (["run", "-c", "{tmp}/text.tflite"], 78, "text.tflite"),
])
def test_errors_are_one_line_with_their_exit_code(model, tmp_path, capfd, arguments, code, words):
    (tmp_path / "text.tflite").write_text("this is text, not a model")
    assert edge_agent([a.replace("{tmp}", str(tmp_path)) for a in arguments]) == code
    out, error = capfd.readouterr()
    assert not out and words in error and "Traceback" not in error


def test_infer_of_a_missing_cut_or_input_says_so(bundle, tmp_path, capfd):
    assert edge_agent(["infer", str(bundle), "x.npy", "--cut", "77"]) == 65
    assert "has no cut 77" in capfd.readouterr().err
    assert edge_agent(["infer", str(bundle), str(tmp_path / "no.jpg")]) == 66


def test_an_agent_runs_by_the_services_file_where_none_is_named(tmp_path, monkeypatch, capfd):
    usual = tmp_path / "edge-agent.toml"
    monkeypatch.setattr(running, "SETTINGS", SETTINGS._replace(usual_file=str(usual)))
    assert edge_agent(["run"]) == 78
    assert str(usual) in capfd.readouterr().err
    usual.write_text('[model]\nbundle = "no-such.split.tflite"\n')
    assert edge_agent(["run"]) == 65
    assert "no-such.split.tflite" in capfd.readouterr().err


def test_a_worker_needs_to_know_where(capfd):
    assert cloud_worker(["run"]) == 64
    assert "--config" in capfd.readouterr().err


def test_plain_connections_off_loopback_are_refused(bundle, tmp_path, capfd):
    assert cloud_worker(["run", "--broker", "mqtt://192.0.2.1", "--store", str(tmp_path)]) == 78
    assert edge_agent(["infer", str(bundle), "x.npy", "--broker", "mqtt://192.0.2.1"]) == 78
    assert "mqtts://" in capfd.readouterr().err


def leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Every command that does something, `config show` among them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [leaf for child in action.choices.values() for leaf in leaves(child)]
    return [parser]


EVERY = [(parser(), leaf) for parser in (agent_parser, worker_parser) for leaf in leaves(parser())]


@pytest.mark.parametrize("parser, leaf", EVERY, ids=lambda p: p.prog)
def test_help_has_examples_that_parse_for_every_command(parser, leaf):
    text = leaf.format_help()
    lines = re.split(r"^examples?:\n", text, flags=re.M)[1].splitlines()
    assert lines
    for line in lines:
        # What follows a shell's sign is the shell's; everything before has to be taken.
        words = shlex.split(re.split(r"[|>]", line)[0])
        assert " ".join(words).startswith(leaf.prog + " ") or " ".join(words) == leaf.prog
        parser.parse_args(words[1:])


@pytest.mark.parametrize("module", ["edge_agent.cli", "cloud_side.cli"])
def test_modules_are_commands_too(module):
    child = subprocess.run([sys.executable, "-m", module, "run", "--help"],
                           capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert child.returncode == 0 and "examples:" in child.stdout


def test_help_does_not_wait_for_what_commands_need():
    code = ("import sys, edge_agent.cli, cloud_side.cli\n"
            "edge_agent.cli.build_parser(), cloud_side.cli.build_parser()\n"
            "slow = ('numpy', 'msgspec', 'paho', 'shtab', 'ssl', 'tomllib', 'tarfile')\n"
            "sys.exit(', '.join(m for m in slow if m in sys.modules) or 0)")
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60,
                           capture_output=True, text=True)
    assert child.returncode == 0, child.stderr


def test_a_device_needs_neither_desk_tools_nor_pillow_to_start():
    code = ("import sys, edge_agent.daemon, edge_agent.cli\n"
            "bad = [m for m in ('split_lab', 'PIL', 'flatbuffers', 'rich', 'amqtt', 'cloud_side')"
            " if m in sys.modules]\nsys.exit(', '.join(bad) or 0)")
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                           env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)
    assert child.returncode == 0, child.stderr


def test_infer_without_a_broker_says_that_a_cut_counts_for_nothing(bundle, tmp_path, capfd):
    array = tmp_path / "x.npy"
    np.save(array, np.zeros((1, 8, 8, 3), np.float32))
    assert edge_agent(["infer", str(bundle), str(array)]) == 0
    assert "without --broker" not in capfd.readouterr().err
    assert edge_agent(["infer", str(bundle), str(array), "--cut", "1"]) == 0
    assert "without --broker nothing is sent" in capfd.readouterr().err
