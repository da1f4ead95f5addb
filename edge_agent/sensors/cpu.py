"""How busy the CPUs are, and how often our own cgroup was held back.

Both are differences between two readings, so the first reading knows neither. In a container
/proc/stat is mostly the host's, which is right: its other work slows us down all the same.
"""

from __future__ import annotations

from edge_agent.sensors.health import Health
from edge_agent.sensors.tree import Tree, number

# In ticks of 10 ms, of all CPUs together. Below it one tick is more than 5 %; the difference
# is then left to grow until the next reading.
_MIN_TICKS = 20


class Cpu:
    name = "cpu"

    def __init__(self, tree: Tree):
        self._tree = tree
        self._ticks: tuple[float, float] | None = None           # busy, all
        self._periods: dict[str, tuple[float, float]] = {}       # cpu.stat -> throttled, all

    def read(self, now_s: float) -> Health:
        lines = (self._tree.text("proc/stat") or "").splitlines()
        cpus = sum(line.startswith("cpu") and line[3:4].isdigit() for line in lines)
        load = (self._tree.text("proc/loadavg") or "").split()
        health = Health.of("proc/stat", cpu_busy_ratio=self._busy(lines),
                           cpu_count=cpus or None)
        health = health.merged(Health.of("proc/loadavg", load1=number(load[0]) if load else None))
        return health.merged(self._throttled())

    def _busy(self, lines: list[str]) -> float | None:
        now = _ticks(lines)
        before = self._ticks
        if now is None or before is None:
            self._ticks = now
            return None
        busy, total = now[0] - before[0], now[1] - before[1]
        if 0 <= total < _MIN_TICKS:
            return None
        self._ticks = now
        # iowait may run backwards by a little (proc(5)), and busy beyond all with it.
        return min(max(busy / total, 0.0), 1.0) if total > 0 else None

    def _throttled(self) -> Health:
        """The worst of our cgroup and those around it: the limit may be on any of them.

        Periods are counted, not time: throttled_usec (v2) and throttled_time (v1, in ns) are
        summed over CPUs and compare to nothing.
        """
        before, self._periods = self._periods, {}
        worst: tuple[float, str] | None = None
        for path in _cpu_stats(self._tree.text("proc/self/cgroup")):
            now = _periods(self._tree.text(path))
            if now is None:
                continue
            self._periods[path] = now
            if path in before:
                throttled, periods = (n - b for n, b in zip(now, before[path]))
                # Periods pass only where there is a limit and something to run.
                ratio = throttled / periods if periods > 0 else 0.0
                if worst is None or ratio > worst[0]:
                    worst = min(ratio, 1.0), path
        return Health.of(worst[1], cgroup_throttled_ratio=worst[0]) if worst else Health()


def _ticks(lines: list[str]) -> tuple[float, float] | None:
    """Busy and all ticks since boot, of all CPUs."""
    # cpu user nice system idle iowait irq softirq steal (guests are in user already).
    # Stolen ticks count as busy: they are not there for us.
    words = lines[0].split() if lines else []
    values = [number(word) for word in words[1:9]]
    if words[:1] != ["cpu"] or len(values) < 8 or any(v is None or v < 0 for v in values):
        return None
    return sum(values) - values[3] - values[4], sum(values)


def _periods(text: str | None) -> tuple[float, float] | None:
    """Throttled and all periods of a cpu.stat."""
    values = dict(line.split(maxsplit=1) for line in (text or "").splitlines() if " " in line)
    throttled, periods = number(values.get("nr_throttled")), number(values.get("nr_periods"))
    if throttled is None or periods is None or throttled < 0 or periods < 0:
        return None
    return throttled, periods


def _cpu_stats(cgroup: str | None) -> list[str]:
    """The cpu.stat of our cgroup and of all around it, from /proc/self/cgroup."""
    mount = path = None
    for line in (cgroup or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, where = rest.partition(":")
        if "cpu" in controllers.split(","):
            mount, path = f"sys/fs/cgroup/{controllers}", where
            break                                # v1 has the controller, whatever v2 says
        if hierarchy == "0" and not controllers:
            mount, path = "sys/fs/cgroup", where
    if mount is None or not path.startswith("/"):
        return []
    parts = [part for part in path.split("/") if part]
    # Outside of our cgroup namespace, or as the host names it: only the mount is in sight.
    if ".." in parts:
        parts = []
    return ["/".join([mount, *parts[:n], "cpu.stat"]) for n in range(len(parts), -1, -1)]
