"""Secrets that systemd hands to a service, found by who looks from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from split_core.config import path_of
from split_core.settings.credentials import stand_in


@pytest.mark.parametrize("config, folder", [("edge-agent.toml", "secrets"),
                                            ("w1.toml", "w1.secrets")])
def test_the_folder_of_each_program(tmp_path, monkeypatch, config, folder):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "mqtt-password").write_text("x")
    with stand_in(tmp_path / config):
        seen = path_of("$CREDENTIALS_DIRECTORY/secrets_mqtt-password")
        assert seen.read_text() == "x" and seen.parent.stat().st_mode & 0o777 == 0o700
    assert "CREDENTIALS_DIRECTORY" not in os.environ and not seen.parent.exists()


def test_a_worker_does_not_get_the_secrets_of_another(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "w2.secrets").mkdir()
    (tmp_path / "w2.secrets/mqtt-password").write_text("x")
    with stand_in(tmp_path / "w1.toml"):
        assert "CREDENTIALS_DIRECTORY" not in os.environ


def test_what_systemd_set_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/a").write_text("x")
    with stand_in(tmp_path / "edge-agent.toml"):
        assert path_of("$CREDENTIALS_DIRECTORY/a") == Path("/run/credentials/x/a")
    with stand_in(None):
        assert os.environ["CREDENTIALS_DIRECTORY"] == "/run/credentials/x"


def test_the_state_of_the_service_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    for folder in ("etc/edge-agent", "etc/cloud-worker", "var/lib/edge-agent",
                   "var/lib/cloud-worker/w1", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    for file, state in (("etc/edge-agent/edge-agent.toml", "var/lib/edge-agent"),
                        ("etc/cloud-worker/w1.toml", "var/lib/cloud-worker/w1"),
                        ("etc/cloud-worker/new.toml", "var/lib/cloud-worker"),
                        ("elsewhere/agent.toml", None)):
        with stand_in(tmp_path / file, system=tmp_path):
            wanted = None if state is None else str(tmp_path / state)
            assert os.environ.get("STATE_DIRECTORY") == wanted, file
        assert "STATE_DIRECTORY" not in os.environ
    monkeypatch.setenv("STATE_DIRECTORY", "/given")
    with stand_in(tmp_path / "etc/edge-agent/edge-agent.toml", system=tmp_path):
        assert os.environ["STATE_DIRECTORY"] == "/given"
