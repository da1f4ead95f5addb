"""The example configurations load, and name every key there is."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from cloud_side.config import WorkerConfig
from edge_agent.config import AgentConfig
from split_core.config import convert
from split_core.errors import ConfigError
from split_core.settings.changed import changed_keys
from split_core.settings.layers import load_settings

FOLDER = Path(__file__).resolve().parents[1] / "systemd"
EXAMPLES = [("edge-agent.toml", AgentConfig), ("cloud-worker.toml", WorkerConfig)]


@pytest.mark.parametrize("name, kind", EXAMPLES)
def test_examples_load_and_check(name, kind):
    loaded = load_settings(FOLDER / name, kind, name.removesuffix(".toml"), environ={})
    assert loaded.files == (FOLDER / name,) and loaded.config.id


@pytest.mark.parametrize("name, kind, others", [
    ("edge-agent.toml", AgentConfig, {"id", "model.bundle", "broker.url", "source.kind",
                                      "source.path", "frame.max_fps"}),
    ("cloud-worker.toml", WorkerConfig, {"id", "broker.url", "store.path"}),
])
def test_their_values_are_the_defaults_but_for_what_their_first_lines_name(name, kind, others):
    example = load_settings(FOLDER / name, kind, name.removesuffix(".toml"), environ={}).config
    usual = convert({"model": {"bundle": "m"}} if kind is AgentConfig else {}, kind, "none")
    assert set(changed_keys(usual, example)) <= others
    head = (FOLDER / name).read_text().partition("Run it")[0]
    assert all(key in head or f"[{key.partition('.')[0]}]" in head for key in others)


@pytest.mark.parametrize("name, kind", EXAMPLES)
def test_examples_name_every_key(name, kind):
    text = (FOLDER / name).read_text()
    named = set(re.findall(r"^(?:# )?(\w+) = ", text, re.M)) | set(re.findall(r"^\[(\w+)\]", text,
                                                                            re.M))
    for field in msgspec.structs.fields(kind):
        assert field.name in named
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            for inner in msgspec.structs.fields(field.type):
                assert inner.name in named, f"{field.name}.{inner.name}"


@pytest.mark.parametrize("data, words", [
    ({"model": {"bundle": "m"}, "brokr": {}}, r"unknown key brokr; did you mean broker\?"),
    ({"model": {"bundle": "m"}, "broker": {"prot": "5"}},
     r"unknown key broker\.prot; did you mean protocol\?"),
    ({"model": {}}, "missing `bundle`"),
    ({"model": {"bundle": "m", "threads": "two"}}, "Expected `int`, got `str`"),
    ({"model": {"bundle": "m"}, "source": {"kind": "tape"}}, "Invalid enum value 'tape'"),
])
def test_wrong_settings_are_named_with_their_path(data, words):
    with pytest.raises(ConfigError, match=words) as error:
        convert(data, AgentConfig, "agent.toml")
    assert str(error.value).startswith("agent.toml: ")
    assert error.value.exit_code == 78


@pytest.mark.parametrize("changes, words", [
    ({"frame": {"deadline_ms": 0}}, "frame.deadline_ms is 0"),
    ({"plan": {"rung": "q9"}}, "plan.rung: rung 'q9'"),
    ({"id": "a/b"}, "id 'a/b'"),
    ({"source": {"kind": "folder"}}, "source.path is needed"),
    ({"model": {"bundle": "m", "threads": 0}}, "model.threads is 0"),
])
def test_values_that_cannot_work_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        convert({"model": {"bundle": "m"}} | changes, AgentConfig, "x").check()


def test_a_password_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    data = {"model": {"bundle": "m"}, "broker": {
        "username": "u", "password_file": "$CREDENTIALS_DIRECTORY/password"}}
    options = convert(data, AgentConfig, "x").broker.options()
    assert options.password == "hunter2" and "hunter2" not in repr(options)
    secret.unlink()
    with pytest.raises(ConfigError, match="password_file"):
        convert(data, AgentConfig, "x").broker.options()
