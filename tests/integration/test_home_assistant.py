"""Home Assistant itself judges what we publish: its own schemas and its own templates."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.remote.config import HomeAssistantConfig
from edge_agent.remote.discovery import discovery, discovery_topic
from tests.edge_agent.remote.test_discovery import HEALTH, RESULT, SHOWN
from tests.support import home_assistant

# The last release that Python 3.11 runs. It takes entities as ours, though not yet many in one
# document; that part is compared with the newest release's source below.
RELEASE = ("homeassistant==2024.3.3", "paho-mqtt==1.6.1")
NEWEST = "homeassistant==2026.2.3"

# Runs inside of Home Assistant's environment: entities and payloads in, states out.
_JUDGE = """
import asyncio, json, sys
from homeassistant.components.mqtt import binary_sensor, select, sensor
from homeassistant.core import HomeAssistant
from homeassistant.helpers.template import Template

schemas = {"sensor": sensor.DISCOVERY_SCHEMA, "select": select.DISCOVERY_SCHEMA,
           "binary_sensor": binary_sensor.DISCOVERY_SCHEMA}


async def main():
    hass, states = HomeAssistant("/tmp"), []
    for platform, entity, payload in json.load(sys.stdin):
        checked = schemas[platform](dict(entity))      # raises voluptuous.Invalid
        dropped = set(entity) - set(checked)
        if dropped:
            raise SystemExit(f"{entity['unique_id']}: not known to Home Assistant: {dropped}")
        template = Template(entity["value_template"], hass)
        states.append(template.async_render_with_possible_json_value(payload, "no value",
                                                                     parse_result=False))
    json.dump(states, sys.stdout)


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """A Python that has Home Assistant."""
    kept = os.environ.get("HOME_ASSISTANT_PYTHON")
    if kept:
        return kept
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        pytest.skip(f"{RELEASE[0]} runs on Python 3.11 and 3.12")
    folder = tmp_path_factory.mktemp("home-assistant")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    done = subprocess.run(
        [str(folder / "bin/python"), "-m", "pip", "install", "--quiet",
         "--disable-pip-version-check", *RELEASE], capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        pytest.skip(f"{RELEASE[0]} cannot be installed here: {done.stderr.strip()[-200:]}")
    return str(folder / "bin/python")


def judge(python: str, cases: list[tuple[str, dict, str]]) -> subprocess.CompletedProcess:
    return subprocess.run([python, "-c", _JUDGE], input=json.dumps(cases), text=True,
                          capture_output=True, timeout=120)


def cases_of(kind: str, result: dict) -> list[tuple[str, dict, str]]:
    """Every entity of a document with a payload of its topic."""
    config = HomeAssistantConfig(enabled=True)
    shown = replace(SHOWN, answer_kind=kind)
    found = home_assistant.entities(discovery_topic(config, shown.id), discovery(shown, config))
    cases = []
    for entity in found.values():
        entity = dict(entity)
        entity["availability"] = [{home_assistant.ABBREVIATIONS.get(k, k): v for k, v in a.items()}
                                  for a in entity["availability"]]
        if entity["platform"] == "sensor":
            entity.pop("options", None)          # newer than this release
        payload = result if entity["state_topic"].endswith("/result") else HEALTH
        cases.append((entity.pop("platform"), entity, json.dumps(payload)))
    return cases


def names_of(kind: str) -> set[str]:
    """What the document calls its entities, read without anything that is judged here."""
    document = discovery(replace(SHOWN, answer_kind=kind), HomeAssistantConfig(enabled=True))
    return {entity["name"] for entity in json.loads(document)["cmps"].values()}


@pytest.mark.check
@pytest.mark.parametrize("kind, result", [
    ("classification", RESULT),
    ("classification", {"outcome": "failed", "total_ms": 3.0}),
    ("sequence", {"outcome": "local", "total_ms": 3.0, "text": "0042", "score": 0.5}),
    ("detection", {"outcome": "local", "total_ms": 3.0, "objects": [
        {"label": "cat", "index": 1, "score": 0.5}, {"label": None, "index": 2, "score": 0.9}]}),
    ("detection", {"outcome": "local", "total_ms": 3.0, "objects": []}),
])
def test_home_assistant_takes_every_entity_and_shows_what_we_expect(python, kind, result):
    cases = cases_of(kind, result)
    assert {entity["name"] for _, entity, _ in cases} == names_of(kind)
    done = judge(python, cases)
    assert done.returncode == 0, done.stderr[-2000:]
    for (platform, entity, payload), shown in zip(cases, json.loads(done.stdout), strict=True):
        expected = home_assistant.state_of({"platform": platform, **entity}, payload.encode())
        assert shown == ("None" if expected is None else expected), entity["unique_id"]


@pytest.mark.check
@pytest.mark.parametrize("change", [
    {"device_class": "warmth"}, {"state_class": "total", "last_reset_value_template": "{{"},
    {"expire_after": -1}, {"entity_category": "odd"}, {"state_topic": "a/b+"}, {"colour": "red"},
    {"value_template": "{{ value_json.cut"}, {"icon": "cut"}])
def test_home_assistant_would_say_if_something_were_wrong(python, change):
    platform, entity, payload = next(c for c in cases_of("classification", RESULT)
                                     if c[1]["name"] == "Cut")
    assert judge(python, [(platform, entity, payload)]).returncode == 0
    wrong = judge(python, [(platform, entity | change, payload)])
    assert wrong.returncode != 0
    assert "Invalid" in wrong.stderr or "not known" in wrong.stderr, wrong.stderr


@pytest.mark.check
def test_the_newest_release_abbreviates_as_we_do(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--only-binary", ":all:", "--python-version", "3.13.9", "-d", str(tmp_path),
         NEWEST], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"{NEWEST} cannot be had here: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(next(Path(tmp_path).glob("*.whl"))) as wheel:
        def source(name: str) -> str:
            return wheel.read(f"homeassistant/components/mqtt/{name}.py").decode()

        tables = {node.targets[0].id: ast.literal_eval(node.value)
                  for node in ast.parse(source("abbreviations")).body
                  if isinstance(node, ast.Assign)}
        for short, long in home_assistant.ABBREVIATIONS.items():
            assert tables["ABBREVIATIONS"][short] == long
        assert tables["DEVICE_ABBREVIATIONS"] == home_assistant.DEVICE_ABBREVIATIONS
        assert tables["ORIGIN_ABBREVIATIONS"] == home_assistant.ORIGIN_ABBREVIATIONS
        # The document: device, components and origin required, a platform and a unique id each.
        schemas = source("schemas")
        for words in ("vol.Required(CONF_DEVICE)", "vol.Required(CONF_COMPONENTS)",
                      "vol.Required(CONF_ORIGIN)", "vol.Required(CONF_PLATFORM)",
                      "vol.Required(CONF_UNIQUE_ID)"):
            assert words in schemas, words
        assert "vol.Optional(CONF_OPTIONS): cv.ensure_list" in source("sensor")
