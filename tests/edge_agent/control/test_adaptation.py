"""Sensors, the day's bytes and profiles, on their way to the beliefs."""

from __future__ import annotations

import json
import logging
import threading
from types import SimpleNamespace

import msgspec
import pytest

from edge_agent.control import adaptation
from edge_agent.control.adaptation import Adaptation, battery_wh
from edge_agent.planner.profiled import encode_times, service_times
from edge_agent.control.budget import DAY_S
from edge_agent.config import AgentConfig, ModelConfig
from edge_agent.frames import Plan
from edge_agent.planner.candidates import options_of
from edge_agent.planner.state import Battery
from edge_agent.control.plans import Plans
from edge_agent.policies.config import EnergyConfig, PolicyConfig
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.sensors import Health, SensorsConfig
from edge_agent.inference.workers import Workers
from split_core.cost.profile import CodingTime, Profile, Timing
from split_core.wire.rungs import RAW
from tests.edge_agent.planner.making import INPUT, LATE, MIDDLE, OPTIONS, paper_bundle

BUNDLE = paper_bundle()
PROFILE = Profile(
    BUNDLE.id_hex, "board", "litert", 1,
    tuple(Timing(s, 0.0) for s in (0.1, 0.2, 0.3)),
    (CodingTime(0, "jpeg90", 0.01, 0.02, 700), CodingTime(0, "raw", 0.001, 0.002, 3072),
     CodingTime(1, "kl0.02", 0.03, 0.04, 2000), CodingTime(1, "kl0.05", 0.02, 0.03, 1500)), 0.6,
    "2026-01-01T00:00:00+00:00")


class Clock:
    """What the module sees of `time`; noon of some day, two hours east of Greenwich."""

    def __init__(self):
        self.s, self.wall_s = 1000.0, 20_000 * DAY_S + DAY_S / 2 - 7200

    def monotonic(self) -> float:
        return self.s

    def time(self) -> float:
        return self.wall_s

    def localtime(self, _s: float):
        return SimpleNamespace(tm_gmtoff=7200)

    def move(self, seconds: float) -> None:
        self.s, self.wall_s = self.s + seconds, self.wall_s + seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(adaptation, "time", clock)
    return clock


@pytest.fixture
def made(tmp_path, clock):
    """Makes an Adaptation that keeps its state in a folder, on a board without sensors."""
    (tmp_path / "no-sensors").mkdir()

    def make(profile: Profile | None = PROFILE, state="state", **sections) -> Adaptation:
        config = AgentConfig(
            ModelConfig("b"), state_dir=str(tmp_path / state),
            sensors=SensorsConfig(root=str(tmp_path / "no-sensors"), battery="none"), **sections)
        sender = SimpleNamespace(
            bundle=BUNDLE, workers=Workers("device"), beliefs=None,
            gate=SimpleNamespace(on_switch=lambda expected_s: None),
            node=SimpleNamespace(is_up=True, backlog_bytes=0))
        made = Adaptation(
            config, options_of(BUNDLE, 0.02, 0.08), profile, sender,
            Plans(BUNDLE, Plan(1, 3, RAW)), SegmentTimes(3, [0.1, 0.2, 0.3]),
            threading.Condition(), next_frame=lambda: (0.0, None),
            on_plan=lambda plan, ruling: None, on_fatal=fail)
        assert sender.beliefs is made.beliefs
        return made

    return make


def fail(error: BaseException) -> None:
    raise error


# -- the hour that the battery has to last until


def test_until_a_time_of_day(made, clock):
    found = made(energy=EnergyConfig(until="18:00"))
    assert found.outlook().until_s == 6 * 3600
    clock.move(7 * 3600)
    assert found.outlook().until_s == 23 * 3600


def test_for_some_hours_from_the_start(made, clock):
    found = made(energy=EnergyConfig(hours=2.0))
    assert found.outlook().until_s == 7200
    clock.move(7000)
    assert found.outlook().until_s == 200
    clock.move(7000)
    assert found.outlook().until_s == 0, "not negative"


def test_what_nobody_knows_is_unknown(made):
    outlook = made().outlook()
    assert outlook.battery == Battery(None, None)
    assert (outlook.until_s, outlook.budget_bytes, outlook.budget_s) == (None, None, None)
    assert (outlook.temperature_c, outlook.throttled) == (None, None)


@pytest.mark.parametrize("health, capacity_wh, left_wh", [
    (Health(battery_wh=3.0, battery_ratio=0.5), 100.0, 3.0), (Health(battery_ratio=0.5), 10.0, 5.0),
    (Health(battery_ratio=0.5), None, None), (Health(), 10.0, None),
    (Health(battery_wh=0.0), None, 0.0)])
def test_what_the_battery_has_left(health, capacity_wh, left_wh):
    assert battery_wh(health, capacity_wh) == left_wh


def test_a_power_sensor_teaches_the_boards_numbers_a_reading_at_a_time(made, clock,
                                                                        monkeypatch):
    found = made()
    reading = Health(at_s=1000.0, power_w=7.0, cpu_busy_ratio=0.5, cpu_count=4, mains=False,
                     temperature_c=55.0, throttled=False)
    found.monitor = SimpleNamespace(latest=reading)
    energy, readings = found.beliefs.energy, []
    stated, add = energy.model, energy.add
    monkeypatch.setattr(energy, "add", lambda *reading: (readings.append(reading), add(*reading)))
    outlook = found.outlook()
    assert outlook.battery.mains is False and outlook.temperature_c == 55.0
    assert energy.model == stated, "nobody knows since when the first one counts"
    for i in range(1, 40):
        found.monitor.latest = Health(at_s=1000.0 + 2 * i, power_w=3.0 + 2.0 * (i % 2) * 2,
                                      cpu_busy_ratio=0.5 * (i % 2), cpu_count=4)
        found.outlook()
        found.on_ended(1000)
        found.outlook()               # the same reading counts once, and not what came after
        assert found._learned_bytes == 1000 * (i - 1)
    # 3 W of base, and 4 more for two CPUs at work.
    assert len(readings) == 39
    assert energy.model.base_w == pytest.approx(3.0, rel=0.02)
    assert energy.model.j_per_cpu_s == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("held_back", [
    {"throttled": True}, {"frequency_capped": True}, {"soft_temperature_limit": True}])
def test_a_board_that_holds_itself_back_teaches_nothing_for_the_next_start(made, held_back):
    found, times = made(), SegmentTimes(3, [0.1, 0.2, 0.3])
    found._times = times
    found.monitor = SimpleNamespace(latest=Health())
    for at_s, seconds, health in ((1.0, 0.12, {}), (3.0, 0.4, held_back), (5.0, 0.12, {})):
        for _ in range(50):
            times.add(0, seconds)
        found.outlook()               # of the reading before: nothing is judged by that
        found.monitor.latest = Health(at_s=at_s, **health)
        found.outlook()
    assert times.kept_s(0) == pytest.approx(0.12, rel=0.02)


# -- the day's bytes


def test_what_was_sent_counts_against_the_day(made, clock):
    found = made(policy=PolicyConfig(mb_per_day=1.0))
    assert (found.outlook().budget_bytes, found.outlook().budget_s) == (1e6, DAY_S / 2)
    found.on_ended(300_000)
    found.on_ended(100_000)
    for _ in range(2):
        assert found.outlook().budget_bytes == 600_000
    clock.move(DAY_S / 2)
    assert (found.outlook().budget_bytes, found.outlook().budget_s) == (1e6, DAY_S)


def test_a_restart_does_not_give_the_day_back(made, clock):
    first = made(policy=PolicyConfig(mb_per_day=1.0))
    first.on_ended(300_000)
    first.outlook()
    first.stop()
    clock.move(60)
    assert made(policy=PolicyConfig(mb_per_day=1.0)).outlook().budget_bytes == 700_000
    clock.move(DAY_S)
    assert made(policy=PolicyConfig(mb_per_day=1.0)).outlook().budget_bytes == 1e6


def test_an_idle_device_writes_nothing_for_its_budget(made, clock, tmp_path):
    found = made(policy=PolicyConfig(mb_per_day=1.0))
    file = tmp_path / "state" / "sent-today.json"
    found.on_ended(1000)
    found.outlook()
    assert json.loads(file.read_text())["used"] == 1000
    file.unlink()
    clock.move(120.0)
    found.outlook()
    assert not file.exists(), "nothing was sent since"
    found.on_ended(1)
    clock.move(120.0)
    found.outlook()
    assert json.loads(file.read_text())["used"] == 1001


def test_a_crash_forgets_a_minute_at_most(made, clock):
    first = made(policy=PolicyConfig(mb_per_day=1.0))
    first.on_ended(300_000)
    first.outlook()
    clock.move(61)
    first.outlook()
    first.on_ended(1000)
    first.outlook()                   # and then the lights went out
    assert made(policy=PolicyConfig(mb_per_day=1.0)).outlook().budget_bytes == 700_000


@pytest.mark.parametrize("record", ["", "{", "[]", '{"day": 3}', '{"day": "x", "used": 1}', "\xff"])
def test_a_damaged_record_is_as_none_and_is_told(made, tmp_path, caplog, record):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/sent-today.json").write_bytes(record.encode("latin1"))
    with caplog.at_level(logging.WARNING):
        found = made(policy=PolicyConfig(mb_per_day=1.0))
    assert found.outlook().budget_bytes == 1e6
    assert "event=budget-forgotten" in caplog.text


def test_a_device_without_a_place_to_write_goes_on(made, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        found = made(policy=PolicyConfig(mb_per_day=1.0), state="file")
        found.on_ended(1000)
        assert found.outlook().budget_bytes == 999_000
        found.stop()
    assert "event=budget-not-saved" in caplog.text


def test_what_is_kept_can_be_read(made, tmp_path, clock):
    found = made(policy=PolicyConfig(mb_per_day=1.0))
    found.on_ended(5)
    found.outlook()
    found.stop()
    assert json.loads((tmp_path / "state/sent-today.json").read_text()) == {
        "day": 20_000, "used": 5}
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["sent-today.json"]


# -- profiles


def test_coding_takes_what_the_profile_says_of_its_kind():
    assert encode_times(PROFILE, OPTIONS) == {
        (0, "jpeg90"): 0.01, (1, "kl0.02"): 0.03}
    jpeg70 = msgspec.structs.replace(INPUT, rung="jpeg70")
    webp = msgspec.structs.replace(INPUT, rung="webp80")
    finer = msgspec.structs.replace(MIDDLE, rung="kl0.005")
    assert encode_times(PROFILE, (jpeg70, webp, finer, LATE)) == {
        (0, "jpeg70"): 0.01, (0, "webp80"): 0.01, (1, "kl0.005"): 0.03}, (
        "of another quality as that kind, of another kind as the slowest")
    assert encode_times(None, OPTIONS) == {}


def test_a_worker_decodes_and_runs_the_tail():
    assert service_times(PROFILE, BUNDLE) == pytest.approx((0.6 + 0.02, 0.5 + 0.04, 0.3, 0.0))


def test_what_the_network_tells_reaches_the_beliefs(made):
    found = made()
    found.on_worker_profile("w", PROFILE)
    found.on_worker_load("w", 0.25, 0.01)
    found.on_acknowledged(0.02)
    for _ in range(2):
        found.on_frame()
    beliefs = found.beliefs
    assert beliefs.workers.service_s("w", (9.0,) * 4) == pytest.approx((0.62, 0.54, 0.3, 0.0))
    assert beliefs.workers.queue_s("w", 1000.0) == 0.25
    assert beliefs.round_trip.least_s == 0.02
    assert beliefs.pace.rate(1000.0) > 0


# -- the whole of it


def test_it_decides_as_it_starts_and_again_when_a_frame_ends(made, tmp_path):
    journal = tmp_path / "d.jsonl"
    found = made(policy=PolicyConfig(journal=str(journal)))
    ticked = threading.Semaphore(0)
    tick = found.controller.tick

    def counted():
        tick()
        ticked.release()

    found.controller.tick = found.thread._tick = counted
    found.start()
    assert ticked.acquire(timeout=10)
    assert found.controller.last.decision.reason.startswith("the first; ")
    found.on_ended(1000)
    assert ticked.acquire(timeout=10)
    found.stop()
    kinds = [json.loads(line)["kind"] for line in journal.read_text().splitlines()]
    assert kinds[:3] == ["settings", "decision", "decision"]
