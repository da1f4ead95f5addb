"""docs/asyncapi.json is what the code makes, says what the page of topics says, and is AsyncAPI."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import msgspec
import pytest

from edge_agent.asyncapi import document
from edge_agent.cli import main
from edge_agent.remote import commands, events
from tests.support.topics_page import DOCS, topic_rows

FILE = DOCS / "asyncapi.json"
# What is in npm's @asyncapi/specs, which publishes the specification's own JSON schemas.
SPECS = "@asyncapi/specs@6"


@pytest.fixture(scope="module")
def written() -> dict:
    return json.loads(FILE.read_text("utf-8"))


def test_the_file_is_current(capfd):
    assert main(["asyncapi"]) == 0
    assert FILE.read_text("utf-8") == capfd.readouterr().out, "run `make reference`"


def test_it_has_the_topics_of_the_page_with_their_qos_and_retain_flag(written):
    """Channel by channel, and none that the page lacks."""
    said = {}
    for name, operation in written["operations"].items():
        address = written["channels"][name]["address"]
        mqtt = operation["bindings"]["mqtt"]
        said[address] = (mqtt["qos"], mqtt["retain"])
    page = {row.topic: (row.qos, row.retained) for row in topic_rows()}
    # Home Assistant's own, which a device reads; its rules are Home Assistant's.
    del page["homeassistant/status"]
    expected = {}
    for topic, how in page.items():
        topic = topic.replace("homeassistant/device/{device}", "{prefix}/device/{object}")
        match = re.search(r"\{name\}", topic)
        names = commands.NAMES + (("unknown",) if "reply" in topic else ()) if match else ("",)
        expected |= {topic.replace("{name}", name): how for name in names}
    assert said == expected


def test_every_reference_leads_somewhere_and_nothing_is_left_over(written):
    used = set()

    def look(node) -> None:
        if isinstance(node, dict):
            if isinstance(target := node.get("$ref"), str):
                used.add(target)
            for inner in node.values():
                look(inner)
        elif isinstance(node, list):
            for inner in node:
                look(inner)

    look(written)
    there = {f"#/components/{kind}/{name}" for kind, named in written["components"].items()
             for name in named} | {f"#/channels/{name}" for name in written["channels"]}
    assert used == there


def test_patterns_are_those_of_every_language(written):
    patterns = re.findall(r'"pattern": "(.*)"', FILE.read_text("utf-8"))
    assert len(patterns) >= 3
    # \Z and \A are Python's; elsewhere they are the letters.
    assert not [p for p in patterns if re.search(r"\\\\[AZ]", p)]


def test_what_a_field_is_stands_beside_it(written):
    schemas = written["components"]["schemas"]
    health = schemas["DeviceHealth"]["properties"]
    assert health["at"]["description"] == "RFC 3339, by the device's clock"
    assert schemas["ModelCommand"]["properties"]["from"]["description"] == \
        "the worker that holds it"
    assert set(schemas["ModelCommand"]["properties"]) >= {"id", "sha256", "bytes", "from"}


def test_events_have_the_types_that_are_told():
    """What is told is checked by name alone as it happens; here by the schema's types, too."""
    log = events.EventLog()
    log.tell("late", "why", {"high": True, "late_ratio": 0.2, "frames": 30}, "then", 0.0)
    late = document()["components"]["schemas"]["EventLate"]
    assert set(late["properties"]) == set(msgspec.json.decode(log.take())) | {"skipped"}
    assert set(late["required"]) == {"at", "event", "text", "high", "late_ratio", "frames"}


@pytest.mark.check
def test_the_specifications_own_schema_takes_it(written, tmp_path):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    if shutil.which("npm") is None:
        pytest.skip("npm, which has AsyncAPI's schemas, is not installed")
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path),
                           SPECS], capture_output=True, text=True, timeout=200)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {SPECS} here: {done.stderr.strip()[-200:]}")
    schema = json.loads((tmp_path / "node_modules/@asyncapi/specs/schemas"
                         / f"{written['asyncapi']}.json").read_text("utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    assert not [e.message[:300] for e in validator.iter_errors(written)]
    # It would say if something were wrong.
    written["channels"]["deviceStatus"]["adress"] = written["channels"]["deviceStatus"]["address"]
    assert list(validator.iter_errors(written))
