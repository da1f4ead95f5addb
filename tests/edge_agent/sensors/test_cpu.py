"""CPU and cgroup: differences between readings, counters that stand or run backwards."""

from __future__ import annotations

import pytest

from edge_agent.sensors.cpu import Cpu
from edge_agent.sensors.tree import Tree

from .machines import put


def stat(root, busy: int, idle: int, iowait: int = 0, steal: int = 0) -> None:
    put(root, "proc/stat", f"cpu  {busy} 0 0 {idle} {iowait} 0 0 {steal} 0 0\ncpu0 {busy} 0 0"
        f" {idle} {iowait} 0 0 {steal} 0 0\n")


@pytest.mark.parametrize(("later", "ratio"), [
    ((150, 1050, 100), 0.25),                    # 50 of 200, waiting for a disk is not busy
    ((100, 1200, 0), 0.0),
    ((200, 1000, 0), 1.0),
    ((150, 1000, 0, 50), 1.0),                   # stolen ticks are not there for us
    ((119, 1000, 0), None),                      # 19 ticks are too few to tell
    ((50, 500, 0), None),                        # the counters began anew
])
def test_busy_is_what_is_neither_idle_nor_waiting(later, ratio, tmp_path):
    cpu = Cpu(Tree(str(tmp_path)))
    stat(tmp_path, 100, 1000)
    assert cpu.read(0.0).cpu_busy_ratio is None
    stat(tmp_path, *later)
    assert cpu.read(1.0).cpu_busy_ratio == ratio


def test_few_ticks_are_left_to_grow(tmp_path):
    cpu = Cpu(Tree(str(tmp_path)))
    for busy, idle, ratio in ((100, 1000, None), (110, 1000, None), (120, 1020, 0.5)):
        stat(tmp_path, busy, idle)
        assert cpu.read(0.0).cpu_busy_ratio == ratio


def test_iowait_that_runs_backwards_is_no_more_than_busy(tmp_path):
    cpu = Cpu(Tree(str(tmp_path)))
    stat(tmp_path, 100, 1000, 50)
    cpu.read(0.0)
    stat(tmp_path, 200, 1000, 40)                # 100 busy of 90
    assert cpu.read(1.0).cpu_busy_ratio == 1.0


def throttled(root, before: str, after: str, cgroup="0::/a/b\n",
              path="sys/fs/cgroup/a/b/cpu.stat") -> float | None:
    cpu = Cpu(Tree(str(root)))
    put(root, "proc/self/cgroup", cgroup)
    put(root, path, before)
    assert cpu.read(0.0).cgroup_throttled_ratio is None
    put(root, path, after)
    return cpu.read(1.0).cgroup_throttled_ratio


def periods(throttled: int, periods: int) -> str:
    return f"usage_usec 5\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 7\n"


@pytest.mark.parametrize(("before", "after", "ratio"), [
    (periods(0, 0), periods(0, 0), 0.0),         # no limit, no periods
    (periods(2, 10), periods(7, 20), 0.5),
    (periods(2, 10), periods(12, 20), 1.0),
    (periods(2, 10), periods(0, 1), 0.0),        # the cgroup was made anew
    (periods(2, 10), "usage_usec 5\n", None),
    ("usage_usec 5\n", periods(2, 10), None),
])
def test_throttled_periods(before, after, ratio, tmp_path):
    assert throttled(tmp_path, before, after) == ratio


def test_the_tightest_limit_around_us_counts(tmp_path):
    put(tmp_path, "sys/fs/cgroup/a/b/cpu.stat", periods(0, 10))
    assert throttled(tmp_path, periods(0, 10), periods(4, 20),
                     path="sys/fs/cgroup/a/cpu.stat") == 0.4


def test_version_1_where_it_has_the_controller(tmp_path):
    assert throttled(tmp_path, periods(0, 10), periods(4, 20),
                     "0::/x\n5:cpu,cpuacct:/a\n", "sys/fs/cgroup/cpu,cpuacct/a/cpu.stat") == 0.4


def test_a_cgroup_outside_of_the_namespace_is_not_climbed_to(tmp_path):
    put(tmp_path, "sys/fs/cgroup/cpu.stat", periods(0, 10))
    # sys/fs/cgroup/../../../cpu.stat, were the path followed.
    assert throttled(tmp_path, periods(0, 10), periods(9, 20), "0::/../../..\n",
                     "cpu.stat") == 0.0
