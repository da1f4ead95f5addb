"""`check-config`, `config show` and `init`, as people and scripts use them."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloud_side.cli import main as cloud_worker
from cloud_side.cli.setting_up import questions as worker_questions
from edge_agent.cli import main as edge_agent
from edge_agent.config import load_config
from split_core.errors import ConfigError
from split_core.wire.topics import check_node_id
from split_lab.split import split_model
from tests.support import tiny_models
from tests.support.brokers import make_certificates

ROOT = Path(__file__).resolve().parents[2]
CANARY = "hunter2-canary-77"


@pytest.fixture
def bundle(tmp_path):
    model = tmp_path / "skip.tflite"
    model.write_bytes(tiny_models.skip_model())
    path = tmp_path / "skip.split.tflite"
    path.write_bytes(split_model(str(model), cuts="all"))
    return path


@pytest.fixture
def write(tmp_path, bundle):
    def write(text: str = "", name: str = "agent.toml") -> str:
        path = tmp_path / name
        path.write_text(f'[model]\nbundle = "{bundle}"\n' + text)
        return str(path)
    return write


@pytest.fixture
def worker_file(tmp_path):
    path = tmp_path / "worker.toml"
    path.write_text(f'[store]\npath = "{tmp_path / "bundles"}"\n')
    return str(path)


# -- check-config

def test_a_good_file_is_ok(write, worker_file, capfd):
    path = write()
    assert edge_agent(["check-config", "--strict", path]) == 0
    assert capfd.readouterr() == (f"{path}: ok\n", "")
    assert cloud_worker(["check-config", "--strict", worker_file]) == 0
    assert capfd.readouterr().out == f"{worker_file}: ok\n"


def test_errors_go_to_standard_error_and_end_with_78(write, capfd):
    path = write("[frame]\ndeadline_ms = 0.0\nmax_pfs = 1\n")
    assert edge_agent(["check-config", path]) == 78
    out, error = capfd.readouterr()
    assert not out and error.splitlines() == [
        f"error: {path}:5: unknown key frame.max_pfs; did you mean frame.max_fps?",
        f"error: {path}:4: frame.deadline_ms is 0.0, wanted more than 0",
        f"{path}: 2 errors"]


@pytest.mark.parametrize("path", [".", "/"])
def test_a_folder_is_no_configuration(path, capfd):
    assert edge_agent(["check-config", path]) == 78
    assert "cannot read it: Is a directory" in capfd.readouterr().err
    assert edge_agent(["config", "show", "-c", path]) == 78


def test_check_config_and_run_agree(write, capfd):
    path = write("[frame]\ndeadline_ms = 0.0\n[policy]\nmargin = 7.0\n")
    assert edge_agent(["check-config", path]) == edge_agent(["run", "-c", path]) == 78
    checked, ran = capfd.readouterr().err.split(f"{path}: 2 errors\n")
    for line in checked.splitlines():
        assert line.removeprefix("error: ") in ran


WARNINGS = [
    ("[broker]\nurl = \"mqtt://192.0.2.1\"\nallow_plain = true\n", "broker.url", "read and"),
    ("[broker]\nusername = \"u\"\npassword_file = \"{secret}\"\n", "broker.password_file",
     "everyone on this machine may read (mode 0644)"),
    ("[broker]\nusername = \"u\"\npassword_file = \"$CREDENTIALS_DIRECTORY/x\"\n",
     "broker.password_file", "$CREDENTIALS_DIRECTORY is not set here"),
    ("[source]\nkind = \"folder\"\npath = \"/nonexistent\"\n", "source.path", "no such folder"),
]


@pytest.mark.parametrize("text, key, words", WARNINGS)
def test_what_is_unwise_is_a_warning_and_strictly_an_error(write, tmp_path, capfd, monkeypatch,
                                                           text, key, words):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    secret.chmod(0o644)
    path = write(text.format(secret=secret))
    assert edge_agent(["check-config", path]) == 0
    out, error = capfd.readouterr()
    assert error.startswith("warning: ") and words in error and "1 warning" in out
    assert edge_agent(["check-config", "--strict", "--json", path]) == 78
    (problem,) = json.loads(capfd.readouterr().out)
    assert (problem["key"], problem["warning"]) == (key, False) and words in problem["text"]
    assert problem["where"].startswith(path + ":")
    secret.chmod(0o640)
    if "mode" in words:
        assert edge_agent(["check-config", "--strict", path]) == 0


@pytest.mark.parametrize("damage, words", [
    (lambda b: b.unlink(), "no such file"),
    (lambda b: b.write_bytes(b.read_bytes()[:-5]), "model.bundle"),
    (lambda b: b.write_bytes(b"x"), "model.bundle"),
])
def test_a_bundle_that_is_not_there_or_damaged_is_a_warning(write, bundle, capfd, damage, words):
    path = write()
    damage(bundle)
    assert edge_agent(["check-config", path]) == 0
    assert words in capfd.readouterr().err
    assert edge_agent(["check-config", "--strict", path]) == 78


def test_files_for_tls_that_are_none_are_errors(write, tmp_path, capfd):
    make_certificates(tmp_path)
    tls = ('[broker]\nurl = "mqtts://127.0.0.1"\nca_file = "{d}/ca.pem"\n'
           'cert_file = "{d}/client.pem"\nkey_file = "{d}/{key}"\n')
    (tmp_path / "client.key").chmod(0o600)
    (tmp_path / "server.key").chmod(0o600)
    assert edge_agent(["check-config", "--strict",
                       write(tls.format(d=tmp_path, key="client.key"))]) == 0
    capfd.readouterr()
    assert edge_agent(["check-config", write(tls.format(d=tmp_path, key="server.key"))]) == 78
    (error, _) = capfd.readouterr().err.splitlines()
    assert "agent.toml:7: broker.key_file: " in error and "server.key" in error
    assert edge_agent(["check-config", write(tls.format(d=tmp_path, key="none.key"))]) == 78
    assert "none.key: No such file" in capfd.readouterr().err


def test_the_worker_says_where_its_store_cannot_be(tmp_path, capfd):
    path = tmp_path / "worker.toml"
    (tmp_path / "file").touch()
    path.write_text(f'[store]\npath = "{tmp_path}/file/bundles"\n')
    assert cloud_worker(["check-config", str(path)]) == 0
    assert f"{tmp_path}/file is no folder" in capfd.readouterr().err


# -- config show

def test_config_show_says_where_every_value_is_from(write, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("EDGE_AGENT__FRAME__MAX_FPS", "7.5")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.toml").write_text("[policy]\nkl = 0.01\n")
    path = write()
    assert edge_agent(["config", "show", "-c", path, "--sources"]) == 0
    lines = {line.split(" = ")[0]: line.partition(" # ")[2].strip()
             for line in capfd.readouterr().out.splitlines() if " = " in line}
    assert lines["bundle"] == f"{path}:2" and lines["kl"] == f"{tmp_path}/conf.d/a.toml:2"
    assert lines["max_fps"] == "env EDGE_AGENT__FRAME__MAX_FPS" and lines["margin"] == "default"
    assert edge_agent(["config", "show", "-c", path, "--json"]) == 0
    rows = {r["key"]: r for r in json.loads(capfd.readouterr().out)}
    assert rows["frame.max_fps"] == {"key": "frame.max_fps", "value": 7.5,
                                     "source": "env EDGE_AGENT__FRAME__MAX_FPS"}
    assert rows["policy.margin"]["source"] == "default"


def test_config_show_never_shows_a_secret(write, tmp_path, capfd, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text(CANARY + "\n")
    secret.chmod(0o600)
    monkeypatch.setenv("MQTT_PASSWORD", "another-" + CANARY)
    path = write(f'[broker]\nusername = "u"\npassword_file = "{secret}"\n'
                 f'[sensors]\nbattery = "exec"\ncommand = ["ups", "--password", "x{CANARY}"]\n'
                 f'[result]\ntopic = "leaked/{CANARY}"\n')
    for options in ([], ["--sources"], ["--json"]):
        assert edge_agent(["config", "show", "-c", path, *options]) == 0
        out, error = capfd.readouterr()
        assert CANARY not in out + error and str(secret) in out and "(hidden)" in out


# -- init

def flags(tmp_path, *more: str) -> list[str]:
    return ["init", "--yes", "-o", str(tmp_path / "out/agent.toml"), "--id", "pi-door", *more]


def test_init_from_flags_writes_what_check_config_takes(tmp_path, bundle, capfd):
    make_certificates(tmp_path)
    (tmp_path / "client.key").chmod(0o600)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    code = edge_agent(flags(
        tmp_path, "--broker", "mqtts://broker.lan:8884", "--bundle", str(bundle), "--source",
        "folder", "--source-path", str(pictures), "--ca-file", str(tmp_path / "ca.pem"),
        "--cert-file", str(tmp_path / "client.pem"), "--key-file", str(tmp_path / "client.key")))
    out, error = capfd.readouterr()
    assert code == 0, error
    path = tmp_path / "out/agent.toml"
    assert f"wrote {path}" in out and f"{path}: ok" in out
    assert f"edge-agent doctor -c {path}" in out
    config = load_config(str(path))
    assert (config.id, config.broker.url) == ("pi-door", "mqtts://broker.lan:8884")
    assert config.broker.key_file == str(tmp_path / "client.key")
    assert (config.source.kind, config.source.path) == ("folder", str(pictures))
    text = path.read_text()
    assert "/etc/edge-agent/secrets/" in text and "# Who logs in" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert len([line for line in text.splitlines() if line and line[0] not in "#["]) == 8


def test_init_overwrites_when_told_to(tmp_path, bundle, capfd):
    path = tmp_path / "out/agent.toml"
    assert edge_agent(flags(tmp_path, "--bundle", str(bundle))) == 0
    path.write_text("mine")
    assert edge_agent(flags(tmp_path, "--bundle", str(bundle))) == 64
    assert path.read_text() == "mine" and "--force" in capfd.readouterr().err
    assert edge_agent(flags(tmp_path, "--bundle", str(bundle), "--force")) == 0
    assert load_config(str(path)).id == "pi-door"


@pytest.mark.parametrize("wrong, words", [
    (["--id", "a/b"], "--id: id 'a/b'"),
    (["--broker", "mqtt://192.0.2.1"], "--broker: mqtt://192.0.2.1 would send everything"),
    (["--broker", "mqtts://user:hunter2@b"], "holds a password"),
    (["--username", "u", "--password-file", "hunter2"], "--password-file: wanted the path"),
    (["--source", "camera"], "--source-path: a source of kind camera needs a path"),
    (["--broker", "mqtts://b", "--ca-file", "/none"], "--ca-file: there is no file /none"),
])
def test_init_refuses_flags_that_cannot_work(tmp_path, capfd, wrong, words):
    assert edge_agent(flags(tmp_path, *wrong)) == 64
    out, error = capfd.readouterr()
    assert words in error and "hunter2@" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where, code, words", [
    ("", 64, "is a folder"), ("shut/agent.toml", 77, "may not write"),
    ("shut/new/agent.toml", 77, "may not write")])
def test_init_says_before_it_asks_that_it_cannot_write(tmp_path, capfd, monkeypatch, where, code,
                                                       words):
    (tmp_path / "shut").mkdir()
    allowed = os.access                  # the tests may run as root, who may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: "shut" not in str(path)
                        and allowed(path, mode))
    monkeypatch.setattr("sys.stdin", None)           # would break if anything were asked
    assert edge_agent(["init", "-o", str(tmp_path / where)]) == code
    assert words in capfd.readouterr().err
    assert not list((tmp_path / "shut").iterdir())


def test_init_names_the_service_of_the_file_it_writes(tmp_path, bundle, capfd):
    assert edge_agent(["init", "--yes", "-o", str(tmp_path / "a.toml"), "--id", "pi",
                       "--bundle", str(bundle)]) == 0
    assert cloud_worker(["init", "--yes", "-o", str(tmp_path / "b.toml"), "--id", "wb",
                         "--store", str(tmp_path / "bundles")]) == 0
    agent, worker = (tmp_path / "a.toml").read_text(), (tmp_path / "b.toml").read_text()
    assert "systemctl reload edge-agent`" in agent and "/etc/edge-agent/secrets/ " in agent
    assert "systemctl reload cloud-worker@b`" in worker
    assert "/etc/cloud-worker/b.secrets/mqtt-password" in worker


def test_init_without_a_terminal_wants_flags(tmp_path):
    child = subprocess.run([sys.executable, "-m", "edge_agent.cli", "init", "-o",
                            str(tmp_path / "a.toml")], cwd=ROOT, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=60)
    assert child.returncode == 64 and "--yes" in child.stderr
    assert not (tmp_path / "a.toml").exists()


def test_init_of_a_worker(tmp_path, capfd):
    path = tmp_path / "w1.toml"
    assert cloud_worker(["init", "--yes", "-o", str(path), "--id", "w1", "--store",
                         str(tmp_path / "bundles"), "--broker", "mqtt://192.0.2.1",
                         "--allow-plain"]) == 0
    assert "warning" in capfd.readouterr().err
    assert cloud_worker(["config", "show", "-c", str(path), "--json"]) == 0
    rows = {r["key"]: r["value"] for r in json.loads(capfd.readouterr().out)}
    assert rows["id"] == "w1" and rows["broker.allow_plain"] is True
    assert rows["store.path"] == str(tmp_path / "bundles")


def test_what_init_proposes_for_a_worker_is_the_instance_s_own():
    """The unit lets it write nowhere else, and two with one id throw each other out."""
    unit = (ROOT / "systemd/cloud-worker@.service").read_text()
    assert "\nStateDirectory=cloud-worker/%i\n" in unit
    usual = {q.key: q.usual for q in worker_questions()}
    store, name = usual["store.path"], usual["id"]
    assert store(Path("/etc/cloud-worker/w2.toml")) == "/var/lib/cloud-worker/w2/bundles"
    assert store(Path("/home/pi/w2.toml")) == "/home/pi/bundles"
    assert name(Path("w1.toml")) != name(Path("w2.toml"))
    check_node_id(name(Path("w1.toml")))


class Terminal:
    """A child on a terminal of its own."""

    def __init__(self, *command: str):
        self._fd, child_end = pty.openpty()
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=child_end, stdout=child_end,
                                        stderr=child_end, start_new_session=True)
        os.close(child_end)
        self.text = ""

    def expect(self, words: str, timeout_s: float = 30.0) -> None:
        limit_s = time.monotonic() + timeout_s
        while words not in self.text:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, limit_s - time.monotonic()))
            assert ready, f"{words!r} did not come; there was:\n{self.text}"
            try:
                self.text += os.read(self._fd, 65_536).decode(errors="replace")
            except OSError:                       # the child's end is closed
                assert words in self.text, self.text

    def answer(self, question: str, text: str) -> None:
        self.expect(question)
        self.text = ""
        os.write(self._fd, text.encode() + b"\n")

    def close(self) -> int:
        self.process.kill() if self.process.poll() is None else None
        os.close(self._fd)
        return self.process.wait(30)


def test_init_asks_on_a_terminal_and_asks_again(tmp_path, bundle):
    path = tmp_path / "agent.toml"
    terminal = Terminal(sys.executable, "-m", "edge_agent.cli", "init", "-o", str(path))
    try:
        terminal.answer("Id, this device's name", "a/b")
        terminal.expect("wanted 1 to 64")
        terminal.answer("Id, this device's name", "pi-gate")
        terminal.answer("Broker, mqtts://HOST", "mqtt://192.0.2.9")
        terminal.expect("would send everything in the clear")
        terminal.answer("Broker, mqtts://HOST", "")
        terminal.answer("User name", "pi-gate")
        terminal.answer("File that holds the password", "$CREDENTIALS_DIRECTORY/secrets_mqtt")
        terminal.answer("The bundle", str(bundle))
        terminal.answer("Where frames come from", "tape")
        terminal.expect("one of none, file")
        terminal.answer("Where frames come from", "file")
        terminal.answer("Its file, folder or device", "")
        terminal.expect("needs a path")
        terminal.answer("Its file, folder or device", str(bundle))
        terminal.answer("Look at this machine and the broker now?", "n")
        terminal.expect(f"next: edge-agent doctor -c {path}")
        terminal.process.wait(30)
    finally:
        code = terminal.close()
    assert code == 0
    config = load_config(str(path))
    assert (config.id, config.source.path) == ("pi-gate", str(bundle))
    assert config.broker.url == "mqtt://127.0.0.1:1883"
    with pytest.raises(ConfigError, match="password_file"):
        config.broker.options()


def test_the_example_of_the_package_is_no_ones_work(tmp_path):
    from split_core.settings.init import is_example

    (tmp_path / "share/edge-agent").mkdir(parents=True)
    (tmp_path / "share/edge-agent/edge-agent.toml").write_text("# example\n")
    there = tmp_path / "edge-agent.toml"
    assert not is_example(there, "edge-agent", tmp_path / "share")
    there.write_text("# example\n")
    assert is_example(there, "edge-agent", tmp_path / "share")
    assert not is_example(there, "cloud-worker", tmp_path / "share")
    there.write_text('# example\nid = "pi-door"\n')
    assert not is_example(there, "edge-agent", tmp_path / "share")
