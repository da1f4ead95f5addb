"""What an agent that plans for itself has beside the frame path: sensors, beliefs, a controller,
and the thread that calls it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.belief.beliefs import Beliefs, Outlook
from edge_agent.config import AgentConfig
from edge_agent.control.budget import DailyBytes, seconds_until
from edge_agent.control.controller import Controller, ControlThread, JournalEntry
from edge_agent.control.decisions import DecisionJournal
from edge_agent.control.plans import Plans
from edge_agent.frames import Plan
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.inference.sender import Sender
from edge_agent.planner.candidates import Option
from edge_agent.planner.planner import Planner, Ruling
from edge_agent.planner.profiled import encode_times, service_times
from edge_agent.planner.state import Battery
from edge_agent.policies.config import energy_model, minutes_of, rules_of
from edge_agent.sensors import Health, Monitor, open_sensors
from split_core.cost.profile import Profile
from split_core.errors import ConfigError, SplitError
from split_core.files import write_whole
from split_core.settings.places import default_state_dir

_log = logging.getLogger(__name__)
_SENT_TODAY = "sent-today.json"
# What a crash may forget of a day's budget.
_SAVE_S = 60.0


class Adaptation:
    """Measures and decides for one agent. Start it once the head is ready."""

    def __init__(self, config: AgentConfig, options: tuple[Option, ...], profile: Profile | None,
                 sender: Sender, plans: Plans, times: SegmentTimes, wake, *,
                 next_frame: Callable[[], tuple[float, float | None]],
                 on_plan: Callable[[Plan, Ruling], None],
                 on_fatal: Callable[[BaseException], None], before: Adaptation | None = None):
        """``before`` is what this takes the place of: it knows the link already. Its threads go
        on until it is stopped, and a journal is begun at `start`."""
        self._config, self._sender, self._wake, self._times = config, sender, wake, times
        bundle = sender.bundle
        self.beliefs = Beliefs(
            bundle, options, times, deadline_s=1e-3 * config.frame.deadline_ms,
            encode_s=encode_times(profile, options), energy=energy_model(config.energy))
        sensors = open_sensors(config.sensors)
        # Where a battery's reports go, and the topic that they come on; None where there is none.
        self.reports = sensors.reports
        self.reports_topic = None if sensors.reports is None else config.sensors.topic
        self.monitor = Monitor(sensors.sensors, config.sensors.interval_s, on_fatal=on_fatal)
        rules = rules_of(config.policy, config.cost)
        self._open_journal = lambda: DecisionJournal(
            config.policy, config.cost, bundle, options, lambda: self._planner.memory)
        self._journal: DecisionJournal | None = None
        if config.policy.journal and before is None:
            self._journal = self._open_journal()
        self._planner = Planner(options, rules)
        self.controller = Controller(
            self.beliefs, self._planner, plans, sender, wake, outlook=self.outlook,
            next_frame=next_frame, on_plan=on_plan,
            write=self._write if config.policy.journal else None, clock=time.monotonic)
        self.thread = ControlThread(self.controller.tick, on_fatal)
        self._started_s = time.monotonic() if before is None else before._started_s
        self._state_dir = Path(config.state_dir or default_state_dir("edge-agent"))
        self._before = before
        self._budget = self._load_budget() if before is None else None
        self.stopped = False
        self._saved = ""                     # the record on the card, once it was written
        self._saved_s = self._learned_s = 0.0
        self._sent_bytes = self._counted_bytes = self._learned_bytes = 0
        with wake:
            if before is not None:
                self.beliefs.take_over(before.beliefs)
            sender.beliefs = self.beliefs

    def start(self) -> None:
        """Once what was before has stopped."""
        before = self._before
        if before is not None:
            if self.reports is not None and self.reports_topic == before.reports_topic:
                # What is retained comes no second time: its owner may be silent for hours.
                self.reports.take_over(before.reports)
            self._budget, self._before = self._load_budget(), None
        if self._config.policy.journal and self._journal is None:
            try:
                self._journal = self._open_journal()
            except ConfigError as e:
                _log.error("event=journal-failed error=%s", e)
        self.monitor.read_once(time.monotonic())
        self.controller.tick()
        self.monitor.start()
        self.thread.start()

    def stop(self) -> None:
        """Decide no more. May be called again."""
        if self.stopped:
            return
        self.stopped = True
        self.thread.stop()
        self.monitor.stop()
        # The runs since the last reading: it is two seconds old at most.
        self._times.judge(throttled=held_back(self.monitor.latest))
        self._count(_local_s())
        self._save_budget()
        if self._journal is not None:
            self._journal.close()

    def _write(self, entry: JournalEntry) -> None:
        if self._journal is not None:
            self._journal.write(entry)

    # -- what the other threads tell

    def on_frame(self) -> None:
        with self._wake:
            self.beliefs.on_frame(time.monotonic())

    def on_acknowledged(self, round_trip_s: float) -> None:
        """The broker has answered a publication."""
        with self._wake:
            self.beliefs.round_trip.add(round_trip_s, time.monotonic())

    def on_ended(self, sent_bytes: int) -> None:
        """A frame ended, for which so much was sent."""
        with self._wake:                     # two threads end frames
            self._sent_bytes += sent_bytes
        self.thread.poke()

    def on_worker_profile(self, worker: str, profile: Profile) -> None:
        with self._wake:
            self.beliefs.workers.on_profile(worker,
                                            service_times(profile, self._sender.bundle))
        self.thread.poke()

    def on_worker_load(self, worker: str, queue_s: float, broker_rtt_s: float) -> None:
        with self._wake:
            self.beliefs.workers.on_load(worker, queue_s, broker_rtt_s)

    # -- for the controller

    def outlook(self) -> Outlook:
        """Sensors and settings, now."""
        health, energy = self.monitor.latest, self._config.energy
        wall_s = _local_s()
        if health.at_s is not None and health.at_s != self._learned_s:       # a new reading
            self._learn_energy(health)
            self._times.judge(throttled=held_back(health))
        self._count(wall_s)
        until_s = budget_bytes = budget_s = None
        if energy.until is not None:
            until_s = seconds_until(minutes_of(energy.until), wall_s)
        elif energy.hours is not None:
            until_s = max(3600 * energy.hours - (time.monotonic() - self._started_s), 0.0)
        if self._budget is not None:
            budget_bytes, budget_s = self._budget.left(wall_s)
        return Outlook(Battery(battery_wh(health, energy.capacity_wh), health.mains), until_s,
                       budget_bytes, budget_s, health.temperature_c, health.throttled)

    def _learn_energy(self, health: Health) -> None:
        """Fit the board's numbers to its power sensor."""
        interval_s, self._learned_s = health.at_s - self._learned_s, health.at_s
        sent_bytes = self._sent_bytes        # read once: other threads add to it
        nbytes, self._learned_bytes = sent_bytes - self._learned_bytes, sent_bytes
        known = (health.power_w, health.cpu_busy_ratio, health.cpu_count)
        if None not in known and interval_s < 60:
            power_w, busy, count = known
            self.beliefs.energy.add(power_w, busy * count * interval_s, nbytes, interval_s)

    # -- the day's bytes

    def _count(self, wall_s: float) -> None:
        if self._budget is None:
            return
        sent_bytes = self._sent_bytes        # read once: other threads add to it
        new, self._counted_bytes = sent_bytes - self._counted_bytes, sent_bytes
        self._budget.add(new, wall_s)
        if time.monotonic() - self._saved_s > _SAVE_S:
            self._save_budget()

    def _load_budget(self) -> DailyBytes | None:
        mb = self._config.policy.mb_per_day
        if mb is None:
            return None
        if self._before is not None and self._before._budget is not None:
            return DailyBytes(1e6 * mb, self._before._budget.day, self._before._budget.used)
        try:
            record = json.loads((self._state_dir / _SENT_TODAY).read_text("utf-8"))
            return DailyBytes(1e6 * mb, int(record["day"]), int(record["used"]))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as e:
            _log.warning("event=budget-forgotten error=%r", str(e))
        return DailyBytes(1e6 * mb)

    def _save_budget(self) -> None:
        if self._budget is None:
            return
        self._saved_s = time.monotonic()
        record = json.dumps({"day": self._budget.day, "used": self._budget.used})
        if record == self._saved:            # spares the card a write a minute
            return
        try:
            # An empty file after a power cut would give the day's bytes back.
            write_whole(self._state_dir / _SENT_TODAY, record, durable=True)
            self._saved = record
        except SplitError as e:
            _log.warning("event=budget-not-saved error=%r", str(e))


def battery_wh(health: Health, capacity_wh: float | None) -> float | None:
    """What is left: as the gauge says, or its percentage of a stated capacity."""
    if health.battery_wh is not None:
        return health.battery_wh
    if health.battery_ratio is None or capacity_wh is None:
        return None
    return health.battery_ratio * capacity_wh


def held_back(health: Health) -> bool:
    """Whether the board is slower than it could be; unknown is no reason not to learn."""
    return bool(health.throttled or health.frequency_capped or health.soft_temperature_limit)


def _local_s() -> float:
    """Seconds since some local midnight."""
    now_s = time.time()
    return now_s + time.localtime(now_s).tm_gmtoff
