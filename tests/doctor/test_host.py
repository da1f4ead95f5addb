"""Faults of the host, planted in trees; and silence on a healthy one."""

from __future__ import annotations

import ctypes
import json
import os
import pwd  # noqa: F401 - loaded before as_nobody, who may not read the library
import subprocess
import tempfile
import warnings
from pathlib import Path

import pytest

from edge_agent.config import AgentConfig, ModelConfig, SourceConfig
from edge_agent.doctor import board, inputs
from edge_agent.policies.config import EnergyConfig
from edge_agent.sensors.config import SensorsConfig
from split_core.doctor import host
from split_core.doctor.findings import as_json, as_table, examine, exit_code, fail, ok, warn
from split_core.errors import ConfigError
from tests.doctor.planting import plant


def everything(root, max_mb=512):
    root = str(root)
    return [*host.check_memory(max_mb, root), *host.check_pressure(root),
            *host.check_clock(root), *host.check_governor(root), *board.check_throttling(root),
            *board.check_temperature(root, 70.0, 80.0)]


def test_a_healthy_tree_is_all_ok(tmp_path):
    found = everything(plant(tmp_path))
    assert [(f.check, f.state) for f in found] == [(name, "ok") for name in (
        "memory ceiling", "memory cgroup", "pressure", "clock", "governor", "supply",
        "throttling", "temperature")]
    assert all(f.found and not f.remedy for f in found)


@pytest.mark.parametrize("changes, check, words, remedy", [
    ({"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids"}, "memory cgroup", "void",
     "cgroup_enable=memory cgroup_memory=1  to the one line of /boot/firmware/cmdline.txt"),
    ({"sys/fs/cgroup/cgroup.controllers": None,
      "proc/cgroups": "#name hierarchy num enabled\nmemory 0 80 0\n"}, "memory cgroup", "off",
     "cgroup_enable=memory"),
    ({"sys/fs/cgroup/cgroup.controllers": "cpu", "boot/firmware/cmdline.txt": None},
     "memory cgroup", "off", "GRUB_CMDLINE_LINUX"),
    ({"proc/pressure/cpu": None}, "pressure", "off", "psi=1  to the one line of"),
    ({"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave"}, "governor",
     "cpu0 runs under powersave", "echo ondemand"),
    ({"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1"}, "supply", "under-voltage", "5.1 V"),
    ({"sys/devices/platform/soc/soc:firmware/get_throttled": "10001"}, "supply", "under-voltage",
     "short cable"),
    ({"sys/devices/platform/soc/soc:firmware/get_throttled": "4"}, "throttling", "slower",
     "heat sink"),
    ({"sys/devices/platform/soc/soc:firmware/get_throttled": "40000"}, "throttling",
     "since the board started", "heat sink"),
    ({"sys/class/thermal/thermal_zone0/temp": "74000"}, "temperature", "74 degrees C, over policy.soft_c",
     "fan"),
    ({"sys/class/thermal/thermal_zone0/temp": "85000"}, "temperature", "over policy.hard_c", "fan"),
    ({"proc/meminfo": "MemTotal: 400000 kB"}, "memory ceiling", "512, this machine has 390", "312"),
])
def test_planted_faults_are_found_with_their_remedy(tmp_path, changes, check, words, remedy):
    (found,) = [f for f in everything(plant(tmp_path, changes)) if f.state != "ok"]
    assert (found.check, found.state) == (check, "warn")
    assert words in found.found and remedy in found.remedy


def test_powersave_of_a_driver_that_means_ondemand_by_it(tmp_path):
    plant(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
                     "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "intel_pstate"})
    assert not list(host.check_governor(tmp_path))


def test_no_ceiling_at_all(tmp_path):
    assert [f.state for f in host.check_memory(0, plant(tmp_path))] == ["warn", "ok"]


@pytest.mark.parametrize("clock_s, told, marked, state, words", [
    (0.0, True, True, "fail", "1970-01-01"),
    (5e9, True, True, "fail", "2128"),
    (1.8e9, False, False, "warn", "kept by no time server"),
    (1.8e9, True, False, "ok", "kept by a time server"),
    (1.8e9, False, True, "ok", "kept by a time server"),
    (1.8e9, None, False, "ok", "not known"),
])
def test_clock(tmp_path, clock_s, told, marked, state, words):
    if marked:
        plant(tmp_path)
    (found,) = host.check_clock(tmp_path, clock=lambda: clock_s, kernel_synchronised=lambda: told)
    assert found.state == state and words in found.found
    assert ("timedatectl" in found.remedy) == (state != "ok")


def test_the_kernel_is_asked_for_its_clock():
    timex = ctypes.create_string_buffer(1024)
    wanted = ctypes.CDLL(None).adjtimex(timex)           # TIME_ERROR, 5: not synchronised
    if wanted < 0:
        assert host._kernel_synchronised() is None
    else:
        assert host._kernel_synchronised() == (wanted != 5)


@pytest.fixture
def open_folder():
    """One that another user may look into; pytest's own may not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def as_nobody(check) -> list[dict]:
    """What a check finds when another user runs it."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")               # of forking beside threads
        child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(write_end, as_json(check()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def test_a_state_folder_that_this_user_cannot_write_to(open_folder):
    if os.geteuid():
        pytest.skip("needs root, to become somebody else")
    state = open_folder / "state"
    state.mkdir(mode=0o755)
    (found,) = as_nobody(lambda: host.check_state_dir(state))
    assert (found["check"], found["state"]) == ("state", "fail")
    assert "cannot write to" in found["found"] and "sudo chown nobody" in found["remedy"]
    (first, *_) = host.check_state_dir(state)
    assert first.state == "ok"


def test_no_folder_above_the_state_folder_is_given_away(open_folder):
    if os.geteuid():
        pytest.skip("needs root, to become somebody else")
    (found,) = as_nobody(lambda: host.check_state_dir(open_folder / "not/there"))
    assert found["state"] == "fail" and "chown" not in found["remedy"]
    assert f"sudo install -d -o nobody {open_folder / 'not/there'}," in found["remedy"]


def test_a_state_folder_that_will_be_made(tmp_path):
    first, room = host.check_state_dir(tmp_path / "a/b")
    assert first.found.endswith("which will be made") and not (tmp_path / "a").exists()
    assert room.check == "disk"


@pytest.mark.parametrize("megabytes, filled, state", [(2, False, "fail"), (2, True, "fail"),
                                                      (64, False, "warn"), (512, False, "ok")])
def test_disk_full(tmp_path, megabytes, filled, state):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none",
                              str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        if filled:
            with pytest.raises(OSError):
                (tmp_path / "x").write_bytes(bytes(3 << 20))
        found = {f.check: f for f in host.check_state_dir(tmp_path)}
        assert found["disk"].state == state
        assert ("make room" in found["disk"].remedy) == (state != "ok")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def config(root, **sections):
    return AgentConfig(ModelConfig("m"), **{"sensors": SensorsConfig(root=str(root)), **sections})


def test_a_battery_that_is_configured_and_tells_nothing(tmp_path):
    root = plant(tmp_path)
    assert not list(board.check_battery(config(root)))          # none wanted, none missed
    (found,) = board.check_battery(config(root, energy=EnergyConfig(hours=8.0)))
    assert found.state == "fail" and "max17040" in found.remedy
    supply = root / "sys/class/power_supply/bat"
    supply.mkdir(parents=True)
    for name, text in (("type", "Battery"), ("capacity", "81"), ("status", "Discharging")):
        (supply / name).write_text(text)
    (found,) = board.check_battery(config(root, energy=EnergyConfig(hours=8.0)))
    assert (found.state, found.found) == ("ok", "81% left")


def test_a_ups_program_and_a_report_file(tmp_path):
    root, report = plant(tmp_path / "root"), tmp_path / "ups.json"

    def found(**sensors):
        (finding,) = board.check_battery(config(root, sensors=SensorsConfig(
            root=str(root), **sensors)))
        return finding

    assert "told no battery" in found(battery="exec", command=("/bin/false",)).found
    assert "is not there" in found(battery="file", path=str(report)).found
    report.write_text('{"battery_percent": 55}')
    assert found(battery="file", path=str(report)).state == "ok"
    os.utime(report, (1, 1))
    assert "older than 60 s" in found(battery="file", path=str(report)).found
    program = tmp_path / "ups"
    program.write_text("#!/bin/sh\necho '{\"battery_percent\": 55}'\n")
    program.chmod(0o755)
    assert found(battery="exec", command=(str(program),)).found == "55% left"


def test_sources(tmp_path, monkeypatch):
    def found(**source):
        return list(inputs.check_source(SourceConfig(**source)))

    (none,) = found(kind="none")
    assert none.state == "ok"
    (missing,) = found(kind="folder", path=str(tmp_path / "no"))
    assert missing.state == "fail" and "source.path" in missing.remedy
    (empty,) = found(kind="folder", path=str(tmp_path))
    assert empty.state == "warn" and "no pictures" in empty.found
    (tmp_path / "a.npy").touch()                  # which the source does not read
    assert found(kind="folder", path=str(tmp_path))[0].state == "warn"
    (tmp_path / "below").mkdir()
    (tmp_path / "below/a.JPG").write_bytes(b"x")
    (full,) = found(kind="folder", path=str(tmp_path))
    assert full.state == "ok"
    monkeypatch.setattr(inputs.importlib.util, "find_spec", lambda name: object())
    _, camera = found(kind="camera", path="/dev/video99")
    assert camera.state == "fail" and "plugged in" in camera.remedy
    device = tmp_path / "video0"
    device.touch()
    assert [f.state for f in found(kind="camera", path=str(device))] == ["ok", "ok"]
    assert [f.check for f in found(kind="camera", path="rtsp://x/y")] == ["source"]
    monkeypatch.setattr(inputs.importlib.util, "find_spec", lambda name: None)
    (absent,) = found(kind="csi")
    assert absent.state == "fail" and "python3-picamera2" in absent.remedy


def test_a_camera_that_only_a_group_may_open(open_folder):
    if os.geteuid():
        pytest.skip("needs root, to become somebody else")
    device = open_folder / "video0"
    device.touch(mode=0o660)
    source = SourceConfig(kind="camera", path=str(device))
    _, found = as_nobody(lambda: inputs.check_source(source))
    assert found["state"] == "fail" and "-aG video" in found["remedy"]
    assert list(inputs.check_source(source))[-1].state == "ok"


# -- how findings are run and shown

def test_one_check_that_breaks_leaves_the_others_their_say():
    def broken():
        yield ok("first", "fine")
        raise ValueError("odd")

    def refused():
        raise ConfigError("no such thing")

    found = examine([("a", broken), ("b", refused), ("c", lambda: [warn("c", "x", "do y")])], "p")
    assert [(f.check, f.state) for f in found] == [
        ("first", "ok"), ("a", "fail"), ("b", "fail"), ("c", "warn")]
    assert "ValueError: odd" in found[1].found and "`p diag`" in found[1].remedy


def test_exit_codes_and_shapes():
    assert exit_code([ok("a", "x"), warn("b", "x", "y")]) == 0
    assert exit_code([ok("a", "x"), fail("b", "x", "y")]) == 1
    assert as_json([ok("a", "x")]) == '[{"check": "a", "state": "ok", "found": "x", "remedy": ""}]'


def test_the_table_is_aligned_and_breaks_no_command():
    path = "/a/very/long/path/that/does/not/fit/into/the/width/of/this/table/at/all/x.toml"
    table = as_table([ok("a", "x " * 50), fail("long name", "bad", f"look at {path} now")],
                     width=70)
    lines = table.splitlines()
    assert all(line.startswith(" " * 17) for line in lines if not line.startswith(("ok", "fail")))
    assert any(path in line for line in lines) and "\033" not in table
    assert "\033[31mfail\033[0m" in as_table([fail("a", "b", "c")], colours=True)


def test_what_is_the_services_is_not_given_away(open_folder, monkeypatch):
    if os.geteuid():
        pytest.skip("needs root, to become somebody else")
    monkeypatch.setattr(host, "_SERVICES", open_folder)
    (open_folder / "edge-agent").mkdir(mode=0o700)
    (found,) = as_nobody(lambda: host.check_state_dir(open_folder / "edge-agent"))
    assert "chown" not in found["remedy"] and "with sudo" in found["remedy"]
