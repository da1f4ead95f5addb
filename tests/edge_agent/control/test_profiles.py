"""What this device takes: measured once, kept, and kept up to date."""

from __future__ import annotations

import logging

import pytest

from edge_agent.config import AgentConfig, ModelConfig
from edge_agent.control import profiles
from edge_agent.control.profiles import device_profile, refresh
from edge_agent.inference.segment_times import SegmentTimes
from split_core.cost.machine import machine_id
from split_core.cost.profile import CodingTime, Profile, Timing
from tests.edge_agent.planner.making import paper_bundle

BUNDLE = paper_bundle()
CODINGS = (CodingTime(1, "kl0.02", 0.03, 0.04, 2000),)


@pytest.fixture
def measured(monkeypatch) -> list[dict]:
    """What `measure` was asked; it answers at once."""
    asked = []

    def measure(bundle, **how):
        asked.append(how)
        return Profile(bundle.id_hex, machine_id(), how["runtime"], how["threads"],
                       tuple(Timing(s, 0.001) for s in (0.1, 0.2, 0.3)), CODINGS, 0.61, "then")

    monkeypatch.setattr(profiles, "measure", measure)
    monkeypatch.setattr(profiles, "resolve_runtime", lambda runtime: runtime or "litert")
    return asked


def config(folder, **model) -> AgentConfig:
    return AgentConfig(ModelConfig("b", **model), state_dir=str(folder))


def test_the_first_start_measures_and_the_second_remembers(tmp_path, measured):
    first = device_profile(config(tmp_path), BUNDLE)
    assert len(measured) == 1 and measured[0]["budget_s"] <= 1.0, "nobody should wait long"
    assert device_profile(config(tmp_path), BUNDLE) == first
    assert len(measured) == 1


def test_other_threads_or_another_runtime_are_another_profile(tmp_path, measured):
    for model in ({}, {"threads": 2}, {"runtime": "tflite-runtime"}, {"threads": 2}):
        profile = device_profile(config(tmp_path, **model), BUNDLE)
        assert profile.threads == model.get("threads", 1)
    assert len(measured) == 3


def test_a_damaged_profile_is_measured_anew_and_replaced(tmp_path, measured, caplog):
    device_profile(config(tmp_path), BUNDLE)
    (file,) = (tmp_path / "profiles").iterdir()
    file.write_text("{")
    with caplog.at_level(logging.WARNING):
        device_profile(config(tmp_path), BUNDLE)
    assert "event=profile-ignored" in caplog.text
    device_profile(config(tmp_path), BUNDLE)
    assert len(measured) == 2


def test_what_frames_taught_is_there_at_the_next_start(tmp_path, measured):
    profile = device_profile(config(tmp_path), BUNDLE)
    times = SegmentTimes(3, [t.median_s for t in profile.segments])
    for _ in range(200):
        for segment, seconds in enumerate((0.2, 0.4, 0.6)):
            times.add(segment, seconds)
    refresh(config(tmp_path), profile, times)
    kept = device_profile(config(tmp_path), BUNDLE)
    assert len(measured) == 1
    assert [t.median_s for t in kept.segments] == pytest.approx([0.2, 0.4, 0.6], rel=0.01)
    assert kept.whole_s == pytest.approx(1.2, rel=0.01)
    assert [t.spread_s for t in kept.segments] == [0.001] * 3 and kept.codings == CODINGS
    assert kept.made > "2026"


def test_what_a_throttled_board_took_is_not(tmp_path, measured):
    profile = device_profile(config(tmp_path), BUNDLE)
    times = SegmentTimes(3, [t.median_s for t in profile.segments])
    times.judge(throttled=False)
    for _ in range(200):
        times.add(0, 0.5)
    times.judge(throttled=True)
    refresh(config(tmp_path), profile, times)
    kept = device_profile(config(tmp_path), BUNDLE)
    assert [t.median_s for t in kept.segments] == [0.1, 0.2, 0.3]


def test_without_a_frame_it_stays_as_it_was(tmp_path, measured):
    profile = device_profile(config(tmp_path), BUNDLE)
    refresh(config(tmp_path), profile, SegmentTimes(3, [t.median_s for t in profile.segments]))
    assert device_profile(config(tmp_path), BUNDLE).segments == profile.segments


def test_a_device_without_a_place_to_write_goes_on_without_one(tmp_path, measured, caplog):
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        profile = device_profile(config(tmp_path / "file"), BUNDLE)
        refresh(config(tmp_path / "file"), profile, SegmentTimes(3, [0.1, 0.2, 0.3]))
    assert profile.segments[0].median_s == 0.1
    assert caplog.text.count("event=profile-not-kept") == 2
