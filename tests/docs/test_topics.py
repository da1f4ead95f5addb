"""docs/mqtt-topics.md and docs/integrating.md say what the records have: every field, both ways."""

from __future__ import annotations

import re
import sys
import tomllib

import msgspec
import numpy as np
import pytest

from cloud_side import worker
from edge_agent.config import AgentConfig
from edge_agent.frames import Answer, Outcome
from edge_agent.remote import commands, events, teller
from edge_agent.remote.config import HomeAssistantConfig
from edge_agent.remote.discovery import Shown, discovery
from edge_agent.results.answers import detections, read_sequence, to_record
from split_core import node
from split_core.config import convert
from split_core.cost.profile import Profile
from split_core.model.bundle import open_bundle
from split_core.wire.records import (
    DeviceHealth, DeviceInfo, DeviceStatus, LinkHealth, PlanRecord, WorkerLoad, WorkerStatus,
)
from split_core.wire.topics import Topics
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.brokers import Mosquitto
from tests.support.documents import run_page
from tests.support.topics_page import DOCS, PAGE, fields, rows, section, topic_filters


@pytest.mark.parametrize("title, kind", [
    ("Device info", DeviceInfo), ("Profiles", Profile), ("Load", WorkerLoad),
    ("Plans", PlanRecord), ("Health", DeviceHealth), ("Link", LinkHealth),
])
def test_every_field_of_a_record_is_documented_and_every_documented_one_exists(title, kind):
    assert fields(title) == set(kind.__struct_fields__)


def test_results_are_documented_to_the_field(tmp_path):
    model, path = tmp_path / "m.tflite", tmp_path / "m.split.tflite"
    model.write_bytes(tiny_models.skip_model())
    path.write_bytes(split_model(model))
    bundle = open_bundle(path)
    outputs = {n: np.zeros(s.shape, s.np_dtype)
               for n, s in zip(bundle.manifest.outputs, bundle.output_specs)}
    record = to_record(Answer(1, Outcome.LOCAL, "", "", 0.0, 1.0, False, 1, "raw", 1,
                              outputs=outputs), bundle, at="then", top_k=1, raw_tensors=True)
    sequence = read_sequence(np.zeros((1, 2, 3), np.float32), ("a", "b", "c"))
    found = detections([np.zeros((1, 1, 4)), np.zeros((1, 1)), np.ones((1, 1)), np.ones(1)], ())
    assert {"label", "index", "score", "box"} == set(found[0])
    # `frame_id` and the like are in the example; the table has what is not plain.
    example = set(re.findall(r'"(\w+)":', section("Results").partition("```json")[2]
                             .partition("```")[0]))
    documented = fields("Results") | example
    written = set(record) | set(sequence) | {"objects", "age_ms"}
    assert written <= documented
    inner = {"index", "label"} | set(record["stages_ms"]) | {
        "wait", "head", "encode", "link", "queue", "decode", "tail", "reply"}
    assert documented - inner <= written


def test_the_statuses_have_their_fields_in_their_rows():
    for topic, kind in (("{root}/{device}/up/status", DeviceStatus),
                        ("{root}/_pool/{worker}/up/status", WorkerStatus)):
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{topic}`"))
        assert set(re.findall(r'"(\w+)"', row)) - {"ready"} == set(kind.__struct_fields__), row


def test_every_kind_of_event_is_documented_with_its_fields():
    documented = {name: tuple(re.findall(r"`([\w-]+)`", cells[1]))
                  for cells in rows("Events") for name in re.findall(r"`([\w-]+)`", cells[0])}
    assert documented == events.FIELDS
    for name in events.COMMON:
        assert f"`{name}`" in section("Events")


def test_every_command_is_documented_with_its_fields():
    documented = {cells[0].strip("` "): set(re.findall(r"`(\w+)`", cells[1]))
                  for cells in rows("Commands")}
    assert list(documented) == list(commands.NAMES)
    for name, kind in commands.KINDS.items():
        assert documented[name] == set(kind.__struct_fields__) - {"id"}, name


def test_replies_are_documented():
    ok, error = commands.ok(1, {}), commands.error(1, "why", {})
    keys = set(msgspec.json.decode(ok)) | set(msgspec.json.decode(error))
    assert fields("Replies") == keys
    assert all(f"{n}" in section("Commands") for n in (commands.MAX_ID, commands.KEPT_REPLIES))


def test_the_tree_has_every_topic_that_can_be_built():
    topics = Topics()
    built = [topics.device_up("d", channel) for channel in (
        "status", "info", "profile", "plan", "result", "health", "event")]
    built += [topics.device_command("d", "policy"), topics.device_reply("d", "policy"),
              topics.device_inbox("d", "w"), topics.device_frames("d"),
              topics.worker_inbox("w", "d"), f"{topics.root}/_reply/anna/d"]
    built += [topics.worker_up("w", channel) for channel in ("status", "info", "profile", "load")]
    filters = topic_filters(topics.root)
    for topic in built:
        assert any(re.fullmatch(f, topic) for f in filters), topic


# -- docs/integrating.md

INTEGRATING = (DOCS / "integrating.md").read_text("utf-8")


def test_its_commands_work(tmp_path):
    folder, programs = tmp_path / "home", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    python = programs / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / "integrations").symlink_to(DOCS.parent / "integrations")
    with Mosquitto(tmp_path) as broker:
        assert run_page(DOCS / "integrating.md", folder, broker.port) >= 9


def test_its_settings_load():
    blocks = re.findall(r"```toml\n(.*?)```", INTEGRATING, re.S)
    assert len(blocks) >= 2
    for block in blocks:
        convert({"model": {"bundle": "m"}, **tomllib.loads(block)}, AgentConfig, block).check()


def test_the_status_is_said_again_as_often_as_the_page_says():
    assert re.search(r"status is written again .* every (\d+) s", PAGE)[1] == f"{node.STATUS_S:.0f}"


def test_what_a_page_says_of_waiting_is_what_is_waited():
    first, longest = re.search(r"asked again after (\d+) s, then .* at most (\d+) minutes",
                               PAGE).groups()
    assert (float(first), 60 * float(longest)) == (teller._AGAIN_S, teller._LONGEST_S)
    wire = (DOCS / "wire-format.md").read_text("utf-8")
    assert "more than two seconds after the budget is used up is not sent" in wire
    assert worker._LATE_S == 2.0


def test_tracing_is_in_the_package_that_the_page_says():
    held = {name: "opentelemetry" in (DOCS.parent / f"packaging/{name}.lock").read_text("utf-8")
            for name in ("edge-agent", "cloud-worker")}
    assert held == {"edge-agent": False, "cloud-worker": True}
    assert "The package `cloud-worker` has it; `edge-agent`, to stay small, has not" in (
        DOCS / "observability.md").read_text("utf-8")


def test_its_python_imports_what_there_is():
    for block in re.findall(r"```python\n(.*?)```", INTEGRATING, re.S):
        exec(compile(block, "integrating.md", "exec"), {})


def test_it_names_the_entities_that_home_assistant_gets():
    table = INTEGRATING.partition("| entity | from |")[2].partition("\n\n")[0]
    documented = {name.strip() for row in table.splitlines()[2:]
                  for name in row.split("|")[1].split(",")}
    shown = Shown("pi", Topics(), None, 10.0, "m", "classification", True, True)
    document = msgspec.json.decode(discovery(shown, HomeAssistantConfig(enabled=True)))
    assert documented == {c["name"] for c in document["cmps"].values()}
