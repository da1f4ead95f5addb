"""The status page: its files, and in a real browser what it shows, when, and what it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources

import pytest

from cloud_side.observers.fleet import OUTCOMES, Fleet
from cloud_side.web.config import StatusConfig
from cloud_side.web.status import StatusPage
from split_core.config import convert
from split_core.errors import ConfigError
from split_core.webserver import WebServer
from split_core.wire.records import DeviceStatus, PlanRecord, dump
from split_lab.field.colours import OUTCOME_COLOURS
from tests.support import fleets
from tests.support.browser import Browser
from tests.support.fleets import NOW_S, FakeWatch, health, live, pool
from tests.support.observed import fetch, observed_device, observed_worker
from tests.support.rig import Rig

FILES = {name: resources.files("cloud_side.web").joinpath(name).read_text("utf-8")
         for name in ("page.html", "page.css", "page.js", "plots.js")}
CANARY = "<img src=x onerror=\"window.canary=1\"><script>window.canary=2</script>&amp;"
NO_OVERFLOW = "document.documentElement.scrollWidth <= window.innerWidth"


def themes() -> list[dict[str, str]]:
    """The colours of the light and of the dark page."""
    css = FILES["page.css"]
    light = dict(re.findall(r"--([\w-]+): (#\w+)", css[:css.index("@media")]))
    dark = css[css.index("prefers-color-scheme: dark"):]
    return [light, light | dict(re.findall(r"--([\w-]+): (#\w+)", dark[:dark.index("}")]))]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i:i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# -- the files

@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_text_can_be_read(theme):
    for ink in ("ink", "soft", "mark"):
        for paper in ("paper", "card", "hover"):
            assert contrast(theme[ink], theme[paper]) >= 4.5, (ink, paper)
    for state in ("good", "warn", "bad"):
        assert contrast(theme[state], theme[f"{state}-bg"]) >= 4.5, state
    # Shares that stand side by side differ without their hue.
    for one, other in zip(OUTCOMES, OUTCOMES[1:]):
        assert contrast(theme[one], theme[other]) >= 1.5, (one, other)


def test_outcomes_have_the_colours_of_the_reports():
    light, _ = themes()
    assert {o: light[o] for o in OUTCOMES} == OUTCOME_COLOURS


def test_the_page_takes_nothing_from_elsewhere_and_makes_no_markup_of_text():
    for name, text in FILES.items():
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}, name
    scripts = FILES["page.js"] + FILES["plots.js"]
    assert not re.findall(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|new Function",
                          scripts)
    assert "style=" not in FILES["page.html"] and "<style" not in FILES["page.html"]
    assert not re.findall(r"\son\w+=", FILES["page.html"])


@pytest.mark.parametrize("status, words", [
    ({"listen": "8099"}, "status.listen is '8099'"), ({"max_devices": 0}, "status.max_devices"),
    ({"history_min": 5000}, "status.history_min"), ({"max_devices": 10**6}, "max_devices")])
def test_settings_that_cannot_work(status, words):
    with pytest.raises(ConfigError, match=words):
        convert(status, StatusConfig, "x").check()


def page_of(watch: FakeWatch, port: int = 0) -> StatusPage:
    return StatusPage(None, watch, WebServer(("127.0.0.1", port), {}))


def test_what_is_served_besides():
    fleet = Fleet()
    live(fleet, "pi", seed=1, steps=3)
    with page_of(FakeWatch(fleet)) as page:
        assert fetch(page.url + "history.json?device=pi")[0] == 200
        assert fetch(page.url + "history.json?device=%3Cb%3E") == (404, "no such device\n")
        assert fetch(page.url + "history.json")[0] == 404
        assert fetch(page.url + "metrics")[0] == 501      # and which package it needs
        assert "edge-agent[metrics]" in fetch(page.url + "metrics")[1]


# -- in a browser

@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def hostile() -> Fleet:
    """Whatever a device can put into words is markup."""
    fleet = Fleet()
    live(fleet, "x" * 64, seed=2, steps=30, model=CANARY, rung=CANARY[:96], aim=CANARY[:96])
    fleet.on_device("x" * 64, "plan", dump(PlanRecord(1, 2, CANARY, CANARY, CANARY)), False, NOW_S)
    fleet.on_device("x" * 64, "health", dump(health(
        model=CANARY, worker="<b>" * 32, rung="<i>" * 32, aim="</td>" * 19, bundle="<a>" * 32,
        totals={"<script>": 1})), False, NOW_S)
    fleet.on_device("x" * 64, "event", b'{"event":"<b>","text":"%s"}'
                    % CANARY.replace('"', '\\"').encode(), False, NOW_S)
    return fleet


def crowd() -> Fleet:
    fleet = Fleet()
    for i in range(30):
        live(fleet, f"cam-{i:02d}", seed=i, steps=30, end_s=NOW_S - (300 if i == 7 else 0),
             last_state="lost" if i == 7 else "ready")
    fleet.on_device("never-reported", "status", dump(DeviceStatus("ready", "1")), True, NOW_S)
    pool(fleet)
    return fleet


def single() -> Fleet:
    fleet = Fleet()
    live(fleet, "pi-door", seed=6)
    return fleet


SCENES = {"empty": Fleet, "single": single, "crowd": crowd, "hostile": hostile}


@pytest.mark.check
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 768, 1280])
@pytest.mark.parametrize("scene", SCENES)
def test_a_browser_has_no_complaint_and_scrolls_no_page_sideways(browser, scene, width, dark):
    fleet = SCENES[scene]()
    idle = {"idle": True, "models": [], "connected": False, "trouble": CANARY + "y" * 200}
    with page_of(FakeWatch(fleet, **(idle if scene == "empty" else {}))) as served:
        page = browser.open(served.url, width=width, dark=dark)
        page.wait_for("document.getElementById('live').classList.contains('on')")
        if len(fleet):
            if len(fleet) > 1:
                page.value("document.querySelector('.who').click()")
            page.wait_for("document.querySelectorAll('figure svg').length === 3")
            assert page.value("[...document.querySelectorAll('svg')].every("
                              "s => s.getAttribute('aria-label') && s.getAttribute('role'))")
        assert page.value(f"{NO_OVERFLOW}"), f"too wide at {width}"
        # Nothing is cut off within a cell, a tile or a card either.
        assert page.value("[...document.querySelectorAll('td, th, .tile, dd, figcaption, li')]"
                          ".filter(e => e.scrollWidth > e.clientWidth + 1)"
                          ".map(e => e.className + e.textContent)") == []
        assert page.complaints == [] and page.dialogs == []
        assert all(url.startswith((served.url, "data:,")) for url in page.requests)
        page.close()


@pytest.mark.check
def test_words_of_devices_stay_words(browser):
    with page_of(FakeWatch(hostile())) as served:
        page = browser.open(served.url)
        page.wait_for("document.querySelectorAll('figure svg').length === 3")
        text = page.value("document.body.textContent")
        assert text.count(CANARY) >= 2 and "<b><b>" in text and "</td></td>" in text
        assert page.value("window.canary === undefined")
        assert page.value("[document.images.length, document.scripts.length]") == [0, 1]
        assert page.value("document.querySelectorAll('td :is(b, a, i):not(figcaption > b),"
                          " .events :is(b, a, i)').length") == 0
        # And if something slipped in, it would not run.
        assert page.complaints == []
        page.value("document.body.append(Object.assign(document.createElement('script'),"
                   " {textContent: 'window.canary = 3'}))")
        assert page.value("window.canary === undefined")
        page.wait_for("true")
        assert any("Content Security Policy" in c for c in page.complaints)
        page.close()


@pytest.mark.check
def test_it_is_live_and_comes_back_after_the_worker_was_away(browser):
    watch = FakeWatch(single())
    with page_of(watch) as served:
        page = browser.open(served.url)
        page.wait_for("document.querySelectorAll('figure svg').length === 3")
        page.value("window.mark = 1")                       # gone if the page were loaded anew
        before = page.value("document.querySelector('figure').nextSibling.textContent")
        fleet, watch.now_s = watch.fleet, NOW_S + 10
        live(fleet, "pi-new", seed=9, steps=2, end_s=NOW_S + 10)
        fleet.on_device("pi-door", "health", dump(health(
            cut=9, uptime_s=9e4, totals={"failed": 77, "remote": 10**6})), False, NOW_S + 10)
        page.wait_for("document.querySelectorAll('.who').length === 2")
        page.wait_for("document.body.textContent.includes('77 failed')")
        assert before != page.value("document.querySelector('figure').nextSibling.textContent")
        fleet.on_device("pi-new", "status", dump(DeviceStatus("lost", "1")), False, NOW_S + 11)
        page.wait_for("document.querySelector('.pill.lost') !== null")
        # The one that is lost is the first now, and the other is still open.
        assert page.value("[...document.querySelectorAll('.who')].map("
                          "b => b.textContent + b.getAttribute('aria-expanded'))") == [
            "pi-newfalse", "pi-doortrue"]
        port = served.server.port
    page.wait_for("document.getElementById('live').textContent.includes('lost')")
    fleet.on_device("pi-third", "status", dump(DeviceStatus("ready", "1")), False, NOW_S + 12)
    with page_of(watch, port):
        page.wait_for("document.querySelectorAll('.who').length === 3")
        page.wait_for("document.getElementById('live').classList.contains('on')")
        assert page.value("window.mark") == 1
        page.close()


@pytest.mark.check
def test_it_can_be_used_without_a_mouse(browser):
    with page_of(FakeWatch(crowd())) as served:
        page = browser.open(served.url)
        page.wait_for("document.querySelectorAll('.who').length === 31")
        reached = []
        for _ in range(11):                                 # ten columns, then the first device
            page.press("Tab")
            reached.append(page.value("document.activeElement.textContent"))
        assert reached[0] == "Device" and reached[-1] == "cam-07"     # the lost one is first
        page.press("Enter")
        page.wait_for("document.activeElement.getAttribute('aria-expanded') === 'true'")
        page.wait_for("document.querySelectorAll('figure svg').length === 3")
        page.value("document.querySelector('[data-key=device] button').focus()")
        page.press("Enter")
        assert page.value("document.querySelector('.who').textContent") == "cam-00"
        assert page.value("document.querySelector('[aria-sort]').dataset.key") == "device"
        page.press("Enter")
        assert page.value("document.querySelector('.who').textContent") == "never-reported"
        # The order has changed; where the reader was has not.
        assert page.value("document.activeElement.textContent") == "Device"
        page.close()


@pytest.mark.check
def test_a_real_worker_shows_what_it_does(browser, tmp_path):
    from split_lab.split import split_model
    from tests.support import tiny_models

    (tmp_path / "camera.tflite").write_bytes(tiny_models.camera_model())
    bundle = tmp_path / "camera.split.tflite"
    bundle.write_bytes(split_model(tmp_path / "camera.tflite", cuts="all"))
    with Rig(tmp_path) as rig, observed_worker(tmp_path, rig.url) as (_, served), \
            observed_device(bundle, rig.url) as device:
        page = browser.open(served.url, width=400)
        page.wait_for("document.querySelector('.who')?.textContent === 'device-1'")
        with device.feeding(rate_hz=20):
            page.wait_for("parseFloat(document.getElementById('fps').textContent) > 10")
            rig.observer.publish(rig.topics.device_up("device-1", "health"), dump(
                fleets.health(fps=19.5, model="camera")))
            page.wait_for("document.querySelector('.k-fps').textContent === '20'")
        page.wait_for("document.getElementById('state').textContent === 'ready'")
        assert page.value("document.getElementById('modelnames').textContent") == "camera"
        assert page.value(NO_OVERFLOW) and page.complaints == []
        page.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
        page.close()
