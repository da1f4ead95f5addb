"""What is written down of which model runs, and what a start or reload makes of it."""

from __future__ import annotations

import os
import shutil

import msgspec
import pytest

from edge_agent.config import AgentConfig, ModelConfig
from edge_agent.daemon import Daemon
from edge_agent.models import keeper as module
from edge_agent.models.config import UpdatesConfig
from edge_agent.models.keeper import Keeper
from edge_agent.models.rollout import Trial
from split_core.errors import BundleError, ConfigError
from tests.edge_agent.models.making import bundle_of, sha256_of
from tests.support import tiny_models

AT = "2026-05-01T12:00:00+00:00"


@pytest.fixture
def tested(monkeypatch):
    """Self-tests as they were called for; each passes, unless a reason is put in."""
    calls = []

    def self_test(path, **options):
        calls.append(path.name[:4])
        if calls.count("fail"):
            raise BundleError("it fails here")

    monkeypatch.setattr(module, "self_test", self_test)
    return calls


@pytest.fixture
def config(tmp_path) -> AgentConfig:
    (tmp_path / "mine.tflite").write_bytes(b"mine")
    return AgentConfig(ModelConfig(str(tmp_path / "mine.tflite")), state_dir=str(tmp_path / "s"),
                       updates=UpdatesConfig(allow_unsigned=True, rollback_after=2))


def keeper_of(config: AgentConfig) -> tuple[Keeper, AgentConfig]:
    """As a process that starts."""
    keeper = Keeper(config, clock=lambda: AT)
    return keeper, keeper.start(config)


def bring(keeper: Keeper, text: bytes) -> str:
    """A model that has been fetched."""
    path = keeper.store.folder / "x"
    keeper.store.folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    sha256 = sha256_of(path)
    path.rename(keeper.store.path(sha256))
    return sha256


def test_the_configuration_is_what_runs_at_first(config, tested):
    keeper, found = keeper_of(config)
    assert found == config and keeper.rolled_back is None and tested == []
    assert keeper.record.configured_sha256 == sha256_of(config.model.bundle)
    assert keeper.store.load() == keeper.record


def test_a_new_model_runs_after_a_restart_and_is_tried_first(config, tested):
    keeper, _ = keeper_of(config)
    sha256 = bring(keeper, b"new")
    keeper.begin(sha256)
    keeper.stop()
    again, found = keeper_of(config)
    assert found.model.bundle == str(keeper.store.path(sha256)) and tested == [sha256[:4]]
    assert again.record.trial == Trial(starts=1) and again.on_trial
    again.confirm()
    third, found = keeper_of(config)
    assert found.model.bundle == str(keeper.store.path(sha256)) and len(tested) == 1
    assert not third.on_trial


def test_the_start_is_on_the_disk_before_the_model_is_touched(config, monkeypatch):
    keeper, _ = keeper_of(config)
    keeper.begin(bring(keeper, b"new"))
    seen = []

    def crash(path, **options):
        seen.append(keeper.store.load().trial.starts)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "self_test", crash)
    with pytest.raises(KeyboardInterrupt):
        keeper_of(config)
    assert seen == [2]
    found = keeper_of(config)[1]                    # two starts, and that is the limit
    assert found == config and seen == [2]


def test_what_fails_its_self_test_at_the_start_is_rolled_back(config, tested):
    keeper, _ = keeper_of(config)
    first, second = bring(keeper, b"first"), bring(keeper, b"second")
    keeper.begin(first)
    keeper.confirm()
    keeper.begin(bring(keeper, b"second"))
    tested.append("fail")
    again, found = keeper_of(config)
    assert found.model.bundle == str(keeper.store.path(first))
    assert again.rolled_back == (second, "it fails here")
    assert not again.store.path(second).exists(), "nothing leads to it any more"


def test_damaged_files_lead_back_step_by_step(config, tested):
    keeper, _ = keeper_of(config)
    first = bring(keeper, b"first")
    keeper.begin(first)
    keeper.confirm()
    second = bring(keeper, b"second")
    keeper.begin(second)
    keeper.confirm()
    keeper.store.path(second).write_bytes(b"secomd")
    os.unlink(keeper.store.path(first))
    again, found = keeper_of(config)
    assert found == config and again.record.current is None
    assert again.record.refusal(second) == again.record.refusal(first) == (
        "its file is missing or damaged")


def test_what_could_not_be_loaded_leaves_no_trace(config, tested):
    keeper, _ = keeper_of(config)
    before = keeper.record
    keeper.undo(keeper.begin(bring(keeper, b"new")))
    assert keeper.record == keeper.store.load() == before


def test_failures_are_kept_over_processes(config, tested):
    keeper, _ = keeper_of(config)
    keeper.begin(bring(keeper, b"new"))
    assert keeper.on_failures(1) is None
    keeper.stop()
    again, _ = keeper_of(config)
    assert again.on_failures(1) == "2 frames failed"
    assert again.record.current is None and again.store.load() == again.record


def test_another_file_wins_at_the_start(config, tested, tmp_path, caplog):
    keeper, _ = keeper_of(config)
    keeper.begin(bring(keeper, b"new"))
    (tmp_path / "mine.tflite").write_bytes(b"other")
    caplog.set_level("INFO")
    again, found = keeper_of(config)
    assert found == config and again.record.current is None
    assert "event=model-file-changed" in caplog.text


def test_a_reload_counts_once_it_is_in_force(config, tested, tmp_path):
    keeper, _ = keeper_of(config)
    sha256 = bring(keeper, b"new")
    keeper.begin(sha256)
    path = str(keeper.store.path(sha256))
    assert keeper.overlay(config).model.bundle == path, "the file is the same"
    (tmp_path / "mine.tflite").write_bytes(b"other")
    found = keeper.overlay(config)
    assert found == config, "the operator's file"
    # It could not be loaded; later another setting changes.
    keeper.on_config(msgspec.structs.replace(config, model=ModelConfig(path)))
    assert keeper.record.current == sha256 == keeper.store.load().current
    keeper.on_config(keeper.overlay(config))
    assert keeper.record.current is None
    assert keeper.record.configured_sha256 == sha256_of(tmp_path / "mine.tflite")


def test_a_refused_reload_is_not_counted_later(config, tested, tmp_path):
    keeper, _ = keeper_of(config)
    before = keeper.record
    (tmp_path / "mine.tflite").write_bytes(b"other")
    keeper.overlay(config)
    keeper.end_reload()
    keeper.on_config(config)                        # a command, with the model as it was
    assert keeper.record == before == keeper.store.load()


def test_a_daemon_whose_reload_is_refused_forgets_it(tmp_path):
    bundle = bundle_of(tmp_path, "camera", tiny_models.camera_model())
    config = AgentConfig(ModelConfig(str(bundle)), id="pi", state_dir=str(tmp_path / "s"),
                         updates=UpdatesConfig(allow_unsigned=True))
    daemon = Daemon(config, lambda: config, lambda config: None)
    before = daemon.keeper.record
    bundle.unlink()                                 # not written over: it is mapped
    bundle.write_bytes(b"no bundle")
    with pytest.raises(BundleError):
        daemon._apply()
    daemon.keeper.on_config(daemon.agent.config)
    assert daemon.keeper.record == before == daemon.keeper.store.load()


def begin(keeper: Keeper, sha256: str) -> None:
    keeper.begin(sha256)


def undo(keeper: Keeper, sha256: str) -> None:
    keeper.undo(keeper.record)


def roll_back(keeper: Keeper, sha256: str) -> None:
    assert keeper.on_failures(2) is not None


@pytest.mark.parametrize("step", [begin, undo, roll_back])
def test_what_happens_to_a_model_ends_a_reload_that_was_not_done(config, tested, tmp_path, step):
    keeper, _ = keeper_of(config)
    keeper.begin(bring(keeper, b"new"))
    (tmp_path / "mine.tflite").write_bytes(b"other")
    keeper.overlay(config)                          # refused; a crash kept it from being told
    step(keeper, bring(keeper, b"newer"))
    after = keeper.record
    keeper.on_config(config)                        # back to the configuration's file
    assert keeper.record == after == keeper.store.load()


def test_a_reload_counts_what_has_happened_while_it_loaded(config, tested, tmp_path):
    """What was rolled back before must stay refused."""
    keeper, _ = keeper_of(config)
    keeper.begin(bring(keeper, b"new"))
    assert keeper.overlay(config).model != config.model, "the model on trial stays"
    found = keeper.overlay(config)
    assert keeper.on_failures(1) is None
    keeper.on_config(found)
    assert keeper.record.trial.failures == 1 == keeper.store.load().trial.failures


def test_a_moved_file_of_the_same_content_changes_nothing(config, tested, tmp_path):
    keeper, _ = keeper_of(config)
    sha256 = bring(keeper, b"new")
    keeper.begin(sha256)
    shutil.move(tmp_path / "mine.tflite", tmp_path / "moved.tflite")
    moved = msgspec.structs.replace(config, model=ModelConfig(str(tmp_path / "moved.tflite")))
    found = keeper.overlay(moved)
    assert found.model.bundle == str(keeper.store.path(sha256))
    keeper.on_config(found)
    assert keeper.path_of(keeper.record.configured_sha256) == tmp_path / "moved.tflite"


def test_without_the_configurations_file_the_new_one_goes_on(config, tested, tmp_path, caplog):
    keeper, _ = keeper_of(config)
    sha256 = bring(keeper, b"new")
    keeper.begin(sha256)
    os.unlink(tmp_path / "mine.tflite")
    _, found = keeper_of(config)
    assert found.model.bundle == str(keeper.store.path(sha256))
    assert "event=model-file-unreadable" in caplog.text


def test_without_any_file_its_reader_says_so_and_no_update_is_taken(config, tested, tmp_path):
    os.unlink(tmp_path / "mine.tflite")
    keeper, found = keeper_of(config)
    assert found == config
    with pytest.raises(ConfigError, match="cannot be read, so that there is no model to go back"):
        keeper.begin("ab" * 32)


def test_the_operators_own_file_may_lie_among_the_models(config, tested):
    keeper, _ = keeper_of(config)
    path = keeper.store.path(bring(keeper, b"theirs"))
    there = msgspec.structs.replace(config, model=ModelConfig(str(path)))
    keeper, found = keeper_of(there)
    assert found == there and path.exists()


def test_a_disk_that_takes_no_record_is_said_and_no_end(config, tested, monkeypatch, caplog):
    keeper, _ = keeper_of(config)
    sha256 = bring(keeper, b"new")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_agent.models.store.os.replace", full)
    keeper.begin(sha256)
    assert keeper.record.current == sha256
    assert "event=model-record-not-kept" in caplog.text and "No space left" in caplog.text


@pytest.mark.parametrize("changes, words", [
    ({"max_mb": 0}, "updates.max_mb is 0"), ({"rollback_after": 0}, "updates.rollback_after is 0"),
    ({"trial_frames": 0}, "updates.trial_frames is 0"), ({"max_mb": 4096}, "wanted 1 to 2048"),
    ({"public_key_file": "k", "allow_unsigned": True}, "take away one"),
])
def test_settings_that_cannot_work_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        UpdatesConfig(**changes).check()


def test_nothing_comes_unless_somebody_said_so():
    assert not UpdatesConfig().enabled
    assert UpdatesConfig(allow_unsigned=True).enabled and UpdatesConfig(public_key_file="k").enabled
