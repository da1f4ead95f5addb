"""The units, by systemd's own judgement where it is installed, and by what is promised of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from split_core import errors

UNITS = Path(__file__).resolve().parents[2] / "systemd"
NAMES = ["edge-agent.service", "cloud-worker@.service"]
# 2.0 of 10; mosquitto's and telegraf's own units have 9.2.
MOST_EXPOSURE = "20"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def lines(name: str) -> list[tuple[str, str]]:
    pairs = [line.partition("=") for line in (UNITS / name).read_text().splitlines()
             if "=" in line and not line.startswith("#")]
    return [(key, value) for key, _, value in pairs]


def setting(name: str, key: str) -> str:
    [value] = [v for k, v in lines(name) if k == key]
    return value


def instance(name: str) -> str:
    return name.replace("@.", "@w1.")


@pytest.fixture
def root(tmp_path) -> Path:
    """A root file system that has what the units start: those programs need not be installed
    here for the units to be judged."""
    units = Path("/usr/lib/systemd/system")
    if not (units / "sysinit.target").exists():
        pytest.skip("the targets of systemd are not installed")
    here = tmp_path / "root/usr/lib/systemd/system"
    shutil.copytree(units, here, symlinks=True)
    for name in NAMES:
        shutil.copy(UNITS / name, here / name)
    programs = tmp_path / "root/usr/bin"
    programs.mkdir(parents=True)
    for program in ("edge-agent", "cloud-worker", "kill"):
        (programs / program).write_text("#!/bin/sh\n")
        (programs / program).chmod(0o755)
    (tmp_path / "root/bin").symlink_to("usr/bin")
    (tmp_path / "root/lib").symlink_to("usr/lib")
    return tmp_path / "root"


def verify(root: Path) -> subprocess.CompletedProcess:
    # Not the man pages: those of this machine would be looked for.
    return subprocess.run([ANALYZE, "verify", f"--root={root}", "--man=no",
                           *map(instance, NAMES)], capture_output=True, text=True)


@needs_systemd
def test_they_verify_without_a_word(root):
    done = verify(root)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("spoil, words", [
    (lambda root: (root / "usr/bin/edge-agent").unlink(), "/usr/bin/edge-agent is not executable"),
    (lambda root: (root / "usr/lib/systemd/system/edge-agent.service").write_text(
        (UNITS / "edge-agent.service").read_text().replace("ProtectClock", "ProtectClocks")),
     "ProtectClocks"),
])
def test_verifying_finds_what_is_wrong(root, spoil, words):
    spoil(root)
    done = verify(root)
    assert words in done.stdout + done.stderr


def exposure(unit: Path) -> subprocess.CompletedProcess:
    return subprocess.run([ANALYZE, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}",
                           "--no-pager", str(unit)], capture_output=True, text=True)


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_their_exposure_is_two_or_better(name, tmp_path):
    unit = tmp_path / instance(name)
    shutil.copy(UNITS / name, unit)
    done = exposure(unit)
    assert done.returncode == 0, done.stdout
    [found] = re.findall(r"Overall exposure level.*: ([0-9.]+)", done.stdout)
    print(name, found)
    assert float(found) <= 2.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wall", [
    "ProtectSystem=strict", "ProtectHome=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=",
    "MemoryDenyWriteExecute=yes", "DevicePolicy=closed", "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources", "RestrictNamespaces=yes", "LimitCORE=0",
    "ProtectProc=invisible", "UMask=0077"])
def test_each_wall_stands_by_itself(name, wall):
    """One of them could go, and the exposure would still be under two."""
    key, _, value = wall.partition("=")
    assert (key, value) in lines(name)


@needs_systemd
def test_a_unit_without_hardening_does_not_pass(tmp_path):
    unit = tmp_path / "bare.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(unit).returncode != 0


@pytest.mark.parametrize("name", NAMES)
def test_what_no_restart_cures_is_what_the_errors_say(name):
    table = re.findall(r"^ +(\d+)  .*(leaves it|starts it anew)$", errors.__doc__, re.M)
    left = {int(code) for code, what in table if what == "leaves it"} - {0}
    prevented = {int(code) for code in setting(name, "RestartPreventExitStatus").split()}
    assert prevented == left == {64, 65, 66, 77, 78}
    assert setting(name, "Restart") == "on-failure"


def test_every_exit_code_is_in_the_table():
    table = dict(re.findall(r"^ +(\d+)  (\w*)", errors.__doc__, re.M))
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.SplitError):
            assert str(error.exit_code) in table, error
    assert table["75"] == "MemoryExceeded" and errors.MemoryExceeded.exit_code == 75


@pytest.mark.parametrize("name", NAMES)
def test_they_run_on_systemd_252(name):
    """Debian 12 and Raspberry Pi OS. Nothing here was added later."""
    later = {"RestartSteps", "RestartMaxDelaySec", "ImportCredential", "MemoryZSwapMax",
             "OpenFile", "CoredumpReceive", "PrivatePIDs", "ProtectHostnameEx"}
    found = lines(name)
    assert not later & {key for key, _ in found}
    assert setting(name, "Type") == "notify", "notify-reload came with 253"
    assert ("NotifyAccess", "main") in found and ("WatchdogSec", "30s") in found


@pytest.mark.parametrize("name, config", [("edge-agent.service", "/etc/edge-agent/edge-agent.toml"),
                                          ("cloud-worker@.service", "/etc/cloud-worker/%i.toml")])
def test_one_file_is_started_with_and_checked(name, config):
    assert setting(name, "ExecStart").endswith(f"run --config {config}")
    reloads = [value for key, value in lines(name) if key == "ExecReload"]
    assert reloads[0] == "/bin/kill -HUP $MAINPID"
    assert reloads[1].endswith(f"check-config {config}")
    # RestartPreventExitStatus= looks at the main process only: one of these would loop for ever.
    assert not [key for key, _ in lines(name) if key == "ExecStartPre"]


@pytest.mark.parametrize("name", NAMES)
def test_secrets_come_from_a_directory_that_is_made_for_root(name):
    made = "/etc/" + setting(name, "ConfigurationDirectory")
    assert setting(name, "ConfigurationDirectoryMode") == "0700"
    assert setting(name, "LoadCredential") == f"secrets:{made}/"
    assert setting(name, "DynamicUser") == "yes" and setting(name, "StateDirectoryMode") == "0700"


def test_examples_say_where_secrets_are():
    for toml, folder in (("edge-agent.toml", "/etc/edge-agent/secrets/"),
                         ("cloud-worker.toml", "/etc/cloud-worker/w1.secrets/")):
        text = (UNITS / toml).read_text()
        assert folder in text
        named = re.findall(r'"\$CREDENTIALS_DIRECTORY/(\w+)', text)
        assert named and all(n.startswith("secrets_") for n in named)


MDWE = textwrap.dedent("""
    import ctypes, mmap, sys
    sys.path.insert(0, "ROOT")
    import numpy as np
    from split_core.model.bundle import open_bundle
    from split_core.model.runner import Runner

    PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        sys.exit(77)
    try:                                  # it is in force: such memory is refused
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        sys.exit(1)
    except PermissionError:
        pass
    bundle = open_bundle("BUNDLE")
    runner = Runner(bundle, runtime="RUNTIME", threads=2)
    inputs = {n: np.zeros(bundle.specs[n].shape, bundle.specs[n].dtype)
              for n in bundle.manifest.inputs}
    print(sorted(runner.run(inputs, 0, bundle.last_cut)))
""")


@pytest.mark.parametrize("runtime", ["litert", "tflite-runtime"])
def test_both_runtimes_run_where_no_memory_is_written_and_executed(runtime, tmp_path):
    """What MemoryDenyWriteExecute= asks for, by the kernel's own switch (since 6.3)."""
    from split_lab.split import split_model
    from tests.support import tiny_models

    pytest.importorskip("ai_edge_litert" if runtime == "litert" else "tflite_runtime")
    model, bundle = tmp_path / "m.tflite", tmp_path / "m.split.tflite"
    model.write_bytes(tiny_models.skip_model())
    bundle.write_bytes(split_model(model))
    code = (MDWE.replace("ROOT", str(UNITS.parent)).replace("BUNDLE", str(bundle))
            .replace("RUNTIME", runtime))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[")
