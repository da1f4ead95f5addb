"""The pages of documentation do what they say: their commands are run, their links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from split_core.wire.messages import Reason
from tests.support.brokers import Mosquitto
from tests.support.documents import Step, differs, run_page, steps_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "ARCHITECTURE.md",
                ROOT / "CONTRIBUTING.md", *(ROOT / "integrations").rglob("*.md")])
# Pages for people who type along; the least number of commands says that they are still found.
RUN = {"quick-start.md": 8, "operating.md": 9}


@pytest.mark.parametrize("name", RUN)
def test_what_a_page_tells_to_type_works(name, tmp_path):
    with Mosquitto(tmp_path) as broker:
        folder = tmp_path / "home"
        folder.mkdir()
        assert run_page(ROOT / "docs" / name, folder, broker.port) >= RUN[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_runner_finds_and_compares():
    page = "```console\n$ a 1 \\\n  b\nout 7 ... end\n$ c\n```\n<!-- not run: systemd -->\n" \
           "```console\n$ never\n```\n"
    assert steps_of(page) == [Step("a 1 \\\n  b", ("out 7 ... end",)), Step("c", ())]
    assert differs(("...", "out 7 ... end"), "before\n\nout 12.5 any thing  end\n") is None
    assert differs(("out 7", "...", "next"), "out 7\nor\nother\nnext\n") is None
    assert differs(("out 7", "..."), "out 7\nafter\n") is None
    assert differs((), "not shown\n") is None
    assert differs(("out 7", "next"), "next\nout 7\n") == "out 7"
    assert differs(("...", "next"), "out 7\n") == "next"
    assert differs(("cut 3",), "cut x\n") == "cut 3"
    # What came and was not promised.
    assert differs(("out 7",), "out 7\nafter\n") == "after"
    assert differs(("out 7", "next"), "out 7\nother\nnext\n") == "next"


def test_what_troubleshooting_quotes_is_said_by_somebody():
    """By the programs, in what they write rather than in comments, or by what they pass on:
    OpenSSL, systemd."""
    passed_on = {"certificate has expired", "self-signed certificate", "Hostname mismatch",
                 "SystemError", "activating"}
    said = "\n".join(text for package in ("edge_agent", "cloud_side", "split_core")
                     for p in (ROOT / package).rglob("*.py") for text in _texts(p))
    page = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    quoted = {q for q in re.findall(r"`([^`]+)`", page)
              if not re.search(r"^(edge-agent|cloud-worker|pip|mqtts?:)|[=/]|_pool|\.tflite|\.toml", q)
              or q.startswith("event=")}
    assert len(quoted) > 20
    # Put together of two: f"worker: {reason}", and a reason of the wire format in lower case.
    quoted = {"worker: {}" if q == f"worker: {Reason.SHED.name.lower()}" else q for q in quoted}
    unsaid = [q for q in quoted - passed_on
              if not re.search(r"[^\n]*".join(map(re.escape, re.split(r" ?\.\.\. ?", q))), said)]
    assert not unsaid


def _texts(path: Path) -> list[str]:
    """The strings of a source but its docstrings, with `{}` for what is put in."""
    tree = ast.parse(path.read_text("utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
             for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(v.value if isinstance(v, ast.Constant) else "{}"
                                 for v in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) \
                and id(node) not in prose and id(node) not in parts:
            found.append(node.value)
    return found
