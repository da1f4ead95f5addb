"""What is said again is said once, however often there is a reason to; and what is kept of it."""

from __future__ import annotations

import os
import stat

import pytest

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, ModelConfig
from edge_agent.remote.announcer import Announcer
from edge_agent.remote.config import HomeAssistantConfig
from edge_agent.remote.discovery import birth_topic
from split_core.session import Received
from tests.edge_agent.models.making import bundle_of
from tests.support import tiny_models


@pytest.fixture
def agent(tmp_path, monkeypatch) -> EdgeAgent:
    """Not started: what it was asked to do later is in ``agent.node.session.later``."""
    agent = EdgeAgent(AgentConfig(
        ModelConfig(str(bundle_of(tmp_path, "camera", tiny_models.camera_model()))), id="pi",
        state_dir=str(tmp_path / "state"), homeassistant=HomeAssistantConfig(enabled=True)))
    session = agent.node.session
    call_at, session.later = session.call_at, []

    def noted(when_s, fn):
        timer = call_at(when_s, fn)
        session.later.append((when_s, fn, timer))
        return timer

    monkeypatch.setattr(session, "call_at", noted)
    return agent


def pending(agent: EdgeAgent, fn) -> list[float]:
    """When it will be called; seconds, in order of asking."""
    return [when_s for when_s, asked, timer in agent.node.session.later
            if asked == fn and timer.fn is not None]


def test_home_assistant_that_starts_again_and_again_is_answered_once(agent):
    now_s = [100.0]
    announcer = Announcer(agent, clock=lambda: now_s[0])
    topic = birth_topic(agent.config.homeassistant)

    def born():
        for _ in range(50):
            now_s[0] += 0.01
            announcer._on_birth(topic, b"online", Received())
        return pending(agent, announcer._announce_again)

    first = born()
    assert len(first) == 1 and 100.0 <= first[0] <= 102.1, "who goes on does not put it off"
    fn, timer = agent.node.session.later[-1][1:]
    timer.cancel()                               # its time has come
    fn()
    assert len(born()) == 1, "and the next start is answered, too"
    announcer.on_up()
    assert pending(agent, announcer._announce_again) == [], "said by this, too"


def test_what_is_retained_is_kept_before_it_is_said_and_outlives_the_power(agent, monkeypatch):
    announcer, steps = Announcer(agent), []
    fsync, replace = os.fsync, os.replace

    def settled(handle):
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(old, new):
        steps.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", settled)
    monkeypatch.setattr(os, "replace", renamed)
    announcer._keep({"a", "b"})
    assert steps == ["file", "name", "folder"]
    assert Announcer(agent)._kept() == {"a", "b"}
    announcer._keep(set())
    assert announcer._kept() == set()


def test_a_record_that_cannot_be_kept_is_said(agent, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    Announcer(agent)._keep({"a"})
    assert "event=homeassistant-not-kept" in caplog.text and "No space left" in caplog.text
