"""What the agent would do: worked out by hand for a model of six segments of 50 ms."""

from __future__ import annotations

import builtins
import json
import math
import random
import socket
import time

import numpy as np
import pytest

from edge_agent.belief.beliefs import MESSAGE_BYTES
from edge_agent.belief.transfers import Scenario
from edge_agent.cli import main as edge_agent
from edge_agent.planner.candidates import Option, candidates_of
from edge_agent.planner.decide import allowed_candidates, decide
from edge_agent.planner.listing import forbidden_by, list_candidates
from edge_agent.planner.predict import predict
from edge_agent.planner.state import Battery, Coding, DeviceState, Energy, WorkerState
from edge_agent.policies.base import View
from edge_agent.policies.config import CostConfig, PolicyConfig, rules_of
from split_core.cost.profile import dump
from tests.edge_agent.decision_journals import make_bundle, profile_of

# The input is 8 x 8 x 3 values of float32, and an uncalibrated JPEG is guessed at a quarter.
RAW_BYTES = 768
JPEG_MESSAGE = RAW_BYTES / 4 + MESSAGE_BYTES
FAST = ("--uplink", "100Mbit", "--rtt", "10ms", "--worker-time", "6ms")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whatif")
    bundle = make_bundle(folder)
    (folder / "profile.json").write_bytes(dump(profile_of(bundle)))
    return folder


@pytest.fixture
def plan(folder, capfd):
    """The command's words, and its report."""
    def ask(*arguments: str) -> dict:
        assert edge_agent(["plan", str(folder / "skip.split.tflite"), "--profile",
                           str(folder / "profile.json"), "--json", *arguments]) == 0
        return json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    return ask


@pytest.fixture
def said(folder, capfd):
    def ask(*arguments: str) -> str:
        assert edge_agent(["plan", str(folder / "skip.split.tflite"), "--profile",
                           str(folder / "profile.json"), *arguments]) == 0
        return capfd.readouterr().out
    return ask


def test_on_a_slow_link_everything_runs_here(plan):
    # The smallest message is over 170 bytes, 1.4 s at 1 kbit/s; the model takes 0.3 s.
    chosen = plan("--uplink", "1kbit", "--rtt", "60ms")["decision"]["chosen"]
    assert (chosen["what"], chosen["worker"], chosen["race"]) == ("all local", None, False)
    assert chosen["costs"]["mean_ms"] == pytest.approx(300)
    assert chosen["costs"]["bytes"] == 0 and chosen["costs"]["kl"] == 0
    # 1.2 joules a second of computing
    assert chosen["costs"]["energy_j"] == pytest.approx(0.36)


def test_on_a_fast_link_the_worker_has_all_of_it(plan):
    report = plan(*FAST)
    chosen = report["decision"]["chosen"]
    assert (chosen["cut"], chosen["worker"], chosen["race"]) == (0, "worker", True)
    # One transfer in fifty meets an outage, and then the device, which raced, is first.
    remote_ms = 10 + 6 + 1e3 * 8 * JPEG_MESSAGE / 100e6
    assert chosen["costs"]["mean_ms"] == pytest.approx(0.98 * remote_ms + 0.02 * 300)
    assert chosen["costs"]["bytes"] == JPEG_MESSAGE
    waits = next(c for c in report["candidates"]
                 if c["what"] == chosen["what"].removesuffix(", raced"))
    # ... else only at the deadline, which is 1 s.
    assert waits["costs"]["mean_ms"] == pytest.approx(0.98 * remote_ms + 0.02 * 1000)
    assert waits["device_ms"] == pytest.approx(0.02 * 300)


def test_equally_likely_rates(plan):
    state = plan("--uplink", "1Mbit,4Mbit", "--uplink", "2Mbit")["state"]
    assert [s["weight"] for s in state["scenarios"]] == pytest.approx(
        [0.98 / 3] * 3 + [0.02])
    assert [s["s_per_byte"] for s in state["scenarios"]] == [2e-6, 4e-6, 8e-6, 0.01]


@pytest.mark.parametrize("arguments, seconds", [
    (("--device-time", "600ms"), 0.6), (("--device-time", "0.6s"), 0.6),
    (("--device-time", "600"), 0.6), ((), 0.3)])
def test_the_time_of_the_whole_model_scales_the_profile(plan, arguments, seconds):
    state = plan(*arguments)["state"]
    assert state["segment_s"] == pytest.approx([seconds / 6] * 6)
    # The worker is as this machine, whatever the device.
    assert state["workers"][0]["service_s"] == pytest.approx(
        [0.3, 0.25, 0.2, 0.15, 0.1, 0.05, 0.0], abs=1e-12)


def test_workers_by_name_with_their_own_times(plan):
    workers = plan("--workers", "left,right", "--worker-time", "30ms,60ms", "--queue", "5ms")[
        "state"]["workers"]
    assert [(w["worker"], w["queue_s"], round(w["service_s"][0], 9)) for w in workers] == [
        ("left", 0.005, 0.03), ("right", 0.005, 0.06)]


def test_privacy_refuses(plan):
    report = plan(*FAST, "--min-cut", "2")
    assert report["decision"]["chosen"]["cut"] >= 2
    assert report["decision"]["limits"] == ["privacy: no cut before op 2"]
    by = {c["forbidden_by"] for c in report["candidates"] if c["cut"] < 2}
    assert by == {"privacy"}
    report = plan(*FAST, "--trusted", "nobody-here")
    assert report["decision"]["chosen"]["what"] == "all local"
    assert [c["what"] for c in report["candidates"] if c["allowed"]] == ["all local"]


def test_a_small_battery_takes_the_least_hungry(plan):
    # 1 Wh less 3 % for an hour is 0.97 W, and the board alone draws 2.7.
    report = plan(*FAST, "--battery", "0.1", "--capacity", "10Wh", "--until", "1", "--fps", "4")
    least = min(report["candidates"], key=lambda c: c["costs"]["energy_j"])
    assert report["decision"]["chosen"]["what"] == least["what"]
    # A fallback in fifty, and a microjoule a byte
    assert least["costs"]["energy_j"] == pytest.approx(
        1.2 * 0.02 * 0.3 + 1e-6 * JPEG_MESSAGE)
    assert "which nothing keeps" in report["decision"]["limits"][0]
    # 3 Wh allow 2.91 W: not 2.7 + 4 x 0.36 for computing all of it here
    report = plan(*FAST, "--battery", "3Wh", "--until", "60min", "--fps", "4")
    local = next(c for c in report["candidates"] if c["worker"] is None)
    assert local["forbidden_by"] == "energy" and report["decision"]["chosen"]["race"]
    assert plan(*FAST, "--battery", "0.1", "--capacity", "10", "--until", "1", "--mains")[
        "decision"]["limits"] == []


def test_data_temperature_and_no_link(plan):
    report = plan(*FAST, "--mb-left", "0.9", "--hours-left", "1", "--fps", "1")
    # 250 bytes a frame: less than any picture's message
    assert report["decision"]["limits"][0].startswith("bytes: 250 bytes a frame")
    assert report["decision"]["chosen"]["costs"]["bytes"] <= 250
    # At 79 of 70 to 80 degrees a tenth of the time; all local takes 0.3 at one frame a second.
    report = plan(*FAST, "--temperature", "79")
    local = next(c for c in report["candidates"] if c["worker"] is None)
    assert local["forbidden_by"] == "thermal"
    assert plan("--link-down")["decision"]["limits"] == ["link: down"]
    assert plan("--workers", "0")["decision"]["limits"] == ["workers: none that holds the bundle"]


def test_a_configuration_says_what_is_not_asked(plan, folder):
    config = folder / "agent.toml"
    config.write_text('[model]\nbundle = "elsewhere"\n[policy]\naim = "deadline"\nmin_cut = 3\n'
                      '[frame]\ndeadline_ms = 700\nmax_fps = 5\n[energy]\nj_per_byte = 1e-3\n')
    report = plan("-c", str(config), *FAST)
    assert report["decision"]["aim"] == "deadline" and report["state"]["frame_rate"] == 5
    assert report["state"]["deadline_s"] == pytest.approx(0.7)
    assert report["state"]["energy"]["j_per_byte"] == 1e-3
    assert report["decision"]["limits"] == ["privacy: no cut before op 3"]
    again = plan("-c", str(config), "--aim", "latency", "--min-cut", "0", "--deadline-ms", "900",
                 *FAST)
    assert again["decision"]["aim"] == "latency" and again["state"]["deadline_s"] == 0.9


def test_the_report_is_complete_and_finite(plan):
    report = plan(*FAST, "--min-cut", "2")
    assert set(report) == {"decision", "candidates", "state"}
    assert set(report["decision"]) == {"switched", "reason", "chosen", "runner_up", "aim",
                                       "limits", "current"}
    for candidate in report["candidates"]:
        assert set(candidate) == {"what", "cut", "rung", "worker", "race", "allowed",
                                  "forbidden_by", "score", "device_ms", "costs"}
        assert set(candidate["costs"]) == {"mean_ms", "p95_ms", "on_time_ratio", "energy_j",
                                           "bytes", "money", "kl"}
        assert candidate["allowed"] == (candidate["forbidden_by"] is None)
        assert math.isfinite(candidate["score"]) and candidate["device_ms"] >= 0
    best = min((c for c in report["candidates"] if c["allowed"]), key=lambda c: c["score"])
    chosen = report["decision"]["chosen"]
    assert (best["what"], best["score"], best["costs"]) == (
        chosen["what"], chosen["score"], chosen["costs"])


def test_for_people(said):
    text = said(*FAST, "--min-cut", "2", "--battery", "0.3", "--explain")
    lines = text.splitlines()
    assert lines[0].startswith("cut 2 ") and all(len(line) <= 100 for line in lines)
    for words in ("predicted", "because", "runner-up", "all local", "no cut before op 2",
                  "--until", "made-up, profile of 2026-01-01", "uplink 100 Mbit/s"):
        assert words in text
    at = next(i for i, line in enumerate(lines) if line.split()[:1] == ["candidate"])
    rows = lines[at + 1:lines.index("", at)]
    assert len(rows) == 23              # eleven ways to send, waited for or raced; all local
    assert sum(row.startswith("->") for row in rows) == sum(row[:2] == " 2" for row in rows) == 1
    assert all(row.endswith("privacy") == row.startswith(" x") for row in rows)
    score = lines[at].index("score")
    scores = [float(row[:score + 5].split()[-1]) for row in rows]
    assert scores == sorted(scores)


def test_a_picture_of_it(said, folder):
    pytest.importorskip("matplotlib")
    said(*FAST, "--plot", str(folder / "plan.png"))
    assert (folder / "plan.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments, words", [
    (["--uplink", "fast"], "rate: found 'fast'"), (["--uplink", "0"], "over zero"),
    (["--rtt", "-1"], "--rtt"), (["--rtt", "1 week"], "--rtt: found '1 week'"),
    (["--device-time", "0"], "--device-time 0: wanted more than 0"),
    (["--fps", "nan"], "--fps nan"), (["--kl", "nan"], "policy.kl is nan"),
    (["--battery", "40"], "--battery 40"), (["--capacity", "much"], "--capacity much"),
    (["--workers", "a,a"], "each name once"), (["--workers", "a/b"], "a/b"),
    (["--workers", "a,b", "--queue", "1,2,3"], "3 times for 2 workers"),
    (["--hours-left", "1"], "--mb-left"), (["--temperature", "nan"], "--temperature"),
])
def test_what_cannot_be_is_refused(folder, capfd, arguments, words):
    assert edge_agent(["plan", str(folder / "skip.split.tflite"), *arguments]) == 64
    out, error = capfd.readouterr()
    assert not out and words in error and "Traceback" not in error


def test_a_profile_of_another_bundle_is_refused(folder, capfd):
    other = folder / "other.json"
    text = json.loads((folder / "profile.json").read_bytes()) | {"bundle": "f" * 64}
    other.write_text(json.dumps(text))
    bundle = str(folder / "skip.split.tflite")
    assert edge_agent(["plan", bundle, "--profile", str(other)]) == 64
    assert "profile of bundle ffffffffffffffff" in capfd.readouterr().err
    assert edge_agent(["plan", bundle, "--profile", str(folder / "none.json")]) == 66


def test_without_a_profile_one_is_measured_and_kept(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    for _ in range(2):
        assert edge_agent(["plan", str(folder / "skip.split.tflite")]) == 0
    assert "segment times: this machine" in capfd.readouterr().out
    assert len(list((tmp_path / "profiles").iterdir())) == 1


# -- the pure call


def many(workers: int = 4, cuts: int = 25) -> tuple[DeviceState, tuple[Option, ...]]:
    """State and options of 2 x workers x cuts candidates and one more."""
    rng = np.random.default_rng(3)
    options = (*(Option(k, k, "kl0.02", "kl0.05", 0.02, 0.05) for k in range(cuts)),
               Option(cuts, cuts, "raw", None, 0.0, 0.0))
    codings = (*(Coding(float(n), 0.7 * float(n), 0.002)
                 for n in rng.uniform(1e3, 3e4, cuts)), Coding(0.0, 0.0, 0.0))
    times = tuple(float(s) for s in rng.uniform(0.01, 0.04, cuts))
    return DeviceState(
        7.0, 1.0, 2.0, times, times, codings, True, 0.05,
        (Scenario(4e-6, 0.5), Scenario(1e-5, 0.48), Scenario(0.01, 0.02)), 0, 0.0, 0.0,
        tuple(WorkerState(f"w{i}", 0.01 * i, (0.02,) * (cuts + 1)) for i in range(workers)),
        Energy(1.2, 1e-6, 2.7), Battery(5.0), 8 * 3600.0, 1e7, 3600.0, 74.0), options


def test_two_hundred_candidates_are_decided_without_touching_anything(monkeypatch):
    state, options = many()
    candidates, rules = candidates_of(options, tuple(w.worker for w in state.workers)), rules_of(
        PolicyConfig(min_cut=3), CostConfig())
    assert len(candidates) == 201

    def refuse(*_, **__):
        raise AssertionError("a pure call")

    with monkeypatch.context() as patched:
        for owner, name in ((builtins, "open"), (builtins, "print"), (socket, "socket"),
                            (time, "time"), (time, "monotonic"), (time, "perf_counter"),
                            (random, "random")):
            patched.setattr(owner, name, refuse)
        first = decide(state, candidates, None, rules)
        again = decide(state, candidates, None, rules)
        listed = list_candidates(state, candidates, rules)
    assert first.to_json() == again.to_json() and len(listed) == 201


def test_the_listing_forbids_what_the_decision_may_not_choose():
    state, options = many()
    candidates = candidates_of(options, tuple(w.worker for w in state.workers))
    rules = rules_of(PolicyConfig(min_cut=3, trusted_workers=("w0", "w2")), CostConfig())
    view = View(state, candidates, predict(state, candidates, rules.prices))
    allowed, said = allowed_candidates(view, rules.limits)
    by = forbidden_by(view, rules)
    assert [b is None for b in by] == allowed.tolist()
    assert {b for b in by if b} <= {name for name, _ in said} and "privacy" in by
