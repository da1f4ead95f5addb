"""`edge-agent field-test` in virtual time: what it writes, and what it says when it cannot.

The board is made up: six segments of 50 ms, so that all-local takes 300 ms exactly.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from edge_agent.cli import main
from split_core.cost.machine import machine_id
from split_core.cost.profile import Profile, Timing, dump
from split_core.cost.store import ProfileStore
from split_core.model.bundle import Bundle, open_bundle
from split_core.model.runner import resolve_runtime
from split_lab.field import command
from split_lab.field.arguments import ARMS
from split_lab.field.trial import read_battery
from split_lab.split import split_model
from tests.edge_agent.decision_journals import SEGMENT_S, make_bundle
from tests.support import tiny_models

FIGURES = {"frames", "mean_ms", "p50_ms", "p95_ms", "deadline_met_ratio", "bytes_per_frame",
           "energy_j_per_frame", "outcomes", "switches"}
OUTCOMES = {"remote", "local", "fallback", "dropped", "failed"}
LINK = "synthetic:3,1Mbit"
ROOT = Path(__file__).resolve().parents[2]


def keep_profile(bundle: Bundle, state: Path, segment_s: float = SEGMENT_S) -> None:
    """What this machine is believed to take."""
    segments = tuple(Timing(segment_s, 0.0) for _ in bundle.manifest.segments)
    ProfileStore(state).save(Profile(
        bundle.id_hex, machine_id(), resolve_runtime(None), 1, segments, (),
        segment_s * len(segments), "2026-01-01T00:00:00+00:00"))


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, state) -> Bundle:
    made = make_bundle(tmp_path_factory.mktemp("field"))
    keep_profile(made, state)
    return made


@pytest.fixture(autouse=True)
def state_of_a_service(state, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(state))


def field_test(bundle: Bundle | Path, output: Path, *arguments: str) -> dict:
    """The summary of a run that went well."""
    path = getattr(bundle, "path", bundle)
    assert main(["field-test", "--virtual", "--bundle", str(path), "-o", str(output),
                 *arguments]) == 0
    return json.loads((output / "summary.json").read_text())


def rows_of(output: Path, arm: str, name: str = "frames.csv") -> list[dict[str, str]]:
    with (output / name).open(newline="") as file:
        return [r for r in csv.DictReader(file) if r.get("arm", arm) == arm]


@pytest.fixture(scope="module")
def ran(bundle, state, tmp_path_factory):
    """One run of all arms: its folder and its summary."""
    folder = tmp_path_factory.mktemp("ran") / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(state))
        return folder, field_test(bundle, folder, "--link", LINK, "--duration", "60s")


# -- what is written


def test_the_summary_has_its_schema_and_all_arms(ran):
    _, summary = ran
    assert set(summary) == {"arms", "settings"}
    assert set(summary["arms"]) == set(ARMS) and len(ARMS) == 7
    for name, arm in summary["arms"].items():
        assert set(arm) == FIGURES, name
        assert set(arm["outcomes"]) == OUTCOMES and sum(arm["outcomes"].values()) == 60
        assert arm["frames"] == 60
        for key in FIGURES - {"outcomes"}:
            assert math.isfinite(arm[key]), (name, key)
        assert 0 <= arm["deadline_met_ratio"] <= 1
        assert 0 < arm["p50_ms"] <= arm["p95_ms"]
    settings = summary["settings"]
    assert (settings["link"], settings["rtt_ms"], settings["deadline_ms"]) == (LINK, 50.0, 1000.0)
    assert (settings["virtual"], settings["period_s"], settings["seed"]) == (True, 1.0, 1)
    assert settings["device_ms"] == pytest.approx(300.0)


def test_every_arm_has_each_frame_once_in_the_tables_too(ran):
    folder, summary = ran
    assert {p.name for p in folder.iterdir()} == {
        "report.html", "summary.json", "frames.csv", "decisions.csv", "link.csv"}
    for arm in ARMS:
        rows = rows_of(folder, arm)
        assert sorted(int(r["index"]) for r in rows) == list(range(60))
        mean_ms = sum(float(r["total_ms"]) for r in rows) / 60
        assert summary["arms"][arm]["mean_ms"] == pytest.approx(mean_ms, rel=1e-6)
    assert sum(r["switched"] == "true" for r in rows_of(folder, "", "decisions.csv")) == (
        summary["arms"]["adaptive"]["switches"])


def test_arms_are_what_their_names_say(ran):
    folder, summary = ran
    arms = summary["arms"]
    assert arms["local"]["mean_ms"] == pytest.approx(300.0)
    assert arms["local"]["bytes_per_frame"] == 0
    assert {r["cut"] for r in rows_of(folder, "local")} == {"6"}
    assert {(r["cut"], r["rung"]) for r in rows_of(folder, "raw")} == {("0", "raw")}
    assert {r["rung"] for r in rows_of(folder, "jpeg")} == {"jpeg90"}
    assert len({(r["cut"], r["rung"]) for r in rows_of(folder, "static")}) == 1
    assert "0" not in {r["cut"] for r in rows_of(folder, "peer")}
    assert arms["local"]["switches"] == arms["raw"]["switches"] == 0
    assert arms["adaptive"]["switches"] >= 1, "from all-local, once it has looked"


@pytest.mark.parametrize("link", [LINK, "step:2Mbit@7,0.02Mbit@7", "0.05Mbit"])
def test_the_oracle_is_never_slower_than_the_best_static_choice(bundle, tmp_path, link):
    arms = field_test(bundle, tmp_path, "--link", link, "--duration", "40s", "--arms",
                      "oracle,static,local,raw")["arms"]
    for arm in ("static", "local", "raw"):
        assert arms["oracle"]["mean_ms"] <= arms[arm]["mean_ms"] + 1e-6, arm
    assert arms["static"]["mean_ms"] <= arms["local"]["mean_ms"] + 1e-6


def test_the_same_seed_gives_the_same_files(bundle, ran, tmp_path):
    folder, summary = ran
    again = field_test(bundle, tmp_path / "again", "--link", LINK, "--duration", "60s")
    assert again == summary
    for name in ("summary.json", "frames.csv", "decisions.csv", "link.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
    other = field_test(bundle, tmp_path / "other", "--link", LINK, "--duration", "60s",
                       "--seed", "2")
    assert other["arms"]["jpeg"] != summary["arms"]["jpeg"]


def test_a_model_whose_input_is_no_picture_has_no_jpeg(tmp_path, state, capfd):
    model, path = tmp_path / "numbers.tflite", tmp_path / "numbers.split.tflite"
    model.write_bytes(tiny_models.wide_integer_model())
    path.write_bytes(split_model(model, cuts="all"))
    keep_profile(open_bundle(path), state)
    summary = field_test(path, tmp_path / "report", "--link", LINK, "--duration", "10s")
    assert set(summary["arms"]) == set(ARMS) - {"jpeg"}
    assert "note: There is no arm jpeg: the model's input is no picture." in capfd.readouterr().out
    assert "no arm jpeg" in (tmp_path / "report/report.html").read_text()


def test_the_terminal_shows_the_table_and_the_page(bundle, tmp_path, capfd):
    field_test(bundle, tmp_path, "--link", "1Mbit", "--duration", "5s", "--arms", "local,raw")
    *_, local, raw, note, page = capfd.readouterr().out.splitlines()
    assert local.split()[:5] == ["local", "5", "300.0", "300.0", "300.0"]
    assert raw.split()[:2] == ["raw", "5"] and "100.0%" in raw
    assert note.startswith("note: Everything ran in virtual time")
    assert page == str(tmp_path / "report.html")


def test_times_of_a_board_that_is_meant(bundle, tmp_path):
    summary = field_test(bundle, tmp_path, "--link", "1Mbit", "--duration", "10s",
                         "--device-time", "600", "--period", "2s", "--deadline", "2s",
                         "--arms", "local")
    assert summary["arms"]["local"]["mean_ms"] == pytest.approx(600.0)
    assert summary["arms"]["local"]["frames"] == 5
    assert summary["settings"]["stretched"] is True
    assert summary["settings"]["deadline_ms"] == 2000.0


def test_times_of_another_machine(bundle, tmp_path):
    file = tmp_path / "profile.json"
    segments = tuple(Timing(0.1, 0.0) for _ in bundle.manifest.segments)
    file.write_bytes(dump(Profile(bundle.id_hex, "another", "litert", 1, segments, (), 0.6, "")))
    summary = field_test(bundle, tmp_path, "--link", "1Mbit", "--duration", "10s", "--arms",
                         "local", "--profile", str(file))
    assert summary["arms"]["local"]["mean_ms"] == pytest.approx(600.0)
    assert summary["settings"]["machine"] == "another"


def test_outages_and_black_holes_are_on_the_link(bundle, tmp_path):
    field_test(bundle, tmp_path, "--link", "1Mbit", "--duration", "30s", "--arms", "raw",
               "--outage", "5s+5s", "--black-hole", "20s+3s")
    hit = {int(float(r["offered_s"])) for r in rows_of(tmp_path, "raw")
           if r["outcome"] != "remote"}
    # A second or two later the gate is still careful.
    assert {5, 6, 7, 8, 20, 21} <= hit <= {*range(5, 12), *range(20, 25)}


# -- a battery


BATTERY = """
capacity_wh = 0.15
base_w = 0.5
j_per_cpu_s = 10.0
j_per_byte = 1e-6
"""
# All-local takes 3 J of each second, with the base 3.5 W: 1260 J in six minutes, where the
# battery has 540. Sending costs next to nothing, and 100 ms more for a round trip of 400 ms.
SLOW_BUT_FRUGAL = ("--link", "10Mbit", "--rtt", "400ms", "--duration", "6min", "--arms",
                   "adaptive,local")
BASE_J = 0.5 * 360


def drawn_j(summary: dict, arm: str) -> float:
    found = summary["arms"][arm]
    return BASE_J + found["frames"] * found["energy_j_per_frame"]


def test_a_battery_lasts_where_a_plan_can_make_it(bundle, tmp_path):
    battery = tmp_path / "battery.toml"
    battery.write_text(BATTERY)
    free = field_test(bundle, tmp_path / "free", *SLOW_BUT_FRUGAL, "--battery", str(battery))
    assert free["arms"]["local"]["energy_j_per_frame"] == pytest.approx(3.0)
    assert drawn_j(free, "local") == pytest.approx(1260)
    assert drawn_j(free, "adaptive") > 540, "the fastest plan empties it"

    battery.write_text(BATTERY + "hours = 0.1\n")
    kept = field_test(bundle, tmp_path / "kept", *SLOW_BUT_FRUGAL, "--battery", str(battery))
    assert drawn_j(kept, "adaptive") < 540
    assert drawn_j(kept, "local") == pytest.approx(1260), "which is fixed"
    assert kept["arms"]["adaptive"]["deadline_met_ratio"] > 0.98
    reasons = [r["reason"] for r in rows_of(tmp_path / "kept", "", "decisions.csv")]
    assert any(r.startswith("energy: 0.1") for r in reasons), reasons
    # A plan and a look elsewhere, decided in one moment, are two lines.
    assert all(r["switched"] == "false" for r in rows_of(tmp_path / "kept", "", "decisions.csv")
               if r["reason"].startswith("probe"))
    left = [float(r["battery_wh"]) for r in rows_of(tmp_path / "kept", "", "decisions.csv")]
    assert left == sorted(left, reverse=True) and left[-1] > 0


# -- what cannot be run


def complaint(capfd, *arguments: str) -> tuple[int, str]:
    code = main(["field-test", *arguments])
    out, error = capfd.readouterr()
    assert not out and "Traceback" not in error
    return code, error


@pytest.mark.parametrize("arguments, code, words", [
    (["--virtual", "--link", "1Mbit"], 64, ["--config FILE", "--bundle BUNDLE"]),
    (["-c", "x.toml", "--bundle", "{bundle}"], 64, ["--config FILE", "--bundle BUNDLE"]),
    (["-c", "{tmp}/missing.toml", "--virtual", "--link", "1Mbit"], 78, ["missing.toml"]),
    (["-c", "{tmp}/wrong.toml", "--virtual", "--link", "1Mbit"], 78, ["modle"]),
    (["--bundle", "{tmp}/missing.tflite", "--virtual", "--link", "1Mbit"], 65, ["missing.tflite"]),
    (["--bundle", "{tmp}/wrong.toml", "--virtual", "--link", "1Mbit"], 65,
     ["no TFLite model"]),
    (["{}", "--virtual"], 64, ["--virtual needs --link"]),
    (["{}", "--virtual", "--link", "1Mbit", "--arms", "local,fast"], 64,
     ["--arms: found fast", "adaptive, local"]),
    (["{}", "--virtual", "--link", "1Mbit", "--arms", ""], 64, ["--arms"]),
    (["{}", "--virtual", "--link", "1Mbit", "--arms", "local,local"], 64, ["--arms", "local"]),
    (["{}", "--fault"], 64, ["--fault needs --stack"]),
    (["{}", "--virtual", "--link", "1Mbit", "--stack"], 64, ["--stack"]),
    (["{}", "--virtual", "--link", "1Mbit", "--fault"], 64, ["--fault"]),
    (["{}", "--virtual", "--link", "quick"], 64, ["'quick'", "1Mbit"]),
    (["{}", "--virtual", "--link", "1Mbit", "--outage", "60"], 64, ["'60'", "60s+5s"]),
    (["{}", "--virtual", "--link", "1Mbit", "--outage", "60s+soon"], 64, ["'soon'"]),
    (["{}", "--virtual", "--link", "1Mbit", "--black-hole", "+5s"], 64, ["''"]),
    (["{}", "--virtual", "--link", "1Mbit", "--rtt", "fast"], 64, ["--rtt", "'fast'"]),
    (["{}", "--virtual", "--link", "1Mbit", "--duration=-5s"], 64, ["--duration", "'-5s'"]),
    (["{}", "--virtual", "--link", "1Mbit", "--period", "0"], 64, ["--period", "'0'"]),
    (["{}", "--virtual", "--link", "1Mbit", "--deadline", "0"], 64, ["--deadline", "'0'"]),
    (["{}", "--virtual", "--link", "1Mbit", "--profile", "{tmp}/none.json"], 66, ["none.json"]),
    (["{}", "--virtual", "--link", "1Mbit", "--profile", "{tmp}/wrong.toml"], 78, ["damaged"]),
    (["{}", "--virtual", "--link", "1Mbit", "--profile",
      str(ROOT / "bench/mobilenet_v2.profile.json")], 64,
     ["profile of bundle 12ad24ba3eed22c5", "wanted"]),
    (["{}", "--virtual", "--link", "1Mbit", "--device-time", "0s"], 64,
     ["--device-time", "'0s'"]),
])
def test_usage_errors_say_what_is_wrong(bundle, tmp_path, capfd, arguments, code, words):
    (tmp_path / "wrong.toml").write_text('[modle]\nbundle = "x"\n')
    given = []
    for argument in arguments:
        given += (["--bundle", str(bundle.path)] if argument == "{}" else
                  [argument.replace("{tmp}", str(tmp_path)).replace(
                      "{bundle}", str(bundle.path))])
    found, error = complaint(capfd, "-o", str(tmp_path / "out"), *given)
    assert found == code, error
    assert all(word in error for word in words), error
    assert not (tmp_path / "out/report.html").exists()


@pytest.mark.parametrize("text, code, words", [
    (None, 66, "battery.toml"),
    ("capacity_wh = ", 66, "battery.toml"),
    (BATTERY + "volts = 3.7\n", 78, "unknown key volts"),
    ("capacity_wh = 3.0\n", 78, "base_w"),
    (BATTERY.replace("0.15", "0.0"), 66, "capacity_wh is 0.0"),
    (BATTERY.replace("0.5", "nan"), 66, "base_w is nan"),
    (BATTERY + "hours = 0.0\n", 66, "hours is 0.0"),
    (BATTERY + "hours = -1.0\n", 66, "hours is -1.0"),
    (BATTERY + "left_ratio = 1.5\n", 66, "left_ratio is 1.5"),
])
def test_a_bad_battery_file_is_named(bundle, tmp_path, capfd, text, code, words):
    battery = tmp_path / "battery.toml"
    if text is not None:
        battery.write_text(text)
    found, error = complaint(
        capfd, "--bundle", str(bundle.path), "--virtual", "--link", "1Mbit", "-o",
        str(tmp_path / "out"), "--battery", str(battery))
    assert found == code, error
    assert words in error and "battery.toml" in error


def test_the_readmes_battery_is_one():
    battery = read_battery(ROOT / "bench/battery.toml")
    assert (battery.capacity_wh, battery.base_w, battery.hours) == (6.1, 2.7, 2.0)


def test_a_trace_is_named_by_its_file_and_a_rate_as_it_was_written(tmp_path):
    trace = tmp_path / "lte.up"
    trace.write_text("1\n")
    assert command._link_name(str(trace)) == "lte.up"
    assert command._link_name("10Mbit/s") == "10Mbit/s"
    assert command._link_name(None) == "as it is"
