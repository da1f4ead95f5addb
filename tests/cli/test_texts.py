"""Completion and man pages, used as a shell and `man` use them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from cloud_side.cli import build_parser as worker_parser
from cloud_side.cli import main as cloud_worker
from edge_agent.cli import build_parser as agent_parser
from edge_agent.cli import main as edge_agent
from split_core.manual import commands, escape, pages

PROGRAMS = [("edge-agent", edge_agent, agent_parser), ("cloud-worker", cloud_worker, worker_parser)]


def needs(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.fixture(params=PROGRAMS, ids=lambda p: p[0])
def program(request):
    return request.param


def rendered(path) -> str:
    """What `man` shows, without overstriking; its warnings fail."""
    child = subprocess.run(["man", "--warnings=w", "-l", str(path)], capture_output=True,
                           text=True, timeout=60, env={"PATH": "/usr/bin:/bin", "MANWIDTH": "100",
                                                       "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""})
    assert child.returncode == 0 and not child.stderr, child.stderr
    return child.stdout


def test_man_renders_a_page_for_every_command(program, tmp_path, capfd):
    needs("man")
    name, main, parser = program
    assert main(["man", str(tmp_path / "man1")]) == 0
    written = capfd.readouterr().out.split()
    every = [c.prog.replace(" ", "-") for _, c in commands(parser())]
    assert {f"{name}-doctor", f"{name}-config-show", f"{name}-run"} <= set(every)
    assert written == [str(tmp_path / "man1" / f"{page}.1") for page in (name, *every)]
    whole = rendered(tmp_path / "man1" / f"{name}.1")
    for page in every:
        assert f"{page}(1)" in whole
        text = rendered(tmp_path / "man1" / f"{page}.1")
        assert all(f"\n{heading}\n" in text for heading in ("NAME", "SYNOPSIS", "EXAMPLES"))
    assert "/etc/" in whole and "EXIT STATUS" in whole


def test_a_page_says_all_that_help_says(program):
    name, _, parser = program
    found = pages(parser(), version="1", about_all={})
    for _, command in commands(parser()):
        page = found[command.prog.replace(" ", "-") + ".1"]
        for action in command._actions:
            for option in action.option_strings:
                assert escape(option) in page, (command.prog, option)
        for line in command.epilog.splitlines()[1:]:
            assert escape(line.strip()) in page


def test_pages_are_the_same_whoever_makes_them(program, monkeypatch):
    _, _, parser = program
    monkeypatch.setenv("COLUMNS", "40")
    narrow = pages(parser(), version="1", about_all={})
    monkeypatch.setenv("COLUMNS", "200")
    assert pages(parser(), version="1", about_all={}) == narrow


@pytest.mark.parametrize("text, wanted", [
    ("a-b", "a\\-b"), (".x\ny", "\\&.x\ny"), ("a\\b", "a\\eb"), ("it's", "it\\(aqs"),
])
def test_text_that_roff_would_take_for_something_else(text, wanted):
    assert escape(text) == wanted


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_prints_a_script(program, shell, capfd, tmp_path):
    pytest.importorskip("shtab")
    name, main, _ = program
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capfd.readouterr().out)
    assert name in script.read_text() and "check-config" in script.read_text()
    if shutil.which(shell):
        assert subprocess.run([shell, "-n", str(script)], timeout=30).returncode == 0
    else:
        assert shell != "bash"


@pytest.mark.parametrize("words, wanted", [
    (["che"], ["check-config"]), (["doc"], ["doctor"]), (["doctor", "--j"], ["--json"]),
    (["config", "sh"], ["show"]), (["config", "show", "--sou"], ["--sources"]),
    (["check-config", "set"], ["settings.toml"]),
    (["check-config", "--strict", "set"], ["settings.toml"]),
])
def test_bash_completes_what_is_begun(program, words, wanted, capfd, tmp_path):
    pytest.importorskip("shtab")
    needs("bash")
    name, main, _ = program
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capfd.readouterr().out)
    (tmp_path / "settings.toml").touch()
    line = " ".join([name, *words])
    code = (f"source ./script\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words)}\n"
            f"COMP_LINE='{line}'\nCOMP_POINT={len(line)}\n"
            f"_shtab_{name.replace('-', '_')} {name} {words[-1]} x\n"
            'printf "%s\\n" "${COMPREPLY[@]}"')
    child = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True,
                           timeout=30)
    assert child.stdout.split() == wanted, child.stderr
