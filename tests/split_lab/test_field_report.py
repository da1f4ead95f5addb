"""The report of a field test: what is on the page, what cannot get onto it, how it is written."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")

from split_core.errors import UsageError
from split_lab.field.colours import arm_colours
from split_lab.field.records import DecisionRow, FieldRun, FrameRow, LinkRow
from split_lab.field.report import decisions_csv, frames_csv, link_csv, write_report
from split_lab.field.summary import remarks, verdict
from split_lab.plan_plot import front, plot_plan

VOID = {"meta", "link", "br", "hr", "img", "input"}
STAGES = {"wait": 1.0, "head": 20.0, "encode": 2.0, "link": 30.0, "queue": 1.0, "decode": 1.0,
          "tail": 9.0, "reply": 0.5}
HOSTILE = '<script>alert(1)</script>'
REASON = 'said "no",\nthen <b>again</b> & \'so\''


class Page(HTMLParser):
    """Tags that are open, and what was seen."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def frames(arm: str, count: int, base_ms: float = 60.0, seed: int = 5) -> list[FrameRow]:
    rng, made = random.Random(seed), []
    for i in range(count):
        link_ms = 30.0 * math.exp(rng.gauss(0, 0.4))
        total_ms = base_ms + link_ms
        remote = rng.random() < 0.9
        made.append(FrameRow(
            arm, i, 0.25 * i, "remote" if remote else "dropped", "" if remote else "newer frame",
            total_ms > 110.0 or not remote, total_ms, rng.choice((0, 31, 66)), "kl0.02",
            "worker-1", 4000 + i % 97, 0.2, 0.02 * math.exp(rng.gauss(0, 0.2)), 1,
            STAGES | {"link": link_ms} if remote else {}))
    return made


def a_run(count: int = 40, arms=("adaptive", "static", "oracle")) -> FieldRun:
    rng = random.Random(11)
    return FieldRun(
        {"deadline_ms": 110.0, "bundle": "m.split.tflite", "limits": ["battery"], "seed": 5},
        tuple(f for i, a in enumerate(arms) for f in frames(a, count, 60.0 + 9 * i, i)),
        tuple(DecisionRow(0.25 * i, f"cut {i % 3}", "gain 9 %" if i % 4 == 0 else
                          "probe of cut 9" if i % 4 == 1 else "still the best", i % 4 == 0, i % 3,
                          80.0, 5.0 - 0.01 * i) for i in range(count)),
        tuple(LinkRow(0.25 * i, 1e6 * math.exp(rng.gauss(0, 1)),
                      0.0 if i % 10 == 9 else 1e6 * math.exp(rng.gauss(0, 1)))
              for i in range(count)),
        ((2.0, "worker killed"),), ("Energy is modelled.",), {"adaptive": 3})


def html_of(run: FieldRun, folder) -> str:
    return write_report(run, folder).read_text("utf-8")


def svgs(html: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", html, re.S)


# -- the page

def test_the_page_is_whole_and_stands_alone(tmp_path):
    html = html_of(a_run(), tmp_path / "deep" / "report")
    page = Page(html)
    assert "script" not in page.tags and "<script" not in html.lower()
    assert set(re.findall(r"https?://[^\s\"'<>)]+", html)) == {"http://www.w3.org/2000/svg"}
    assert all(k.startswith("xmlns") for k, v in page.attributes if v and "://" in v)
    # Within the page, or the icon that is none.
    assert {v[:1] for k, v in page.attributes if k in ("href", "src")} <= {"#", "d"}
    assert ("lang", "en") in page.attributes and ("name", "viewport") in page.attributes
    assert not [k for k, _ in page.attributes if k.startswith("on")]
    ids = [v for k, v in page.attributes if k == "id"]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", html))
    assert {a or b for a, b in used} <= set(ids)


def test_a_run_with_everything_has_seven_figures_with_names(tmp_path):
    html = html_of(a_run(), tmp_path)
    found = svgs(html)
    assert len(found) == 7 == html.count("<figcaption>")
    for svg in found:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img" and root.get("aria-label") and root.get("viewBox")
        assert root[0].tag.endswith("title") and root[0].text == root.get("aria-label")
        assert root.get("width") is None
        assert not [e for e in root.iter() if e.tag.endswith(("style", "metadata"))]


def test_the_page_says_what_the_run_was(tmp_path):
    run = a_run()
    text = Page(html_of(run, tmp_path)).text.replace("\N{NO-BREAK SPACE}", " ")
    for wanted in (verdict(run), *remarks(run), "m.split.tflite", "gain 9 %",
                   "worker killed", "Energy is modelled.", "10 of 40 decisions changed the plan",
                   "Switches", "Faults", "Notes"):
        assert wanted in text, wanted


@pytest.mark.parametrize(("settings", "title"), [
    ({}, "Field test"), ({"model": "m", "link": "lte"}, "Field test of m over lte"),
    ({"model": "m", "link": "as it is"}, "Field test of m over the link there is"),
    ({"model": "m", "link": None}, "Field test of m"), ({"model": "m", "title": "T"}, "T")])
def test_the_title_comes_from_the_settings(settings, title, tmp_path):
    assert f"<h1>{title}</h1>" in html_of(FieldRun(settings, ()), tmp_path)


def test_only_the_best_of_those_compared_are_marked(tmp_path):
    run = FieldRun({}, (
        *(FrameRow("adaptive", i, i, "remote", "", False, 100.0, 1, "q8", "w", 500, 0.3)
          for i in range(4)),
        *(FrameRow("static", i, i, "remote", "", False, 200.0, 1, "q8", "w", 400, 0.4)
          for i in range(4)),
        FrameRow("raw", 0, 0, "remote", "", False, 10.0, 1, "raw", "w", 1, 0.1),
        *(FrameRow("raw", i, i, "dropped", "", True, 0.0, 1, "raw", "w", 1, 0.1)
          for i in range(1, 4)),
        *(FrameRow("oracle", i, i, "remote", "", False, 5.0, 1, "q8", "w", 5, 0.01)
          for i in range(4))))
    table = re.search(r'<table class="arms">.*?</table>', html_of(run, tmp_path), re.S)[0]
    marked = {re.search(r"</span>(\w+)</th>", row)[1]: re.findall(r'class="best">([^<]+)<', row)
              for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table, re.S)}
    assert marked == {"adaptive": ["100 ms"] * 4 + ["100 %", "300 mJ"],
                      "static": ["100 %", "400 B"], "raw": [], "oracle": []}


def test_what_comes_from_outside_is_only_text(tmp_path):
    base = frames(HOSTILE, 6) + frames("_$\\frac{$", 6) + frames("a\x00b\ud800\nc", 6) + (
        frames("\u6771\u4eac", 6))
    run = FieldRun(
        {HOSTILE: HOSTILE, "title": HOSTILE, "nested": {HOSTILE: [HOSTILE]}}, tuple(base),
        (DecisionRow(0.5, HOSTILE, REASON, True, 0, math.inf, 4.0),),
        (LinkRow(0.0, 1e6, None),), ((1.0, HOSTILE),), (HOSTILE,))
    html = html_of(run, tmp_path)
    page = Page(html)
    assert "script" not in page.tags and "<script" not in html.lower()
    assert page.tags.count("b") == 0
    assert page.text.count(HOSTILE) >= 8 and REASON in page.text
    assert "alert(1)" not in "".join(v for k, v in page.attributes if k != "aria-label" and v)


def test_arms_keep_their_colours():
    colours = arm_colours(["x", "oracle", "adaptive", "y"])
    assert colours["adaptive"] == arm_colours(["adaptive"])["adaptive"]
    assert len(set(colours.values())) == 4


def test_a_long_list_ends_in_the_table(tmp_path):
    decisions = tuple(DecisionRow(float(i), f"way-{i}", "gain", True, 0, 1.0) for i in range(250))
    text = Page(html_of(FieldRun({}, tuple(an_arm("remote")), decisions), tmp_path)).text
    assert "way-199" in text and "way-200" not in text
    assert "50 more are in decisions.csv" in text and "way-249" in decisions_csv(
        FieldRun({}, (), decisions))


# -- runs that lack something

def an_arm(outcome: str, count: int = 3) -> list[FrameRow]:
    return [FrameRow("adaptive", i, float(i), outcome, "", True, 10.0, 0, "q8", None, 0, 0.0)
            for i in range(count)]


@pytest.mark.parametrize(("run", "count"), [
    (FieldRun({}, ()), 0),
    (FieldRun({}, tuple(an_arm("remote", 1))), 5),
    (FieldRun({}, tuple(an_arm("failed"))), 2),
    (FieldRun({}, (*frames("adaptive", 9), *(
        FrameRow("raw", i, i, "failed", "", True, math.nan, 0, "raw", None, 0, math.nan)
        for i in range(9)))), 5),
    (FieldRun({}, tuple(an_arm("local"))), 5),
    (FieldRun({}, tuple(frames("static", 5)), link=(LinkRow(0.0, 0.0, 0.0),)), 6),
    (FieldRun({}, tuple(frames("static", 5)), link=(LinkRow(0.0, 1e6, None),)), 6),
    (FieldRun({}, tuple(an_arm("remote", 1)),
              (DecisionRow(3.0, "a", "b", False, 0, 1.0, 2.0),)), 6),
], ids=["nothing", "one frame", "all failed", "one arm failed", "all local", "dead link",
        "real link", "one decision"])
def test_a_run_that_lacks_something_has_a_report(run, count, tmp_path):
    html = html_of(run, tmp_path)
    assert len(svgs(html)) == count
    Page(html)
    json.loads((tmp_path / "summary.json").read_text("utf-8"))


# -- files

def test_the_same_run_gives_the_same_bytes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write_report(a_run(), one)
    write_report(a_run(), two)
    names = sorted(p.name for p in one.iterdir())
    assert names == ["decisions.csv", "frames.csv", "link.csv", "report.html", "summary.json"]
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_tables_come_back_as_they_went(tmp_path):
    run = FieldRun({}, (FrameRow("a,b", 0, 0.25, "remote", REASON, False, 0.1 + 0.2, 3, "q8", None,
                                 17, 0.5, None, 4, {"link": 2.5, "extra": 1.0}),),
                   (DecisionRow(1.5, "cut 3", REASON, True, 3, math.inf),),
                   (LinkRow(1.0, 1234567.5, None),))
    write_report(run, tmp_path)
    assert (tmp_path / "frames.csv").read_bytes() == frames_csv(run).encode()
    assert frames_csv(run).count("\r\n") == 2
    row, = csv.DictReader(io.StringIO(frames_csv(run), newline=""))
    assert row == {
        "arm": "a,b", "index": "0", "offered_s": "0.25", "outcome": "remote", "reason": REASON,
        "late": "false", "total_ms": "0.3", "cut": "3", "rung": "q8", "worker": "",
        "payload_bytes": "17", "energy_j": "0.5", "kl_nats": "", "plan_id": "4", "wait_ms": "",
        "head_ms": "", "encode_ms": "", "link_ms": "2.5", "queue_ms": "", "decode_ms": "",
        "tail_ms": "", "reply_ms": "", "fallback_ms": "", "extra_ms": "1"}
    row, = csv.DictReader(io.StringIO(decisions_csv(run), newline=""))
    assert row == {"at_s": "1.5", "what": "cut 3", "reason": REASON, "switched": "true", "cut": "3",
                   "predicted_ms": "", "battery_wh": ""}
    assert link_csv(run) == "at_s,believed_bps,true_bps\r\n1,1234567.5,\r\n"


def test_an_interrupted_write_leaves_the_old_page(tmp_path, monkeypatch):
    before = html_of(a_run(), tmp_path)
    replace = os.replace

    def interrupted(source, target):
        if str(target).endswith(".html"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_report(a_run(12), tmp_path)
    assert (tmp_path / "report.html").read_text("utf-8") == before


def test_a_folder_that_is_a_file_is_the_callers_fault(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="cannot write .*/x/frames.csv: "):
        write_report(a_run(2), tmp_path / "x")


def test_without_matplotlib_the_extra_is_named_and_nothing_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("plots", "arm_plots", "canvas"):
        monkeypatch.delitem(sys.modules, f"split_lab.field.{name}", raising=False)
        monkeypatch.delattr(f"split_lab.field.{name}", raising=False)
    with pytest.raises(UsageError, match=r"edge-agent\[plot\]"):
        write_report(a_run(2), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match=r"edge-agent\[plot\]"):
        plot_plan([CHOSEN], CHOSEN, tmp_path / "plan.png")


def test_a_long_run_is_thinned(tmp_path):
    run = a_run(5000, ("adaptive", "local", "jpeg", "static", "oracle"))
    html = html_of(run, tmp_path)
    assert max(map(len, svgs(html))) < 300_000
    assert len(html) < 1_200_000


# -- in a browser

FRAMES = """<!DOCTYPE html><title>sizes</title><link rel="icon" href="data:,">
<iframe src="report/report.html" width="400" height="800" style="border:0"></iframe>
<iframe src="report/report.html" width="1280" height="800" style="border:0"></iframe>
<p id="found">nothing yet</p><script>
addEventListener("load", () => found.textContent = [...document.querySelectorAll("iframe")].map(
  f => { const page = f.contentDocument.documentElement;
         return (page.scrollWidth - page.clientWidth) + " too wide at " + f.width; }).join(", "));
</script>"""


@pytest.mark.check
def test_a_browser_has_no_complaint_and_scrolls_no_page_sideways(tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here; Debian has it in the package chromium")
    write_report(a_run(), tmp_path / "report")
    (tmp_path / "sizes.html").write_text(FRAMES, "utf-8")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1700,900",
         # The script beside the report reads sizes off it; both are files.
         "--allow-file-access-from-files", "--enable-logging=stderr", "--log-level=0",
         "--virtual-time-budget=5000", "--dump-dom", (tmp_path / "sizes.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<p id="found">(.*?)</p>', done.stdout)
    assert found and found[1] == "0 too wide at 400, 0 too wide at 1280"
    assert "CONSOLE" not in done.stderr, done.stderr


# -- plans

def candidate(what: str, device_ms: float, nbytes: float, mean_ms: float | None = 100.0,
              allowed: bool = True) -> dict:
    return {"what": what, "cut": 1, "rung": "q8", "worker": "w", "race": False, "allowed": allowed,
            "device_ms": device_ms, "costs": {"mean_ms": mean_ms, "bytes": nbytes}}


CHOSEN = candidate("cut 3 $q8$ at w", 20.0, 4000.0)
PLAN = [candidate("input", 5.0, 16000.0), CHOSEN, candidate("worse", 30.0, 5000.0),
        candidate("forbidden", 10.0, 10.0, allowed=False), candidate("unknown", 25.0, 900.0, None),
        candidate("all local", 400.0, 0.0, 400.0)]


def test_the_front_has_nothing_better_in_both():
    assert [c["what"] for c in front(PLAN)] == ["input", "cut 3 $q8$ at w", "unknown", "all local"]
    faster, slower = candidate("faster", 5.0, 9.0, 1.0), candidate("slower", 5.0, 9.0, 2.0)
    assert front([slower, faster]) == [faster]


def test_a_plan_is_drawn(tmp_path):
    plot_plan(PLAN, CHOSEN, tmp_path / "plan.png", PLAN[0])
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    plot_plan(PLAN, CHOSEN, tmp_path / "one.svg", PLAN[0])
    plot_plan(PLAN, dict(CHOSEN), tmp_path / "two.svg", PLAN[0])
    one = (tmp_path / "one.svg").read_text("utf-8")
    assert one == (tmp_path / "two.svg").read_text("utf-8")
    for wanted in ("chosen: cut 3 $q8$ at w", "runner-up: input", "nothing", "forbidden"):
        assert wanted in one
    ElementTree.fromstring(one)


@pytest.mark.parametrize("candidates", [
    [CHOSEN], [candidate("all local", 400.0, 0.0)], [candidate("x", 1.0, 5.0, None)],
    [candidate("x", 1.0, 5.0, allowed=False)], [candidate("same", 1.0, 5.0)] * 50])
def test_few_candidates_are_drawn_too(candidates, tmp_path):
    plot_plan(candidates, candidates[0], tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 1000


def test_what_cannot_be_drawn_is_said(tmp_path):
    with pytest.raises(UsageError, match="none of 1 candidates"):
        plot_plan([candidate("x", math.inf, 5.0)], CHOSEN, tmp_path / "plan.png")
    with pytest.raises(UsageError, match="cannot write"):
        plot_plan(PLAN, CHOSEN, tmp_path / "absent" / "plan.png")
    with pytest.raises(UsageError, match="cannot write"):
        plot_plan(PLAN, CHOSEN, tmp_path / "plan.txt")
