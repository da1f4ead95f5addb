"""What a real Prometheus makes of two workers and two agents, each a process of its own: whatever
the dashboard asks is answered with numbers, and the alerts are silent until something is wrong.
"""

from __future__ import annotations

import contextlib
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.support import prometheus
from tests.support.brokers import free_port
from tests.support.observed import fetch
from tests.support.prometheus import Prometheus, Query, Series, promtool, with_values
from tests.support.rig import Rig, wait_until

pytestmark = pytest.mark.check
ROOT = Path(__file__).resolve().parents[2]
ALERTS = prometheus.SETTINGS / "alerts.yml"
CASES = prometheus.SETTINGS / "alerts_test.yml"
FRAMES = 40
# A healthy system settles within a few scrapes; the rest is for a machine with other things to do.
SOON_S = 90.0
# The first has a fixed plan, so that its frames go to a worker on any machine; the second plans for
# itself, which is what sensors are read for. The point in its name is one to a regular expression.
FIXED, PLANNING = "pi-gate", "pi.door"
# Panels that may be empty while all is well, and why. None: the scene has a battery and a
# thermometer, and what counts begins at zero.
MAY_BE_EMPTY: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    prometheus.need()


class Daemon:
    """One of the two programs as `run` starts it, and where its metrics are."""

    def __init__(self, package: str, config: Path, text: str):
        self.target = f"127.0.0.1:{free_port()}"
        config.write_text(text.replace("@TARGET@", self.target))
        with config.with_suffix(".log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{package}.cli", "run", "-c", str(config)], cwd=ROOT,
                stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def metrics(self) -> str:
        status, text = fetch(f"http://{self.target}/metrics")
        assert status == 200, text
        return text


@dataclass(frozen=True)
class Scene:
    prometheus: Prometheus
    daemons: dict[str, Daemon]
    chosen: dict[str, list[str]]             # the dashboard's variables


@pytest.fixture(scope="module")
def scene(camera, tmp_path_factory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("monitored")
    (folder / "pictures").mkdir()
    Image.new("RGB", (64, 64), "teal").save(folder / "pictures/one.png")
    board = folder / "board/sys/class/thermal/thermal_zone0"
    board.mkdir(parents=True)
    (board / "type").write_text("cpu-thermal\n")
    (board / "temp").write_text("51000\n")
    (folder / "battery.json").write_text('{"battery_percent": 80}')
    with Rig(folder) as rig, contextlib.ExitStack() as stack:
        daemons = {}

        def start(name: str, package: str, text: str) -> None:
            daemons[name] = Daemon(package, folder / f"{name}.toml", (
                f'id = "{name}"\nstate_dir = "{folder}/state-{name}"\n'
                f'[broker]\nurl = "{rig.url}"\n{text}'))
            stack.callback(daemons[name].stop)

        for name in ("w1", "w2"):
            start(name, "cloud_side",
                  f'[store]\npath = "{folder}/store-{name}"\n[status]\nlisten = "@TARGET@"\n')
        device = (f'[model]\nbundle = "{camera.bundle}"\n[metrics]\nlisten = "@TARGET@"\n'
                  f'[source]\nkind = "folder"\npath = "{folder}/pictures"\nloop = true\n'
                  '[frame]\nmax_fps = 10.0\ndeadline_ms = 5000.0\n[health]\nevery_s = 1.0\n')
        start(FIXED, "edge_agent", device + '[plan]\ncut = 1\nrung = "q8"\nworker = "w1"\n')
        start(PLANNING, "edge_agent", device + (
            f'[sensors]\nroot = "{folder}/board"\nbattery = "file"\n'
            f'path = "{folder}/battery.json"\nmax_age_s = 3600.0\n'))
        targets = {"cloud-worker": ["w1", "w2"], "edge-agent": [FIXED, PLANNING]}
        watch = stack.enter_context(Prometheus(folder, {
            job: [daemons[n].target for n in names] for job, names in targets.items()}))

        def count(query: str) -> float:
            found = watch.now(query)
            return found[0].value if found else 0.0

        wait_until(lambda: count('sum(split_worker_frames_total{outcome="answered"})') >= FRAMES,
                   SOON_S, f"{FRAMES} frames answered by a worker, as Prometheus has it")
        wait_until(lambda: count("sum(split_device_link_up)") == 4.0, SOON_S,
                   "both devices' reports at both workers")
        yield Scene(watch, daemons, {
            name: watch.values_of(definition)
            for name, definition in prometheus.variables().items()})


def test_the_variables_have_the_values_that_there_are(scene):
    assert scene.chosen == {"worker_job": ["cloud-worker"], "agent_job": ["edge-agent"],
                            "device": [FIXED, PLANNING]}


@pytest.mark.parametrize("query", prometheus.queries(), ids=lambda q: f"{q.panel}: {q.legend}")
def test_whatever_the_dashboard_asks_is_answered_with_numbers(scene, query):
    expression = with_values(query.expression, scene.chosen)
    ask = scene.prometheus.now if query.instant else scene.prometheus.recently
    found: list[Series] = []

    def answered() -> bool:
        # One scrape that comes late leaves a gap, which is no fault of the query.
        found[:] = ask(expression)
        return (bool(found) or query.panel in MAY_BE_EMPTY) and all(
            math.isfinite(s.value) for s in found)

    with contextlib.suppress(AssertionError):
        wait_until(answered, SOON_S, query.panel)
    assert answered(), f"{expression}: {found}"
    for label in re.findall(r"\{\{(\w+)\}\}", query.legend):
        assert all(label in s.labels for s in found), f"no {label} in {found}"
    names = [legend(query, s) for s in found]
    assert len(set(names)) == len(names) or query.instant, f"lines that look the same: {names}"
    if query.unit == "percentunit":
        assert all(0 <= s.value <= 1.05 for s in found), found
    else:
        assert all(s.value >= 0 for s in found), found


def legend(query: Query, series: Series) -> str:
    """What Grafana writes beside a line."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: series.labels[m[1]], query.legend)


def test_two_workers_count_a_device_once(scene):
    """Each of them knows the whole fleet. In the table a row would be there twice, in the sum all
    frames."""
    asked = {q.panel: with_values(q.expression, scene.chosen) for q in prometheus.queries()}
    rows: list[Series] = []

    def once() -> bool:
        # A plan that changed is two rows until both have the report.
        rows[:] = scene.prometheus.now(asked["Devices"])
        return sorted(s.labels["device"] for s in rows) == [FIXED, PLANNING]

    wait_until(once, SOON_S, "two devices, two rows")
    # One that finishes all frames itself has no worker, and so no such label.
    assert all(s.labels.keys() | {"worker"} == {"device", "state", "model", "rung", "worker"}
               for s in rows)
    # The frames themselves in place of their rate. One worker may have a report, of ten frames, a
    # moment before the other: less and less of all there have been.
    both = re.sub(r"rate\((.*?)\[4s\]\)", r"\1", asked["How frames ended"])
    one = f'sum(split_device_frames_total{{instance="{scene.daemons["w1"].target}"}})'

    def share() -> float:
        return scene.prometheus.now(f"sum({both}) / {one}")[0].value

    wait_until(lambda: 0.9 < share() < 1.1, SOON_S, f"{both} no more than {one}")


def test_the_stages_are_the_time_of_an_answer(scene):
    """The panel draws them one above the other: their sum has to be what an answer took."""
    (stages,) = [q.expression for q in prometheus.queries() if q.panel == "Stages of a frame, mean"]
    job = '{job="edge-agent"}'
    whole = (f"sum(rate(split_agent_answer_seconds_sum{job}[4s]))"
             f" / sum(rate(split_agent_answer_seconds_count{job}[4s]))")
    share = f"sum({with_values(stages, scene.chosen)}) / ({whole})"
    wait_until(lambda: len(scene.prometheus.now(share)) == 1, SOON_S, share)
    (found,) = scene.prometheus.now(share)
    # Between two stages threads wake each other, which is of no stage: 10 % of 5 ms here. A scrape
    # may come between the parts of a frame.
    assert 0.5 < found.value < 1.1


def test_promtool_has_nothing_to_say_about_the_metrics(scene):
    for name, daemon in scene.daemons.items():
        assert promtool("check", "metrics", given=daemon.metrics().encode()) == (0, ""), name


def test_the_configuration_is_valid(scene):
    for config in (scene.prometheus.config, prometheus.SETTINGS / "prometheus.yml"):
        code, said = promtool("check", "config", config)
        assert code == 0 and f"SUCCESS: {len(alerts())} rules found" in said, said


def test_no_alert_while_all_is_well_and_one_for_what_is_wrong(scene):
    """The last test: two of the four are killed here."""
    watch = scene.prometheus

    def rules() -> list[dict]:
        return [rule for group in watch.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: {r["health"] for r in rules()} == {"ok"}, SOON_S, "every rule evaluated")
    assert {r["name"] for r in rules()} == set(alerts())
    assert watch.ask("alerts")["alerts"] == []

    def pending(name: str, label: str) -> Callable[[], bool]:
        return lambda: [a["labels"].get(label) for a in watch.ask("alerts")["alerts"]
                        if a["labels"]["alertname"] == name] == [wanted]

    scene.daemons["w2"].kill()
    wanted = scene.daemons["w2"].target
    wait_until(pending("WorkerGone", "instance"), SOON_S, "an alert for the worker")
    scene.daemons[PLANNING].kill()
    wanted = PLANNING
    wait_until(pending("DeviceGone", "device"), SOON_S, "an alert for the device")


# -- the rules, with series that are made up


def alerts() -> dict[str, str]:
    """Their expressions by their names."""
    text = ALERTS.read_text("utf-8")
    found = dict(re.findall(r"- alert: (\w+)\n +expr: (.+)\n", text))
    assert len(found) == text.count("- alert:")
    return found


def test_the_alerts_do_what_their_cases_say():
    assert promtool("check", "rules", ALERTS)[0] == 0
    code, said = promtool("test", "rules", CASES)
    assert code == 0 and "SUCCESS" in said, said


@pytest.mark.parametrize("name", alerts())
@pytest.mark.parametrize("expression", ["vector(1) < 0", "vector(1)"], ids=["never", "always"])
def test_the_cases_would_notice(tmp_path, name, expression):
    """An alert that never fires, and one that always does."""
    text = ALERTS.read_text("utf-8")
    changed = text.replace(f"expr: {alerts()[name]}\n", f"expr: {expression}\n")
    assert changed != text
    (tmp_path / ALERTS.name).write_text(changed)
    (tmp_path / CASES.name).write_text(CASES.read_text("utf-8"))
    code, said = promtool("test", "rules", tmp_path / CASES.name)
    assert code != 0 and f"alertname: {name}" in said, said
