"""The generated reference and the table of exit codes are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloud_side.cli import main as cloud_worker
from cloud_side.config import WorkerConfig
from edge_agent.cli import main as edge_agent
from edge_agent.config import AgentConfig
from split_core import errors
from split_core.settings.keys import keys_of, sections
from split_core.settings.reference import comments, default_of

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_docs_configuration_is_current(capfd):
    wanted = "# Configuration\n\n"
    for main, between in ((edge_agent, "\n"), (cloud_worker, "")):
        assert main(["config", "reference"]) == 0
        wanted += capfd.readouterr().out + between
    assert (DOCS / "configuration.md").read_text() == wanted, "run `make reference`"


@pytest.mark.parametrize("kind", [AgentConfig, WorkerConfig])
def test_every_key_and_section_says_what_it_is(kind):
    keys = list(keys_of(kind))
    assert len(keys) > 20
    silent = [k.path for k in keys if k.name not in comments(k.owner)]
    assert not silent, "a comment above the field is its entry in the reference"
    assert all(section.__doc__ for section in sections(kind).values())


def test_defaults_in_words():
    by_path = {k.path: k for k in keys_of(AgentConfig)}
    assert default_of(by_path["model.bundle"]) == "needed"
    assert default_of(by_path["id"]) == "The host's name"
    assert default_of(by_path["frame.deadline_ms"]) == "`1000.0`"
    assert default_of(by_path["plan.cut"]) == "none"
    assert default_of(by_path["sensors.command"]) == "`[]`"


def error_classes(base=errors.SplitError):
    yield base
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_classes(child)


def test_exit_codes_are_documented_and_the_units_agree():
    rows = re.findall(r"^\| (\d+) \| (.*?) \|.*\| (.*?) \|$", (DOCS / "exit-codes.md").read_text(),
                      re.M)
    documented = {name: int(code) for code, names, _ in rows for name in re.findall(r"\w+", names)}
    assert documented == {c.__name__: c.exit_code for c in error_classes()}
    stays = {code for code, _, restart in rows if restart == "stays"}
    for unit in (DOCS.parent / "systemd").glob("*.service"):
        (prevented,) = re.findall(r"^RestartPreventExitStatus=(.*)$", unit.read_text(), re.M)
        assert set(prevented.split()) == stays, unit.name


@pytest.mark.parametrize("command", ["run", "doctor", "config show"])
def test_an_unknown_option_is_a_usage_error(command, capfd):
    with pytest.raises(SystemExit) as end:
        edge_agent([*command.split(), "--nonsense"])
    assert end.value.code == errors.UsageError.exit_code
    said = capfd.readouterr().err
    assert f"usage: edge-agent {command}" in said and "arguments: --nonsense" in said
