"""This machine as slow as a board: the time is the board's, what comes out is not touched."""

from __future__ import annotations

import statistics
import time

import msgspec
import numpy as np
import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, ModelConfig
from edge_agent.frames import Outcome, Plan
from edge_agent.inference.encoder import Encoder
from edge_agent.sensors import SensorsConfig
from split_core.cost.profile import Timing
from split_core.model.runner import Runner
from split_core.wire.rungs import RAW, Rung
from split_lab.field.stretch import SlowEncoder, SlowMachine, SlowRunner
from split_lab.field.virtual import Board
from tests.edge_agent.decision_journals import make_bundle, profile_of
from tests.support.tiny_models import input_like

# Each so many times what the segment takes on any machine.
SEGMENT_S = (0.012, 0.02, 0.004, 0.0, 0.016, 0.008)
KL = Rung.parse("kl0.02")
BOARD = Board(SEGMENT_S, {(1, "raw"): 0.03, (1, "kl0.02"): 0.02}, (0.0,) * 7)
# A median of seven: what a busy machine adds to most of them.
SLACK_S = 0.02
RUNS = 7


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("stretch"))


@pytest.fixture(scope="module")
def sample(bundle):
    print("seed 4")
    rng = np.random.default_rng(4)
    return {n: input_like(bundle.specs[n], rng) for n in bundle.manifest.inputs}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[k], other[k]) and one[k].dtype == other[k].dtype for k in one)


def test_a_segment_takes_the_boards_time_and_makes_the_same(bundle, sample):
    plain, slow = Runner(bundle), SlowRunner(bundle)
    slow.board = BOARD
    plain.warm_up(range(6))
    slow.warm_up(range(6))
    took_s = [[] for _ in SEGMENT_S]
    for _ in range(RUNS):
        live, wanted = dict(sample), dict(sample)
        for index in range(6):
            begin_s = time.monotonic()
            made = slow.run_segment(index, live)
            took_s[index].append(time.monotonic() - begin_s)
            live.update(made)
            wanted.update(plain.run_segment(index, wanted))
        assert same(live, wanted)
    for board_s, found in zip(SEGMENT_S, took_s):
        assert min(found) >= board_s, "never faster"
        assert statistics.median(found) <= board_s + SLACK_S


@pytest.mark.parametrize("rung, least_s", [(RAW, 0.03), (KL, 0.02), (Rung.parse("q4"), 0.0)])
def test_coding_takes_the_boards_time_and_makes_the_same(bundle, sample, rung, least_s):
    live = dict(sample) | Runner(bundle).run_segment(0, dict(sample))
    slow, plain, plan = SlowEncoder(bundle, BOARD), Encoder(bundle), Plan(1, 1, rung)
    slow.prepare()
    plain.prepare()
    wanted, took_s = plain.encode(live, plan, None), []
    for _ in range(RUNS):
        begin_s = time.monotonic()
        made = slow.encode(live, plan, None)
        took_s.append(time.monotonic() - begin_s)
        assert bytes(made.payload) == bytes(wanted.payload)
    assert min(took_s) >= least_s
    assert statistics.median(took_s) <= least_s + SLACK_S


def test_a_board_that_is_faster_than_this_machine_changes_nothing(bundle, sample):
    slow = SlowRunner(bundle)
    slow.board = Board((0.0,) * 6, {}, (0.0,) * 7)
    assert same(slow.run_segment(0, dict(sample)), Runner(bundle).run_segment(0, dict(sample)))


# -- the agent


def test_an_agent_on_the_board_that_is_meant(bundle, sample, tmp_path):
    (tmp_path / "no-sensors").mkdir()
    config = AgentConfig(
        ModelConfig(str(bundle.path)), id="slow", state_dir=str(tmp_path / "state"),
        sensors=SensorsConfig(root=str(tmp_path / "no-sensors"), battery="none"))
    profile = msgspec.structs.replace(
        profile_of(bundle), segments=tuple(Timing(s, 0.0) for s in SEGMENT_S))
    agent = EdgeAgent(config, machine=SlowMachine(BOARD, profile))
    agent.set_local()
    with agent:
        answers = [agent.infer(sample) for _ in range(3)]
        assert agent.head.times.span_s(0, 6) == pytest.approx(sum(SEGMENT_S), abs=6 * SLACK_S)
    assert {a.outcome for a in answers} == {Outcome.LOCAL}
    assert all(a.total_ms >= 1e3 * sum(SEGMENT_S) for a in answers)
    whole = Runner(bundle).run(dict(sample), 0, bundle.last_cut)
    for answer in answers:
        for name, array in answer.outputs.items():
            assert np.array_equal(array, whole[name])
    assert not (tmp_path / "state").exists(), "this machine's profile is not the board's"
