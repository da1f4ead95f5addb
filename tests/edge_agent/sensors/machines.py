"""Recorded machines: the files of /proc and /sys that matter, as text, with what hangs on each.

Written as Python because names such as soc:firmware are no file names everywhere. `loses` are
the fields nobody knows any more when that file is gone or garbage, `changes` those that fall
back to another source; both are worked out by hand, as the values in test_machines.py are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class File:
    text: str
    loses: str = ""
    changes: str = ""


@dataclass(frozen=True)
class Machine:
    """`later` replaces files before the second reading, two seconds after the first."""

    files: dict[str, File]
    later: dict[str, str] = field(default_factory=dict)

    def write(self, root: Path) -> None:
        for path, file in self.files.items():
            put(root, path, file.text)

    def write_later(self, root: Path, *, but: str = "") -> None:
        for path, text in self.later.items():
            if path != but:
                put(root, path, text)


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, "utf-8")


def below(folder: str, files: dict[str, File]) -> dict[str, File]:
    return {f"{folder}/{name}": file for name, file in files.items()}


# 800 ticks in all CPUs between the readings, 200 of them idle or waiting for a disk.
STAT_BEFORE = """\
cpu  100000 500 20000 900000 3000 0 1500 0 0 0
cpu0 25000 125 5000 225000 750 0 375 0 0 0
cpu1 25000 125 5000 225000 750 0 375 0 0 0
cpu2 25000 125 5000 225000 750 0 375 0 0 0
cpu3 25000 125 5000 225000 750 0 375 0 0 0
intr 12345678 0 0 0
ctxt 22222222
btime 1700000000
processes 4321
procs_running 2
procs_blocked 0
"""
STAT_AFTER = STAT_BEFORE.replace("cpu  100000 500 20000 900000 3000 0 1500",
                                 "cpu  100500 500 20090 900190 3010 0 1510")
PROC = {
    "proc/stat": File(STAT_BEFORE, "cpu_busy_ratio cpu_count"),
    "proc/loadavg": File("0.52 0.58 0.59 2/345 6789\n", "load1"),
}
LATER = {"proc/stat": STAT_AFTER}

WIRELESS = """\
Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
 wlan0: 0000   49.  -61.  -256        0      0      0     12      0        3
"""
ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
wlan0\t0001A8C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0
"""
WIFI_FIELDS = "wifi_interface wifi_quality_ratio wifi_level_dbm wifi_retries wifi_missed_beacons"
# With one interface the route changes nothing.
WIFI = {"proc/net/wireless": File(WIRELESS, WIFI_FIELDS), "proc/net/route": File(ROUTE)}

NOW_FLAGS = "frequency_capped throttled soft_temperature_limit"
PI_4 = Machine({
    **PROC, **WIFI,
    "proc/self/cgroup": File("0::/system.slice/edge-agent.service\n", "cgroup_throttled_ratio"),
    # The controller is not enabled for the unit, so its cpu.stat has no periods ...
    "sys/fs/cgroup/system.slice/edge-agent.service/cpu.stat": File(
        "usage_usec 1200000\nuser_usec 1000000\nsystem_usec 200000\n"),
    # ... but its slice is limited.
    "sys/fs/cgroup/system.slice/cpu.stat": File(
        "usage_usec 9000000\nuser_usec 8000000\nsystem_usec 1000000\n"
        "nr_periods 100\nnr_throttled 0\nthrottled_usec 0\n", "cgroup_throttled_ratio"),
    "sys/class/thermal/thermal_zone0/type": File("cpu-thermal\n"),
    "sys/class/thermal/thermal_zone0/temp": File("48686\n", "temperature_c"),
    "sys/devices/platform/soc/soc:firmware/get_throttled": File("0\n", NOW_FLAGS),
    "sys/class/hwmon/hwmon0/name": File("cpu_thermal\n"),
    "sys/class/hwmon/hwmon0/temp1_input": File("48686\n"),
    # Without the driver nothing refreshes the flags.
    "sys/class/hwmon/hwmon1/name": File("rpi_volt\n", f"{NOW_FLAGS} under_voltage"),
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": File("0\n", f"{NOW_FLAGS} under_voltage"),
    **{f"sys/devices/system/cpu/cpu{n}/cpufreq/{name}": File(text)
       for n in range(4) for name, text in (
           ("scaling_cur_freq", "600000\n" if n else "1500000\n"),
           ("cpuinfo_max_freq", "1500000\n"), ("scaling_governor", "ondemand\n"))},
    # The fast one counts.
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": File("1500000\n", "", "cpu_hz"),
}, {**LATER, "sys/fs/cgroup/system.slice/cpu.stat":
    "usage_usec 9900000\nuser_usec 8800000\nsystem_usec 1100000\n"
    "nr_periods 120\nnr_throttled 5\nthrottled_usec 250000\n"})

PI_4_UNDER_VOLTAGE = Machine({
    **PI_4.files,
    "sys/devices/platform/soc/soc:firmware/get_throttled": File(
        "50005\n", "frequency_capped throttled soft_temperature_limit"),
    # What is set counts without the driver too; what is clear then says nothing.
    "sys/class/hwmon/hwmon1/name": File("rpi_volt\n", "frequency_capped soft_temperature_limit"),
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": File(
        "1\n", "frequency_capped soft_temperature_limit"),
}, PI_4.later)

BATTERY = "sys/class/power_supply/battery"
PI_5_UPS = Machine({
    **PROC, **WIFI,
    **below(BATTERY, {
        "type": File("Battery\n", "battery_ratio"),
        "status": File("Unknown\n"),
        "online": File("1\n"),
        "present": File("1\n"),
        "capacity": File("87\n", "battery_ratio"),
        "voltage_now": File("4071250\n"),
    }),
    "sys/class/power_supply/charger/type": File("Mains\n", "mains"),
    "sys/class/power_supply/charger/online": File("0\n", "mains"),
    "sys/class/hwmon/hwmon0/name": File("cpu_thermal\n"),
    "sys/class/hwmon/hwmon2/name": File("rpi_volt\n", "under_voltage"),
    "sys/class/hwmon/hwmon2/in0_lcrit_alarm": File("0\n", "under_voltage"),
    "sys/class/hwmon/hwmon3/name": File("ina219\n", "power_w"),
    "sys/class/hwmon/hwmon3/in0_input": File("12\n"),
    "sys/class/hwmon/hwmon3/in1_input": File("5080\n"),
    "sys/class/hwmon/hwmon3/curr1_input": File("1210\n", "power_w"),
    # Without it, voltage times current: 6.1468 W.
    "sys/class/hwmon/hwmon3/power1_input": File("6140000\n", "", "power_w"),
    "sys/class/thermal/thermal_zone0/type": File("cpu-thermal\n"),
    "sys/class/thermal/thermal_zone0/temp": File("54950\n", "temperature_c"),
    **{f"sys/devices/system/cpu/cpu{n}/cpufreq/{name}": File(text)
       for n in range(4) for name, text in (
           ("scaling_cur_freq", "2400000\n"), ("cpuinfo_max_freq", "2400000\n"),
           ("scaling_governor", "performance\n"))},
}, LATER)

POWER_SUPPLY = "sys/class/power_supply"
LAPTOP = Machine({
    **PROC,
    "proc/net/wireless": File(WIRELESS.replace("wlan0", "wlp3s0"), WIFI_FIELDS),
    "proc/pressure/cpu": File(
        "some avg10=12.50 avg60=8.11 avg300=3.02 total=123456789\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", "cpu_pressure_ratio"),
    "proc/pressure/memory": File(
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=567\n", "memory_pressure_ratio"),
    "proc/pressure/io": File(
        "some avg10=1.53 avg60=0.87 avg300=0.21 total=1234567\n"
        "full avg10=1.10 avg60=0.50 avg300=0.11 total=234567\n", "io_pressure_ratio"),
    f"{POWER_SUPPLY}/AC/type": File("Mains\n", "mains"),
    f"{POWER_SUPPLY}/AC/online": File("0\n", "mains"),
    # A ThinkPad empties its bay battery first. 12.6 of 21 Wh, 18 of 24 Wh: 30.6 of 45, 0.68.
    **below(f"{POWER_SUPPLY}/BAT0", {
        "type": File("Battery\n", "", "battery_ratio battery_wh battery_full_wh"),
        "present": File("1\n"),
        "status": File("Not charging\n"),
        # The mean of 75 and 60 percent is used where energy is missing.
        "capacity": File("75\n"),
        "energy_now": File("18000000\n", "battery_wh", "battery_ratio"),
        "energy_full": File("24000000\n", "battery_full_wh", "battery_ratio"),
        "power_now": File("0\n"),
        "voltage_now": File("11800000\n"),
    }),
    **below(f"{POWER_SUPPLY}/BAT1", {
        # Without it BAT0 is all there is, and that is not discharged.
        "type": File("Battery\n", "power_w", "battery_ratio battery_wh battery_full_wh"),
        "present": File("1\n"),
        "status": File("Discharging\n", "power_w"),
        "capacity": File("60\n"),
        "energy_now": File("12600000\n", "battery_wh", "battery_ratio"),
        "energy_full": File("21000000\n", "battery_full_wh", "battery_ratio"),
        "power_now": File("9120000\n", "power_w"),
        "voltage_now": File("11400000\n"),
    }),
    **below(f"{POWER_SUPPLY}/hidpp_battery_0", {
        "type": File("Battery\n"),
        # A battery that does not say it is a mouse's is taken for ours, and has no energy.
        "scope": File("Device\n", "battery_wh battery_full_wh power_w", "battery_ratio"),
        "status": File("Discharging\n"),
        "capacity": File("5\n"),
        "online": File("1\n"),
    }),
    "sys/class/thermal/thermal_zone0/type": File("acpitz\n"),
    "sys/class/thermal/thermal_zone0/temp": File("27800\n"),
    "sys/class/thermal/thermal_zone1/type": File("iwlwifi_1\n"),
    "sys/class/thermal/thermal_zone1/temp": File("71000\n"),
    # Nameless or absent, the hottest zone is taken instead: the Wi-Fi card.
    "sys/class/thermal/thermal_zone2/type": File("x86_pkg_temp\n", "", "temperature_c"),
    "sys/class/thermal/thermal_zone2/temp": File("63000\n", "", "temperature_c"),
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": File("2900123\n", "cpu_hz"),
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": File("4200000\n", "cpu_max_hz"),
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": File("powersave\n", "governor"),
}, LATER)

# In a cgroup namespace of its own; /proc/stat and /proc/loadavg are the host's.
CONTAINER = Machine({
    **PROC,
    "proc/self/cgroup": File("0::/\n", "cgroup_throttled_ratio"),
    "sys/fs/cgroup/cpu.stat": File(
        "usage_usec 5000000\nuser_usec 4000000\nsystem_usec 1000000\nnr_periods 1000\n"
        "nr_throttled 100\nthrottled_usec 7000000\nnr_bursts 0\nburst_usec 0\n",
        "cgroup_throttled_ratio"),
    "proc/net/route": File(ROUTE.replace("wlan0", "eth0")),
}, {**LATER, "sys/fs/cgroup/cpu.stat":
    "usage_usec 6000000\nuser_usec 4800000\nsystem_usec 1200000\nnr_periods 1020\n"
    "nr_throttled 115\nthrottled_usec 8000000\nnr_bursts 0\nburst_usec 0\n"})

# Docker on cgroup v1 without a namespace: the path is the host's and not to be found here.
CONTAINER_V1 = Machine({
    **PROC,
    "proc/self/cgroup": File(
        "12:memory:/docker/0123abcd\n4:cpu,cpuacct:/docker/0123abcd\n"
        "1:name=systemd:/docker/0123abcd\n0::/docker/0123abcd\n", "cgroup_throttled_ratio"),
    "sys/fs/cgroup/cpu,cpuacct/cpu.stat": File(
        "nr_periods 500\nnr_throttled 0\nthrottled_time 0\n", "cgroup_throttled_ratio"),
}, {**LATER, "sys/fs/cgroup/cpu,cpuacct/cpu.stat":
    "nr_periods 520\nnr_throttled 20\nthrottled_time 1800000000\n"})

MACHINES = {
    "pi-4": PI_4, "pi-4-under-voltage": PI_4_UNDER_VOLTAGE, "pi-5-ups": PI_5_UPS,
    "laptop": LAPTOP, "container": CONTAINER, "container-v1": CONTAINER_V1,
}
