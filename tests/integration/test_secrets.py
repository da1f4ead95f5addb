"""Secrets are planted wherever a program may hold one; then all it says is searched for them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from split_core.session import BrokerOptions, TlsOptions
from split_core.wire.chunks import pull_chunk
from tests.crypto.making import keys_file
from tests.service.fake_systemd import FakeSystemd
from tests.support.authority import Authority, Certificate
from tests.support.brokers import Mosquitto, free_port
from tests.support.rig import ROOT, wait_until
from tests.support.secured import User

SEAL_KEY = bytes(range(200, 232))


@dataclass
class Secrets:
    """What nobody may see, by what it is."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, text: str) -> str:
        assert len(text) >= 12
        self.texts[what] = text
        return text

    def add_key_file(self, what: str, path: Path) -> None:
        """A line from the middle of a key in PEM, and its bytes."""
        lines = path.read_text().splitlines()
        self.add(f"{what} (a line)", lines[1][8:48])
        self.add(f"{what} (its bytes)", base64.b64decode("".join(lines[1:-1]))[40:60].hex())

    def found_in(self, where: str, data: bytes | str) -> list[str]:
        """Which of them are there, also as JSON, URLs, base64 or hexadecimal digits write them."""
        if isinstance(data, str):
            data = data.encode()
        found = []
        for what, text in self.texts.items():
            raw = text.encode()
            forms = {raw, json.dumps(text)[1:-1].encode(), urllib.parse.quote(text).encode(),
                     urllib.parse.quote_plus(text).encode(), raw.hex().encode(),
                     repr(text)[1:-1].encode()}
            # Of base64 the inner part, which is the same wherever it begins at a third byte.
            forms |= {base64.b64encode(raw[at:])[2:-4] for at in range(3) if len(raw) > 14 + at}
            with contextlib.suppress(ValueError):
                forms.add(bytes.fromhex(text))
            if any(form in data for form in forms):
                found.append(f"{what} in {where}")
        return found


def test_the_search_finds_what_it_is_to_find():
    secrets = Secrets()
    text = secrets.add("a", 'pass"wörd/&+ of 30 bytes or so')
    for data in (text, json.dumps({"x": text}), "u=" + urllib.parse.quote(text), repr([text]),
                 text.encode().hex(), base64.b64encode(b"x" + text.encode() + b"yy"),
                 base64.b64encode(b"xy" + text.encode())):
        assert secrets.found_in("here", data) == ["a in here"], data
    assert not secrets.found_in("here", "password of 30 bytes or so")
    key = secrets.add("k", SEAL_KEY.hex())
    assert secrets.found_in("here", b"--" + SEAL_KEY + b"--") and secrets.found_in("h", key.upper().lower())


class Planted:
    """A broker with passwords and certificates, an agent and a worker with every kind of secret."""

    def __init__(self, folder: Path, bundle: Path):
        self.folder, self.secrets = folder, Secrets()
        add = self.secrets.add
        ca, self.ca_file = Authority(folder), folder / "ca.pem"
        server = ca.server()
        self.certificates: dict[str, Certificate] = {u: ca.client(u) for u in ("door", "w1")}
        for user, certificate in self.certificates.items():
            self.secrets.add_key_file(f"the TLS key of {user}", certificate.key)
        self.passwords = {
            "door": add("the device's password", 'canary-door "7f&3%" x'),
            "w1": add("the worker's password", "canary-worker-9a2b4c"),
            "auditor": "not a canary"}
        self.environment = add("a variable of somebody else's", "canary-environment-51d0")
        self.camera_url = add("a camera's login", "canary-camera-login-e6")
        add("the seal key (base64)", base64.b64encode(SEAL_KEY).decode())
        add("the seal key (its bytes)", SEAL_KEY.hex())
        self.keys = keys_file(folder, f"fleet {base64.b64encode(SEAL_KEY).decode()}")
        self.broker = Mosquitto(folder, tls=None, users=self.passwords)
        text = self.broker._config.read_text()
        self.broker._config.write_text(
            text + f"certfile {server.cert}\nkeyfile {server.key}\ncafile {self.ca_file}\n")
        self.url = f"mqtts://127.0.0.1:{self.broker.port}"
        picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(picture).save(folder / "frame.png")
        self.ports = {"w1": free_port(), "door": free_port()}
        self.configs = {"door": self._device(bundle), "w1": self._worker()}

    def _broker(self, user: str, password: bool) -> str:
        """The device's password is in a file, the worker's in the environment."""
        made = self.certificates[user]
        text = (f'[broker]\nurl = "{self.url}"\nusername = "{user}"\nca_file = "{self.ca_file}"\n'
                f'cert_file = "{made.cert}"\nkey_file = "{made.key}"\n')
        if password:
            path = self.folder / f"{user}.password"
            path.touch(mode=0o600)
            path.write_text(self.passwords[user] + "\n")
            text += f'password_file = "{path}"\n'
        return text + f'[seal]\nkeys_file = "{self.keys}"\n'

    def _device(self, bundle: Path) -> Path:
        path = self.folder / "door.toml"
        path.write_text(
            f'id = "door"\nstate_dir = "{self.folder}/state-door"\n[model]\nbundle = "{bundle}"\n'
            + self._broker("door", password=True)
            + '[plan]\ncut = 1\nrung = "raw"\n[frame]\ndeadline_ms = 2000\nmax_fps = 10\n'
            f'[source]\nkind = "file"\npath = "{self.folder}/frame.png"\nloop = true\n'
            f'[homeassistant]\nenabled = true\n[metrics]\nlisten = "127.0.0.1:{self.ports["door"]}"\n'
            f'[result]\njournal = "{self.folder}/results.jsonl"\n')
        return path

    def _worker(self) -> Path:
        path = self.folder / "w1.toml"
        path.write_text(
            f'id = "w1"\nstate_dir = "{self.folder}/state-w1"\n' + self._broker("w1", password=False)
            + f'[store]\npath = "{self.folder}/store"\n'
            f'[status]\nlisten = "127.0.0.1:{self.ports["w1"]}"\n')
        return path

    def env(self, user: str) -> dict[str, str]:
        env = os.environ | {"SOMEBODY_ELSES_TOKEN": self.environment}
        if user == "w1":
            env["MQTT_PASSWORD"] = self.passwords["w1"]
        return env

    def program(self, user: str) -> list[str]:
        return [sys.executable, "-m", "edge_agent.cli" if user == "door" else "cloud_side.cli"]

    def command(self, user: str, *args: str | Path) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self.program(user), *map(str, args)], cwd=ROOT, timeout=180,
                              capture_output=True, env=self.env(user))

    @contextlib.contextmanager
    def running(self, user: str, systemd: FakeSystemd) -> Iterator[subprocess.Popen]:
        log = (self.folder / f"{user}.log").open("ab")
        process = subprocess.Popen(
            [*self.program(user), "run", "-v", "-c", str(self.configs[user])], cwd=ROOT,
            stdout=log, stderr=log, env=self.env(user) | {"NOTIFY_SOCKET": systemd.address})
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
            log.close()

    def log(self, user: str) -> str:
        return (self.folder / f"{user}.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def planted(tmp_path_factory, camera) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"), camera.bundle)


def command_lines() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):           # it has ended
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)


def fetch(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
        return reply.read(200_000) if path != "/live" else reply.read1(100_000)


def test_no_secret_is_in_anything_that_running_programs_say(planted, tmp_path):
    secrets, leaks = planted.secrets, []
    auditor_options = BrokerOptions.from_url(
        planted.url, tls=TlsOptions(planted.ca_file), username="auditor",
        password=planted.passwords["auditor"])
    with (planted.broker, FakeSystemd(str(tmp_path / "notify")) as systemd,
          planted.running("w1", systemd) as worker, planted.running("door", systemd) as agent):
        auditor = User(auditor_options, "auditor", "#").start()
        try:
            results = lambda: [json.loads(s.payload) for s in auditor.seen    # noqa: E731
                               if s.topic == "si/v1/door/up/result"]
            wait_until(lambda: sum(r["outcome"] == "remote" for r in results()) >= 5, 30,
                       "remote answers: " + planted.log("door")[-500:])
            # The secrets are in use: sealed, over TLS, by password.
            assert all(pull_chunk(s.payload).sealed for s in auditor.seen if "/in/" in s.topic)
            for name in ("health", "reload", "bounds", "unknown"):
                assert auditor.may_write(f"si/v1/door/dn/cmd/{name}", b'{"id": "1-%s"}' % name.encode())
            wait_until(lambda: sum("/up/reply/" in s.topic for s in auditor.seen) >= 4, 20, "replies")
            # A reload that fails over a file with a secret in it, and one that works.
            good = planted.configs["door"].read_text()
            bad_url = planted.url.replace("//", f"//door:{urllib.parse.quote(planted.passwords['door'])}@")
            planted.configs["door"].write_text(good.replace(planted.url, bad_url))
            agent.send_signal(signal.SIGHUP)
            wait_until(lambda: re.search(r"password.*(file|environment)", planted.log("door")), 20,
                       "the refusal of the bad file")
            planted.configs["door"].write_text(good)
            for process in (agent, worker):
                process.send_signal(signal.SIGHUP)
            for path in ("/", "/fleet.json", "/history.json", "/metrics", "/healthz", "/readyz", "/live"):
                with contextlib.suppress(urllib.error.HTTPError):
                    leaks += secrets.found_in(f"the worker's {path}", fetch(planted.ports["w1"], path))
            metrics = fetch(planted.ports["door"], "/metrics")
            assert b"# TYPE" in metrics
            leaks += secrets.found_in("the agent's metrics", metrics)
            leaks += secrets.found_in("process arguments", command_lines())
            assert "edge_agent.cli" in command_lines()
            # Everything, retained or not; the retained records are asked for once more.
            later = User(auditor_options, "auditor", "#").start()
            wait_until(lambda: "si/v1/door/up/plan" in later.topics, 10, "the retained records")
            assert {"si/v1/door/up/info", "si/v1/door/up/status", "si/v1/_pool/w1/up/info",
                    "homeassistant/device/door/config"} <= later.topics
            later.stop()
            for seen in [*auditor.seen, *later.seen]:
                leaks += secrets.found_in(seen.topic, seen.topic + " " + repr(seen.payload))
                leaks += secrets.found_in(seen.topic, seen.payload)
        finally:
            auditor.stop()
        time.sleep(0.5)                      # for the reloads' lines in the logs
    for user in ("door", "w1"):
        assert "event=" in planted.log(user)
        leaks += secrets.found_in(f"the log of {user}", planted.log(user))
    assert systemd.said("STATUS")
    leaks += secrets.found_in("systemd's status", repr([(w.key, w.value) for w in systemd.words]))
    for path in [*planted.folder.glob("state-*/**/*"), *planted.folder.glob("store/**/*"),
                 planted.folder / "results.jsonl"]:
        if path.is_file():
            leaks += secrets.found_in(f"the file {path.name}", path.read_bytes())
    assert not leaks, sorted(set(leaks))


@pytest.mark.parametrize("user", ["door", "w1"])
def test_no_secret_is_in_what_commands_print(planted, user, tmp_path):
    config, leaks = planted.configs[user], []
    archive = tmp_path / "report.tar.gz"
    with planted.broker:
        for args in (("config", "show", "-c", config), ("config", "show", "-c", config, "--sources"),
                     ("config", "show", "-c", config, "--sources", "--json"), ("check-config", config),
                     ("doctor", "-c", config), ("doctor", "-c", config, "--json"),
                     ("diag", "-c", config, "-o", archive)):
            run = planted.command(user, *args)
            assert len(run.stdout) > 20, (args, run.stderr)
            assert b"Traceback" not in run.stderr, run.stderr
            leaks += planted.secrets.found_in(" ".join(map(str, args[:2])), run.stdout + run.stderr)
            if args[0] == "doctor":
                assert str(planted.broker.port).encode() in run.stdout, "it did look at the broker"
    with tarfile.open(archive) as tar:
        parts = {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}
    assert any(b"password" in part or b"cert_file" in part for part in parts.values()), parts.keys()
    for name, part in parts.items():
        leaks += planted.secrets.found_in(f"diag's {name}", part)
    assert not leaks, sorted(set(leaks))


@pytest.mark.check
def test_no_secret_of_a_url_is_printed(planted, tmp_path):
    """Where people put them though they should not, or where they belong: a camera's."""
    leaks, secrets = [], planted.secrets
    good = planted.configs["door"].read_text()
    password = urllib.parse.quote(planted.passwords["door"])
    stream = f"rtsp://admin:{planted.camera_url}@192.0.2.7/stream"
    variants = {
        "a camera's login": good.replace('kind = "file"', 'kind = "camera"').replace(
            f"{planted.folder}/frame.png", stream),
        "a broker's login": good.replace("mqtts://", f"mqtts://door:{password}@"),
        "a broken url": good.replace("mqtts://", f"mqtts://door:{password}#@"),
        "a query": good.replace(planted.url, f"{planted.url}/?password={password}"),
        "a wrong type": good.replace(f'url = "{planted.url}"', f'url = ["{planted.url}?{password}"]'),
        "a broken file": good.replace("[broker]", f'[broker\npassword = "{password}"'),
        "an unknown key": good.replace("[broker]", f'[broker]\npassword = "{password}"'),
    }
    with planted.broker:
        for what, text in variants.items():
            path = tmp_path / "variant.toml"
            path.write_text(text)
            for args in (("config", "show", "-c", path, "--sources"), ("check-config", path),
                         ("doctor", "-c", path, "--json"), ("diag", "-c", path, "-o", tmp_path / "d.tar.gz")):
                run = planted.command("door", *args)
                assert b"Traceback" not in run.stderr, run.stderr
                leaks += secrets.found_in(f"{args[0]}, {what}", run.stdout + run.stderr)
                if args[0] == "diag" and (tmp_path / "d.tar.gz").exists():
                    with tarfile.open(tmp_path / "d.tar.gz") as tar:
                        for member in tar.getmembers():
                            if member.isfile():
                                leaks += secrets.found_in(f"diag, {what}: {member.name}",
                                                          tar.extractfile(member).read())
            if what != "a camera's login":
                run = planted.command("door", "run", "-v", "-c", path)
                assert run.returncode == 78, (what, run.stderr)
                leaks += secrets.found_in(f"run, {what}", run.stdout + run.stderr)
    assert not leaks, sorted(set(leaks))
