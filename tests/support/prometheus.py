"""Debian's Prometheus with the settings that integrations/ has, on a free port; and Grafana's part:
what it puts in place of a dashboard's variables before it asks.

Grafana itself is not in Debian. What is tested is what it would ask, not what it would draw.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.brokers import free_port
from tests.support.rig import wait_until

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "integrations/prometheus"
DASHBOARD = ROOT / "integrations/grafana/dashboard.json"
# In place of 15 s, which would only be waited for.
SCRAPE_S = 1
# Its database is made at the first start; a busy machine with two cores took 3 s.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


def need() -> None:
    """Skip where Prometheus or its tool is not installed."""
    for tool in ("prometheus", "promtool"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here (Debian: apt install prometheus)")


def promtool(*arguments: str | Path, given: bytes = b"") -> tuple[int, str]:
    """Its exit code and all that it says."""
    done = subprocess.run(["promtool", *map(str, arguments)], input=given, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.decode()


@dataclass(frozen=True)
class Series:
    """One that came back: its labels, and its newest value."""

    labels: dict[str, str]
    value: float


class Refused(AssertionError):
    """Prometheus does not take the query."""


class Prometheus:
    """A process with the published settings; only targets and interval are others."""

    def __init__(self, directory: Path, targets: dict[str, list[str]]):
        self._folder = directory / "prometheus"
        self._folder.mkdir()
        self.config = self._folder / "prometheus.yml"
        self.config.write_text(_config(targets))
        shutil.copy(SETTINGS / "alerts.yml", self._folder)
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._command = ["prometheus", f"--config.file={self.config}",
                         f"--storage.tsdb.path={self._folder / 'data'}",
                         f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Prometheus:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            wait_until(self._is_ready, START_TIMEOUT_S, "Prometheus ready")
        except AssertionError as e:
            self.__exit__()
            raise AssertionError(f"{e}\n{(self._folder / 'log').read_text()}") from None
        return self

    def __exit__(self, *_exc) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"Prometheus ended with {self._process.returncode}")
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, path: str, **arguments: str | float):
        """What the API has under ``path``. Raises Refused with what it says of the query."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as e:
            with e:
                raise Refused(f"{arguments}: {json.load(e).get('error')}") from None

    def now(self, expression: str) -> list[Series]:
        """A query at this moment."""
        return [Series(s["metric"], float(s["value"][1]))
                for s in self.ask("query", query=expression)["result"]]

    def recently(self, expression: str) -> list[Series]:
        """As a graph asks: over the last while, a point every scrape. The newest of each series,
        where that is of now."""
        now_s = float(self.ask("query", query="time()")["result"][1])
        found = self.ask("query_range", query=expression, start=now_s - 20 * SCRAPE_S, end=now_s,
                         step=SCRAPE_S)["result"]
        return [Series(s["metric"], float(s["values"][-1][1])) for s in found
                if s["values"][-1][0] >= now_s - SCRAPE_S]

    def values_of(self, definition: str) -> list[str]:
        """What a variable `label_values(METRIC, LABEL)` of a dashboard can be."""
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition).groups()
        return self.ask(f"label/{label}/values", **{"match[]": metric})


def _config(targets: dict[str, list[str]]) -> str:
    text = (SETTINGS / "prometheus.yml").read_text("utf-8")
    assert "\nglobal:" not in text
    text, intervals = re.subn(r"scrape_interval: \d+s", f"scrape_interval: {SCRAPE_S}s", text)
    assert intervals == len(targets)
    for job, addresses in targets.items():
        text, jobs = re.subn(rf"(job_name: {job}\b.*?targets: )\[[^]]*\]",
                             lambda found: found[1] + json.dumps(addresses), text, flags=re.S)
        assert jobs == 1, f"no job {job}"
    return f"global:\n  evaluation_interval: {SCRAPE_S}s\n{text}"


@dataclass(frozen=True)
class Query:
    """One of a dashboard's, with the panel that asks it."""

    panel: str
    unit: str
    expression: str
    legend: str
    instant: bool


def queries() -> list[Query]:
    """All of the dashboard's."""
    return [Query(panel["title"], panel["fieldConfig"]["defaults"]["unit"], target["expr"],
                  target["legendFormat"], target.get("instant", False))
            for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]
            for target in panel.get("targets", [])]


def variables() -> dict[str, str]:
    """The dashboard's own, with what Grafana asks for their values."""
    board = json.loads(DASHBOARD.read_text("utf-8"))
    return {v["name"]: v["definition"] for v in board["templating"]["list"]
            if v["type"] == "query"}


def with_values(expression: str, chosen: dict[str, list[str]]) -> str:
    """The query as Grafana sends it with all values of each variable chosen."""
    # At least four scrapes, so that a rate has something to go by when one is missed.
    expression = expression.replace("$__rate_interval", f"{4 * SCRAPE_S}s")
    for name, values in chosen.items():
        # A backslash for the regular expression, and one for the string that holds it.
        escaped = [re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", v.replace("\\", r"\\\\"))
                   for v in values]
        expression = expression.replace(
            f"${name}", escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})")
    assert "$" not in expression, expression
    return expression
