"""Decisions made again: the same bytes by the same rules, worked-out others by others."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge_agent.belief.beliefs import MESSAGE_BYTES
from edge_agent.belief.transfers import Scenario
from edge_agent.cli import main as edge_agent
from edge_agent.control.decisions import FORMAT, Settings, read_moments
from edge_agent.planner.candidates import Option
from edge_agent.planner.planner import Planner
from edge_agent.planner.state import Coding, DeviceState, Energy, WorkerState
from edge_agent.policies.config import CostConfig, PolicyConfig, rules_of
from edge_agent.whatif.open_loop import Change, HeldBack, what_if
from edge_agent.whatif.replay import check
from split_core.errors import UsageError
from split_core.version import VERSION
from tests.edge_agent.decision_journals import make_bundle, write_journal

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("replay"))


@pytest.fixture
def journal(bundle, tmp_path):
    """Two starts of an agent, a different afternoon each."""
    path = tmp_path / "decisions.jsonl"
    write_journal(path, bundle, seed=1)
    write_journal(path, bundle, seed=2, decisions=80)
    return path


def test_the_same_rules_give_the_same_bytes(journal, capfd):
    # Enough happened for this to mean something.
    moments = list(read_moments(journal))
    decisions = [msgspec.json.decode(m.entry.decision) for m in moments]
    assert len({d["chosen"]["what"] for d in decisions}) >= 4
    assert any(bytes(m.entry.probe) != b"null" for m in moments)
    assert len({limit.split(":")[0] for d in decisions for limit in d["limits"]}) >= 2
    capfd.readouterr()
    assert edge_agent(["replay", str(journal)]) == 0
    assert capfd.readouterr().out == "200 decisions, all the same\n"
    assert edge_agent(["replay", str(journal), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {
        "decisions": 200, "starts": 2, "same": True, "difference": None}


def test_another_processor_gives_the_same_bytes(journal):
    # Its matrix products would differ in their last digit.
    child = subprocess.run(
        [sys.executable, "-m", "edge_agent.cli", "replay", str(journal)], capture_output=True,
        text=True, cwd=ROOT, env=os.environ | {"OPENBLAS_CORETYPE": "Prescott"}, timeout=60)
    assert (child.returncode, child.stdout) == (0, "200 decisions, all the same\n")


@pytest.mark.parametrize("number, old, new, name", [
    (40, b'"switched":false', b'"switched":true', "switched"),
    (150, b'"aim":"latency"', b'"aim":"deadline"', "aim"),
])
def test_a_changed_byte_is_found_in_its_line(journal, capfd, number, old, new, name):
    lines = journal.read_bytes().splitlines(keepends=True)
    while old not in lines[number - 1]:
        number += 1
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    journal.write_bytes(b"".join(lines))
    capfd.readouterr()
    assert edge_agent(["replay", str(journal)]) == 1
    text = capfd.readouterr().out
    assert f"line {number}: the decision differs" in text and f"  {name}  recorded " in text
    assert edge_agent(["replay", str(journal), "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    assert report["same"] is False and report["difference"]["line"] == number
    assert [f["field"] for f in report["difference"]["fields"]] == [name]
    assert report["difference"]["version"] == VERSION


def test_the_last_digit_of_a_float_is_enough(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    score = json.loads(lines[30])["decision"]["chosen"]["score"]
    lines[30] = lines[30].replace(f'"score":{score!r}'.encode(),
                                  f'"score":{math.nextafter(score, 1)!r}'.encode(), 1)
    journal.write_bytes(b"".join(lines))
    difference = check(journal).difference
    assert difference.line == 31
    assert difference.fields == (("chosen.score", math.nextafter(score, 1), score),)


def test_values_written_otherwise_are_a_difference_too(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"decision":{"switched":', b'"decision":{ "switched":')
    journal.write_bytes(b"".join(lines))
    assert check(journal).difference.fields[0][0] == "(the same values, written otherwise)"


def test_a_probe_that_was_not_made_is_found(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    number = next(m.line for m in read_moments(journal) if bytes(m.entry.probe) != b"null")
    head = lines[number - 1][:lines[number - 1].rindex(b',"probe":')]
    lines[number - 1] = head + b',"probe":null}\n'
    journal.write_bytes(b"".join(lines))
    difference = check(journal).difference
    assert (difference.line, difference.part) == (number, "probe")
    assert {name for name, _, _ in difference.fields} >= {"index", "reason"}


def test_a_cut_last_line_and_bad_ones(journal, capfd):
    data = journal.read_bytes()
    journal.write_bytes(data[:-10])
    capfd.readouterr()
    assert edge_agent(["replay", str(journal)]) == 0
    assert capfd.readouterr().out == "199 decisions, all the same\n"
    journal.write_bytes(data + b"{}\n")
    assert edge_agent(["replay", str(journal)]) == 65
    assert "line 203: " in capfd.readouterr().err
    journal.write_bytes(data.splitlines(keepends=True)[0])
    assert edge_agent(["replay", str(journal)]) == 65
    assert "no decision" in capfd.readouterr().err
    assert edge_agent(["replay", str(journal.with_name("none"))]) == 66


# -- by other rules, over four states worked out by hand

# All local takes 100 ms and 0.12 J, and costs 0.3 a kWh: 1e-8. At the worker 60 ms, for which
# 20 000 bytes are sent at 1 a GB: 2e-5. So latency sends, and the deadline, which both meet,
# stays at home; unless a byte takes a millisecond.
OPTIONS = (Option(0, 0, "kl0.02", "kl0.08", 0.02, 0.08), Option(1, 1, "raw", None, 0.0, 0.0))


def hand_made(now_s: float, s_per_byte: float) -> DeviceState:
    return DeviceState(
        now_s, 1.0, 1.0, (0.1,), (0.1,),
        (Coding(20_000.0, 10_000.0, 0.0), Coding(0.0, 0.0, 0.0)), True, 0.02,
        (Scenario(s_per_byte, 1.0),), 0, 0.0, 0.0, (WorkerState("w", 0.0, (0.02, 0.0)),),
        Energy(1.2, 1e-6, 2.7))


@pytest.fixture
def by_hand(tmp_path):
    policy, cost = PolicyConfig(max_kl=0.08, dwell_s=0.0), CostConfig()
    planner = Planner(OPTIONS, rules_of(policy, cost))
    lines = [msgspec.json.encode(Settings(FORMAT, VERSION, "f" * 64, "made", policy, cost, OPTIONS))]
    for now_s, s_per_byte in ((0.0, 1e-6), (10.0, 1e-6), (40.0, 1e-3), (50.0, 1e-6)):
        state = hand_made(now_s, s_per_byte)
        ruling = planner.rule(state)
        lines.append(msgspec.json.encode({"kind": "decision", "state": state,
                                          "decision": ruling.decision, "probe": ruling.probe}))
    path = tmp_path / "by-hand.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_another_aim_decides_otherwise(by_hand):
    assert check(by_hand).difference is None
    found = what_if(by_hand, Change(aim="deadline"))
    assert (found.decisions, found.starts, found.seconds) == (4, 1, 50.0)
    # Three of four were at the worker: all but the third.
    assert found.differing == 3
    assert (found.recorded["switches"], found.changed["switches"]) == (2, 0)
    remote = next(p for p in found.recorded["plans"] if p != "all local")
    assert remote.startswith("cut 0 kl0.02 at w")
    assert found.recorded["plans"] == pytest.approx({remote: 0.8, "all local": 0.2})
    assert found.changed["plans"] == {"all local": 1.0}
    assert found.recorded["mean_ms"] == pytest.approx(0.8 * 60 + 0.2 * 100)
    assert found.changed["mean_ms"] == pytest.approx(100)
    assert found.recorded["bytes"] == pytest.approx(0.8 * 20_000)
    assert found.changed["bytes"] == 0 and found.changed["energy_j"] == pytest.approx(0.12)


@pytest.mark.parametrize("option", ["--policy", "--aim"])
def test_the_command_says_it_side_by_side(by_hand, capfd, option):
    assert edge_agent(["replay", str(by_hand), option, "deadline"]) == 0
    text = capfd.readouterr().out
    assert text.startswith("4 decisions in 50 s, 1 start; with aim deadline 3 of them differ\n")
    rows = {line[:22].strip(): line[22:].split() for line in text.splitlines() if line[23:]}
    assert rows["mean latency"] == ["68", "ms", "100", "ms"]
    assert rows["all local"] == ["20.0%", "100.0%"] and rows["switches"] == ["2", "0"]
    assert edge_agent(["replay", str(by_hand), option, "latency", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["change"] == {"aim": "latency"} and report["differing"] == 0
    assert report["recorded"] == report["changed"]


def test_a_margin_holds_what_a_smaller_one_left(by_hand):
    # From 60 ms to 100 is a gain of 40 % ... and back, after the third, of 40 %, too.
    found = what_if(by_hand, Change(margin=0.5))
    assert found.changed["switches"] == 1 and found.recorded["switches"] == 2


def test_privacy_keeps_everything_here(by_hand):
    for change in (Change(min_cut=1), Change(trusted_workers=())):
        assert what_if(by_hand, change).changed["plans"] == {"all local": 1.0}


def test_less_divergence_is_more_bytes_on_a_power_law():
    # 0.04 lies in the middle of 0.02 and 0.08, so the payload in that of the two.
    policy = PolicyConfig(kl=0.02, max_kl=0.04)
    held = HeldBack(OPTIONS, policy)
    coding = held.state(hand_made(0.0, 1e-6)).codings[0]
    payload = math.sqrt((20_000 - MESSAGE_BYTES) * (10_000 - MESSAGE_BYTES))
    assert coding.coarsest_bytes == pytest.approx(payload + MESSAGE_BYTES)
    assert coding.nbytes == 20_000 and held.options[0].coarsest_kl == 0.04
    # What cannot be so good at all is no option any more.
    worse = Option(0, 0, "kl0.02", "kl0.08", 0.06, 0.08)
    assert HeldBack((worse, OPTIONS[1]), policy).options == (OPTIONS[1],)


@pytest.mark.parametrize("change, words", [
    (Change(max_kl=0.2), "up to 0.08"), (Change(max_kl=0.01), "kl <= max_kl"),
    (Change(margin=2.0), "policy.margin"), (Change(dwell_s=-1.0), "policy.dwell_s")])
def test_rules_that_cannot_be(by_hand, capfd, change, words):
    with pytest.raises(UsageError, match=words):
        what_if(by_hand, change)
