"""Layers of settings, where each value is from, and all errors at once."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, strategies as st

from cloud_side.config import WorkerConfig
from edge_agent.config import AgentConfig
from split_core.errors import ConfigError
from split_core.settings.keys import describe, keys_of
from split_core.settings.layers import checks_of, layers_of, load_settings
from split_core.settings.lines import key_lines
from split_core.settings.show import as_toml, rows, toml_value

MINIMAL = '[model]\nbundle = "m"\n'


def load(path, kind=AgentConfig, program="edge-agent", environ=(), **flags):
    return load_settings(path, kind, program, environ=dict(environ), flags=flags)


def problems(path, environ=(), kind=AgentConfig, program="edge-agent"):
    layers = layers_of(path, kind, program, environ=dict(environ))
    return [str(p) for p in layers.find_problems(checks_of)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(MINIMAL)
    return path


def test_each_layer_goes_over_the_one_before(tmp_path, file):
    file.write_text(MINIMAL + '[frame]\nmax_fps = 1.0\ndeadline_ms = 10.0\n'
                    '[policy]\nkl = 0.01\nsoft_c = 50.0\n')
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/20-b.toml").write_text("[frame]\nmax_fps = 3.0\n[policy]\nkl = 0.03\n")
    (tmp_path / "conf.d/10-a.toml").write_text("[frame]\nmax_fps = 2.0\n")
    (tmp_path / "conf.d/30.toml.off").write_text("this is no TOML and is not read")
    loaded = load(file, environ={"EDGE_AGENT__POLICY__KL": "0.04", "OTHER__POLICY__KL": "9",
                                 "EDGE_AGENT_POLICY_KL": "8"}, id=("--id", "by-flag"),
                  root=("--root", None))
    config = loaded.config
    assert config.frame.deadline_ms == 10.0 and config.policy.soft_c == 50.0       # file
    assert config.frame.max_fps == 3.0                           # the last of conf.d, by name
    assert config.policy.kl == 0.04 and config.id == "by-flag"
    assert loaded.sources["frame.deadline_ms"] == f"{file}:5"
    assert loaded.sources["frame.max_fps"] == f"{tmp_path / 'conf.d/20-b.toml'}:2"
    assert loaded.sources["policy.kl"] == "env EDGE_AGENT__POLICY__KL"
    assert loaded.sources["id"] == "flag --id"
    assert "root" not in loaded.sources and "policy.hard_c" not in loaded.sources
    assert [f.name for f in loaded.files] == ["agent.toml", "10-a.toml", "20-b.toml"]


@pytest.mark.parametrize("name, text, key, value", [
    ("BROKER__URL", "mqtt://127.0.0.1:1", "broker.url", "mqtt://127.0.0.1:1"),
    ("ID", "007", "id", "007"),                       # text as it is, though it is a number
    ("MODEL__THREADS", "4", "model.threads", 4),
    ("PLAN__CUT", "14", "plan.cut", 14),
    ("SOURCE__LOOP", "true", "source.loop", True),
    ("SOURCE__KIND", "mqtt", "source.kind", "mqtt"),
    ("POLICY__TRUSTED_WORKERS", '["a", "b"]', "policy.trusted_workers", ("a", "b")),
    ("BROKER__CA_FILE", "", "broker.ca_file", None),  # over a value in the file
])
def test_environment_by_type(file, name, text, key, value):
    file.write_text(MINIMAL + '[broker]\nca_file = "x"\nurl = "mqtts://b"\n')
    environ = {f"EDGE_AGENT__{name}": text}
    if key == "broker.url":
        environ["EDGE_AGENT__BROKER__CA_FILE"] = ""
    config = load(file, environ=environ).config
    for part in key.split("."):
        config = getattr(config, part)
    assert config == value


def test_the_worker_needs_no_file():
    loaded = load(None, WorkerConfig, "cloud-worker",
                  environ={"CLOUD_WORKER__RUN__THREADS": "3"})
    assert loaded.config.run.threads == 3 and not loaded.files


def test_all_errors_at_once_each_with_file_key_and_line(tmp_path, file):
    file.write_text('''id = "a/b"
root = "x/+"
nonsense = 4

[broker]
url = "mqtt://192.0.2.1"
prot = "5"
keepalive_s = "x"

[frame]
deadline_ms = 0.0
max_fps = -1.0

[source]
kind = "tape"

[policy]
kl = 0.5
trusted_workers = [
  "a",
  "b c",
]
margin = 4.0
''')
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/1.toml").write_text("[sensors]\n# a comment\ninterval_s = 0.0\n")
    found = problems(file, {"EDGE_AGENT__MODEL__THREADS": "0", "EDGE_AGENT__MODL__X": "1",
                            "EDGE_AGENT__RESULT__TOP_K": "abc"})
    wanted = [
        (f"{file}:1", "id 'a/b': wanted"),
        (f"{file}:2", "root 'x/+'"),
        (f"{file}:3", "unknown key nonsense"),
        (f"{file}:7", "unknown key broker.prot; did you mean broker.protocol?"),
        (f"{file}:8", "broker.keepalive_s is 'x', wanted whole number"),
        (f"{file}:6", "broker.url: mqtt://192.0.2.1 would send everything in the clear"),
        (f"{file}:11", "frame.deadline_ms is 0.0"),
        (f"{file}:12", "frame.max_fps is -1.0"),
        (f"{file}:15", "source.kind is 'tape', wanted one of none, file"),
        (f"{file}:18", "policy.kl is 0.5"),
        (f"{file}:19", "policy.trusted_workers: id 'b c'"),
        (f"{file}:23", "policy.margin is 4.0"),
        (f"{tmp_path / 'conf.d/1.toml'}:3", "sensors.interval_s is 0.0"),
        ("env EDGE_AGENT__MODEL__THREADS", "model.threads is 0"),
        ("env EDGE_AGENT__MODL__X", "unknown key modl; did you mean model?"),
        ("env EDGE_AGENT__RESULT__TOP_K", "result.top_k is 'abc'"),
        (str(file), "model.bundle is missing"),
    ]
    for where, words in wanted:
        assert any(p.startswith(f"{where}: ") and words in p for p in found), (where, words, found)
    assert len(found) == len(wanted), found


def test_what_is_no_toml_and_what_cannot_be_read_say_where(tmp_path, file):
    file.write_text('id = "x"\nmodel = = 4\n')
    (found,) = problems(file)
    assert found.startswith(f"{file}:2: it is no TOML: ")
    missing = tmp_path / "none.toml"
    assert problems(missing) == [f"{missing}: cannot read it: No such file or directory"]
    with pytest.raises(ConfigError, match=f"^{missing}: cannot read it") as error:
        load(missing)
    assert error.value.exit_code == 78
    file.write_text("id = 'a/b'\nmodel = 4\n")
    with pytest.raises(ConfigError, match="^2 errors in the configuration:\n  .*\n  .*$"):
        load(file)


@pytest.mark.parametrize("text, wanted", [
    ("a = 1", {"a": 1}),
    ("# c\n\n[t]\nx = 1", {"t": 3, "t.x": 4}),
    ('a = """\nb = 2\n[no]\n"""\nc = 3', {"a": 1, "c": 5}),
    ("a = [\n 1, # ]\n 2,\n]\nb = 1", {"a": 1, "b": 5}),
    ("t.x = 1\nt.y.z = 2", {"t": 1, "t.x": 1, "t.y": 2, "t.y.z": 2}),
    ("t = {x = 1, y = 2}", {"t": 1, "t.x": 1, "t.y": 1}),
    ('"quoted" = 1\r\n[ t . "u" ]\r\nx=1', {"quoted": 1, "t.u": 2, "t.u.x": 3}),
    ("[[a]]\nx = 1\n[[a]]\nx = 2", {"a": 1, "a.x": 2}),
])
def test_lines_of_keys(text, wanted):
    assert key_lines(text) == wanted


_NAMES = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
_VALUES = st.one_of(st.integers(-9, 9), st.booleans(), st.text("ab\n\"'#=[]\\", max_size=8),
                    st.lists(st.integers(0, 9), max_size=3))


@given(st.dictionaries(_NAMES, st.dictionaries(_NAMES, _VALUES, max_size=4), max_size=4))
def test_every_key_is_on_the_line_that_says_it(tables):
    lines, wanted = [], {}
    for table, entries in tables.items():
        lines += [f"[{table}]  # [x]"]
        wanted[table] = len(lines)
        for name, value in entries.items():
            lines.append(f"{name} = {toml_value(value)}")
            wanted[f"{table}.{name}"] = len(lines)
    text = "\n".join(lines)
    assert tomllib.loads(text) == tables           # toml_value writes what the parser reads
    assert key_lines(text) == wanted


def test_what_is_shown_is_a_file_that_says_the_same(tmp_path, file):
    first = load(file, environ={"EDGE_AGENT__POLICY__TRUSTED_WORKERS": '["a"]'})
    again = tmp_path / "again.toml"
    for sources in (False, True):
        again.write_text(as_toml(first, sources=sources))
        assert load(again).config == first.config


@pytest.mark.parametrize("kind", [AgentConfig, WorkerConfig])
def test_rows_name_every_key_and_its_source(kind, file):
    loaded = load(file if kind is AgentConfig else None, kind)
    found = rows(loaded)
    assert [r["key"] for r in found] == [k.path for k in keys_of(kind)]
    assert {r["source"] for r in found} == (
        {"default", f"{file}:2"} if kind is AgentConfig else {"default"})


@pytest.mark.parametrize("kind, words", [
    (str, "text"), (int | None, "whole number"), (tuple[str, ...], "list of text"),
    (bool, "true or false"), (float, "number"),
])
def test_types_in_words(kind, words):
    assert describe(kind) == words
