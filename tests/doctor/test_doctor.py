"""The command as scripts use it: silent on a healthy device, and each planted fault found with
its remedy. Real mosquitto with TLS, logins and the ACL file of integrations/, a real worker."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from cloud_side.cli import main as cloud_worker
from edge_agent.cli import main as edge_agent
from split_core.diag import write as write_archive
from split_core.doctor.broker import read_retained
from split_core.doctor.command import Progress
from split_core.errors import UsageError
from split_core.model.bundle import open_bundle
from split_core.session import BrokerOptions, TlsOptions
from split_lab.split import split_model
from tests.doctor.planting import certificate, plant
from tests.support import tiny_models
from tests.support.brokers import Mosquitto, make_certificates
from tests.support.rig import WorkerProcess, wait_until

ROOT = Path(__file__).resolve().parents[2]
CANARY = "hunter2-canary-77"
# Of the machine that the tests run on; nothing can be planted for the worker.
HOSTS_OWN = {"clock", "governor", "memory cgroup", "memory ceiling", "disk", "store disk"}


class Place:
    """A device's host, its broker and a worker, all well."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack):
        self.folder = folder
        make_certificates(folder)
        certificate(folder, begin="20200101000000Z", end="20510101000000Z")
        (folder / "names").write_text("device pi\nworker w1\nviewer eye\n")
        acl = subprocess.run([sys.executable, ROOT / "integrations/mosquitto/make_acl.py",
                              folder / "names"], capture_output=True, text=True, check=True).stdout
        (folder / "acl").write_text(acl)
        (folder / "acl").chmod(0o600)
        self.broker = stack.enter_context(Mosquitto(
            folder, ("set_tcp_nodelay true", f"acl_file {folder / 'acl'}"), tls=folder,
            users={"pi": CANARY, "w1": "the-worker's", "eye": "sees"}))
        model = folder / "skip.tflite"
        model.write_bytes(tiny_models.skip_model())
        self.bundle = folder / "skip.split.tflite"
        self.bundle.write_bytes(split_model(str(model), cuts="all"))
        self.tree = plant(folder / "root")
        self.secret = folder / "password"
        self.secret.write_text(CANARY + "\n")
        self.secret.chmod(0o600)
        (folder / "worker-password").write_text("the-worker's\n")
        (folder / "worker-password").chmod(0o600)
        self.worker_file = folder / "worker.toml"
        self.worker_file.write_text(self._broker("w1", folder / "worker-password") + (
            f'[store]\npath = "{folder}/store-w1"\n'))
        self.file = folder / "agent.toml"
        self.write()

    def _broker(self, user: str, password: Path) -> str:
        return (f'id = "{user}"\nstate_dir = "{self.folder}/state-{user}"\n[broker]\n'
                f'url = "mqtts://127.0.0.1:{self.broker.port}"\nca_file = "{self.folder}/ca.pem"\n'
                f'username = "{user}"\npassword_file = "{password}"\n')

    def write(self, more: str = "") -> None:
        self.file.write_text(self._broker("pi", self.secret) + (
            f'[model]\nbundle = "{self.bundle}"\n[sensors]\nroot = "{self.tree}"\n') + more)

    def start_worker(self, stack: contextlib.ExitStack) -> None:
        store = self.folder / "store-w1"
        store.mkdir()
        (store / f"{open_bundle(self.bundle).id_hex}.split.tflite").write_bytes(
            self.bundle.read_bytes())
        worker = WorkerProcess(self.folder, f"mqtts://127.0.0.1:{self.broker.port}", "w1", "-c",
                               str(self.worker_file))
        stack.callback(worker.stop)
        worker.start()

        def holds() -> bool:
            found = {f["check"]: f for f in self.look()[1]}
            return "w1 holds" in found["worker"]["found"]
        wait_until(holds, 40.0, f"a worker that holds the bundle:\n{worker.log()}")

    def look(self) -> tuple[int, list[dict]]:
        """Exit code and findings."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = edge_agent(["doctor", "-c", str(self.file), "--json"])
        return code, json.loads(out.getvalue())

    def fault(self, check: str) -> dict:
        """The one thing that is wrong now."""
        code, found = self.look()
        (fault,) = [f for f in found if f["state"] != "ok"]
        assert fault["check"] == check and code == (1 if fault["state"] == "fail" else 0)
        return fault


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        place = Place(tmp_path_factory.mktemp("place"), stack)
        place.start_worker(stack)
        yield place


@pytest.fixture
def place(shared):
    """The healthy place, as it was before whatever a test does to it."""
    kept = {path: (path.read_bytes(), path.stat().st_mode) for path in (
        shared.file, shared.bundle, shared.secret)}
    yield shared
    for path, (data, mode) in kept.items():
        path.write_bytes(data)
        path.chmod(mode)
    plant(shared.tree)


def test_a_healthy_device_gives_no_warning(place, capfd):
    begun_s = time.monotonic()
    code, found = place.look()
    took_s = time.monotonic() - begun_s
    assert code == 0 and {f["state"] for f in found} == {"ok"}, found
    assert all(list(f) == ["check", "state", "found", "remedy"] and f["remedy"] == ""
               for f in found)
    assert [f["check"] for f in found] == [
        "configuration", "secrets", "kernels", "runtime", "bundle", "memory ceiling",
        "memory cgroup", "pressure", "clock", "governor", "state", "disk", "supply", "throttling",
        "temperature", "source", "broker reached", "certificate", "login", "own branch",
        "own inbox", "packet size", "40 ms trap", "worker"]
    assert took_s < 15.0                       # two seconds when nothing else runs
    assert edge_agent(["doctor", "-c", str(place.file)]) == 0
    out, error = capfd.readouterr()
    assert f"{len(found)} checks, all ok" in out and "\033" not in out and "-->" not in out
    assert error == "" and CANARY not in out


def test_it_leaves_nothing_at_the_broker(place):
    options = BrokerOptions.from_url(
        f"mqtts://127.0.0.1:{place.broker.port}", tls=TlsOptions(place.folder / "ca.pem"),
        username="eye", password="sees")
    place.look()
    kept = read_retained(options, "eye", "si/v1/#")
    assert "si/v1/_pool/w1/up/status" in kept and not [t for t in kept if "si/v1/pi/" in t]


def test_a_bundle_that_is_damaged(place):
    place.bundle.write_bytes(place.bundle.read_bytes()[:-7])
    fault = place.fault("bundle")
    assert fault["state"] == "fail" and "edge-agent split" in fault["remedy"]


def test_a_password_that_all_may_read(place):
    place.secret.chmod(0o644)
    fault = place.fault("secrets")
    assert fault["state"] == "warn" and f"chmod o-rwx {place.secret}" in fault["remedy"]


def test_a_bundle_that_root_alone_may_read(place):
    if os.geteuid():
        pytest.skip("needs root")
    place.bundle.chmod(0o600)
    assert f"chmod a+r {place.bundle}" in place.fault("bundle rights")["remedy"]


def test_secrets_that_the_unit_hands_over_are_found_from_outside(place, capfd, monkeypatch):
    """As in the package: the configuration names $CREDENTIALS_DIRECTORY, root runs the doctor."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    place.file.write_text(place.file.read_text().replace(
        str(place.secret), "$CREDENTIALS_DIRECTORY/secrets_mqtt-password"))
    code, found = place.look()
    assert code == 1
    assert {f["check"] for f in found if f["state"] != "ok"} == {"secrets", "login"}
    folder = place.folder / "secrets"
    folder.mkdir(mode=0o700)
    place.secret.rename(folder / "mqtt-password")
    try:
        code, found = place.look()
        assert code == 0 and {f["state"] for f in found} == {"ok"}, found
        assert edge_agent(["check-config", "--strict", str(place.file)]) == 0
        assert "CREDENTIALS_DIRECTORY" not in os.environ
    finally:
        (folder / "mqtt-password").rename(place.secret)
        folder.rmdir()


def test_a_password_that_is_wrong(place):
    place.secret.write_text("wrong\n")
    assert "mosquitto_passwd" in place.fault("login")["remedy"]


def test_a_password_file_that_is_not_there(place):
    place.write()
    place.file.write_text(place.file.read_text().replace(str(place.secret), "/none/password"))
    code, found = place.look()
    faults = {f["check"]: f for f in found if f["state"] != "ok"}
    assert code == 1 and set(faults) == {"secrets", "login"}
    assert "No such file" in faults["secrets"]["found"]


def test_a_configuration_that_is_wrong_leaves_what_can_be_looked_at(place):
    place.write("[frame]\ndeadline_ms = 0.0\nmax_fps = -1.0\n")
    code, found = place.look()
    by_check = {f["check"]: f for f in found}
    assert code == 1 and by_check["configuration"]["state"] == "fail"
    assert "deadline_ms" in by_check["configuration"]["found"]
    assert "max_fps" in by_check["configuration"]["found"]
    assert "check-config" in by_check["configuration"]["remedy"]
    assert by_check["runtime"]["state"] == by_check["kernels"]["state"] == "ok"


def test_a_board_that_is_hot_and_throttled(place):
    plant(place.tree, {"sys/class/thermal/thermal_zone0/temp": "83000",
                       "sys/devices/platform/soc/soc:firmware/get_throttled": "4"})
    code, found = place.look()
    assert code == 0
    assert {f["check"] for f in found if f["state"] == "warn"} == {"throttling", "temperature"}


def test_a_worker_that_is_not_there_or_may_not_be_asked(place):
    place.write("[policy]\ntrusted_workers = [\"w2\"]\n")
    fault = place.fault("worker")
    assert fault["state"] == "warn" and "policy.trusted_workers" in fault["found"]
    place.file.write_text(place.file.read_text().replace('id = "pi"', 'id = "pi"\nroot = "other"'))
    code, found = place.look()
    by_check = {f["check"]: f for f in found}
    assert "none is connected below other/_pool" in by_check["worker"]["found"]
    assert by_check["own branch"]["state"] == "fail"      # the ACL is for another root


def test_without_numpy_the_doctor_still_speaks(place, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('libopenblas.so.0: cannot open')\n")
    child = subprocess.run(
        [sys.executable, "-m", "edge_agent.cli", "doctor", "-c", str(place.file), "--json"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True, text=True, timeout=60)
    by_check = {f["check"]: f for f in json.loads(child.stdout)}
    assert child.returncode == 1, child.stderr
    assert by_check["runtime"]["state"] == "fail" and "libopenblas" in by_check["runtime"]["found"]
    assert by_check["configuration"]["state"] == "fail" and "state" in by_check


def test_a_healthy_worker(place, capfd):
    assert cloud_worker(["doctor", "-c", str(place.worker_file), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert {f["state"] for f in found if f["check"] not in HOSTS_OWN} == {"ok"}
    by_check = {f["check"]: f for f in found}
    assert by_check["bundles"]["found"] == "1 in the store"
    assert {"runtime", "kernels", "login", "own inbox", "40 ms trap"} <= set(by_check)


def test_a_worker_that_can_serve_nothing(place, tmp_path, capfd):
    text = place.worker_file.read_text().replace(f"{place.folder}/store-w1", str(tmp_path / "x"))
    file = tmp_path / "w.toml"
    file.write_text(text + "accept_from_devices = false\n")
    assert cloud_worker(["doctor", "-c", str(file), "--json"]) == 0
    by_check = {f["check"]: f for f in json.loads(capfd.readouterr().out)}
    assert by_check["bundles"]["state"] == "warn"
    assert "accept_from_devices" in by_check["bundles"]["remedy"]


def test_progress_only_after_a_while():
    now_s, out = [0.0], io.StringIO()
    progress = Progress(clock=lambda: now_s[0], out=out)
    progress("runtime")
    now_s[0] = 1.9
    progress("memory")
    assert out.getvalue() == ""
    now_s[0] = 2.1
    progress("broker")
    progress.end()
    assert out.getvalue() == "\r\033[K... broker\r\033[K"


# -- diag

def members(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {m.name.partition("/")[2]: archive.extractfile(m).read().decode()
                for m in archive.getmembers()}


def test_diag_has_what_a_bug_report_needs_and_no_secret(place, tmp_path, capfd, monkeypatch):
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "journalctl").write_text(
        "#!/bin/sh\necho \"args $*\"\necho 'event=x password=\"oops\" url=mqtt://u:p@h'\n"
        f"echo 'someone logged {CANARY} as it is'\n")
    (bin / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")
    (place.folder / "state-pi/profiles").mkdir(parents=True, exist_ok=True)
    (place.folder / "state-pi/profiles/abc-Pi-litert-1.json").write_text("{}")
    output = tmp_path / "d.tar.gz"
    assert edge_agent(["diag", "-c", str(place.file), "-o", str(output)]) == 0
    out, _ = capfd.readouterr()
    found = members(output)
    assert list(found) == ["versions.json", "settings.toml", "doctor.json", "host.txt", "log.txt",
                           "profiles.txt", "plan.txt"]
    assert all(name in out for name in found) and str(output) in out
    assert CANARY not in "".join(found.values()) + out
    assert "oops" not in found["log.txt"] and "u:p@" not in found["log.txt"]
    assert "args --unit edge-agent" in found["log.txt"] and "as it is" in found["log.txt"]
    assert json.loads(found["versions.json"])["libraries"]["numpy"]
    assert {f["state"] for f in json.loads(found["doctor.json"])} == {"ok"}
    assert "agent.toml:" in found["settings.toml"] and "abc-Pi-litert-1" in found["profiles.txt"]
    assert "plan" in found["plan.txt"]
    assert output.stat().st_mode & 0o777 == 0o600


def test_an_archive_is_for_its_owner_alone_and_where_it_was_asked_for(tmp_path):
    there, link, other = tmp_path / "a.tar.gz", tmp_path / "b.tar.gz", tmp_path / "other"
    for file in (there, other):
        file.write_text("of before")
        file.chmod(0o644)
    link.symlink_to(other)
    write_archive(there, "a", {"x.txt": lambda: "x\n"}, [])
    assert there.stat().st_mode & 0o777 == 0o600 and members(there) == {"x.txt": "x\n"}
    with pytest.raises(UsageError, match="cannot write .*b.tar.gz"):
        write_archive(link, "b", {}, [])
    assert other.read_text() == "of before"


def test_diag_of_a_broken_configuration_and_of_a_worker(place, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place.write("[frame]\ndeadline_ms = 0.0\n")
    assert edge_agent(["diag", "-c", str(place.file)]) == 0
    (output,) = tmp_path.glob("edge-agent-diag-*.tar.gz")
    found = members(output)
    assert "deadline_ms is 0.0" in found["settings.toml"] and found["host.txt"].startswith("Linux")
    assert cloud_worker(["diag", "-c", str(place.worker_file), "-o", "w.tar.gz"]) == 0
    found = members(tmp_path / "w.tar.gz")
    assert ".split.tflite" in found["bundles.txt"] and "the-worker's" not in "".join(found.values())
    capfd.readouterr()
    assert edge_agent(["diag", "-c", str(place.file), "-o", "/none/x.tar.gz"]) == 64
    assert "cannot write /none/x.tar.gz" in capfd.readouterr().err
