"""What is done where nothing was asked for, and what cannot be asked for."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.cli import main as edge_agent
from edge_agent.config import AgentConfig, ModelConfig, PlanConfig
from edge_agent.deployment import default_cut, default_rung
from edge_agent.policies.config import PolicyConfig
from edge_agent.sensors import SensorsConfig
from split_core.errors import ConfigError
from split_core.model.bundle import open_bundle
from split_core.session import Received
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.calibrated import calibrate_roughly

# Of the tiny model half of the work is done behind op 1 at the latest; without tables the
# input, 192 floats, is the cheapest to send of what comes before.
CUT, OPS = 1, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("skip")
    model = folder / "skip.tflite"
    model.write_bytes(tiny_models.skip_model())
    (folder / "plain.split.tflite").write_bytes(split_model(model, cuts="all"))
    calibrate_roughly(model, folder / "known.split.tflite", CUT, margin=0.5)
    np.save(folder / "x.npy", np.ones((1, 8, 8, 3), np.float32))
    return folder


def plan_of(folder, name: str, **plan):
    return EdgeAgent(AgentConfig(model=ModelConfig(str(folder / f"{name}.split.tflite")),
                                 plan=PlanConfig(**plan))).plan


def test_the_default_cut_is_a_calibrated_one_where_there_is(folder):
    plain, known = (open_bundle(folder / f"{n}.split.tflite") for n in ("plain", "known"))
    assert default_cut(plain).cut == 0 and default_cut(known).cut == CUT


def test_the_default_rung_needs_tables_at_the_cut(folder):
    bundle = open_bundle(folder / "known.split.tflite")
    assert default_rung(bundle, CUT).name == "kl0.02"
    assert plan_of(folder, "known", cut=2).rung.name == "q4"
    assert plan_of(folder, "known", cut=OPS).rung.name == "q4"
    assert default_rung(open_bundle(folder / "plain.split.tflite"), CUT).name == "q4"
    assert plan_of(folder, "known", rung="q6").rung.name == "q6"


def test_a_fixed_plan_is_under_privacy_too(folder):
    model = ModelConfig(str(folder / "known.split.tflite"))
    with pytest.raises(ConfigError, match="cut 1 is before op 2"):
        EdgeAgent(AgentConfig(model=model, plan=PlanConfig(cut=1), policy=PolicyConfig(min_cut=2)))
    EdgeAgent(AgentConfig(model=model, plan=PlanConfig(cut=2), policy=PolicyConfig(min_cut=2)))


def test_where_no_cut_is_deep_enough_everything_runs_here(folder, tmp_path):
    model = ModelConfig(str(folder / "known.split.tflite"))
    policy = PolicyConfig(min_cut=OPS + 1)
    agent = EdgeAgent(AgentConfig(model=model, policy=policy, state_dir=str(tmp_path)))
    assert agent.plan.cut == OPS
    EdgeAgent(AgentConfig(model=model, plan=PlanConfig(cut=OPS), policy=policy))


def test_a_battery_report_on_a_topic_reaches_the_sensors(folder, tmp_path):
    agent = EdgeAgent(AgentConfig(
        model=ModelConfig(str(folder / "known.split.tflite")), state_dir=str(tmp_path),
        sensors=SensorsConfig(root=str(tmp_path), battery="mqtt", topic="home/ups")))
    agent._on_publication("home/ups", b'{"battery_percent": 40}', Received())
    health = agent.adaptation.monitor.read_once(time.monotonic())
    assert health.battery_ratio == pytest.approx(0.4)


@pytest.mark.parametrize("rung", ["kl0.02", "b2500", "kl0.02+refine"])
def test_a_calibrated_rung_is_refused_where_there_are_no_tables(folder, rung):
    for name, cut in (("plain", 1), ("known", 2)):
        with pytest.raises(ConfigError, match=rf"calibrated at cut {cut}"):
            plan_of(folder, name, rung=rung, cut=cut)


@pytest.mark.parametrize("options, code, words", [
    (["--refine"], 64, "--refine needs --kl or --bytes"),
    (["--refine", "--bits", "4"], 64, "--refine needs --kl or --bytes"),
    (["--kl", "0"], 64, "rung 'kl0.0'"),
    (["--kl", "nan"], 64, "rung 'klnan'"),
    (["--bytes", "0"], 64, "rung 'b0'"),
    (["--webp", "101"], 64, "rung 'webp101'"),
    (["--kl", "0.02"], 78, "calibrated at cut 0"),
    (["--bytes", "900", "--refine", "--cut", "3"], 78, "calibrated at cut 3"),
    (["--webp", "90", "--cut", "3"], 78, "is for cut 0"),
])
def test_what_cannot_be_asked_for_is_said_in_one_line(folder, capfd, options, code, words):
    assert edge_agent(["infer", str(folder / "plain.split.tflite"), str(folder / "x.npy"),
                       *options]) == code
    out, error = capfd.readouterr()
    assert not out and words in error and "Traceback" not in error


@pytest.mark.parametrize("options", [["--kl", "0.1", "--bits", "4"], ["--jpeg", "9", "--raw"],
                                     ["--bytes", "9", "--webp", "9"]])
def test_one_way_of_coding_at_a_time(folder, options):
    with pytest.raises(SystemExit):
        edge_agent(["infer", str(folder / "plain.split.tflite"), "x.npy", *options])
