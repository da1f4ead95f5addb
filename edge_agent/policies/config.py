"""Settings of the policies, and the rules that follow from them."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from edge_agent.belief.energy import BASE_W, J_PER_BYTE, J_PER_CPU_S, EnergyModel
from edge_agent.planner.decide import Rules
from edge_agent.planner.predict import Prices
from edge_agent.policies.bytes import ByteBudget
from edge_agent.policies.deadline import Deadline
from edge_agent.policies.energy import EnergyBudget
from edge_agent.policies.latency import Latency
from edge_agent.policies.privacy import Privacy
from edge_agent.policies.quality import Quality
from edge_agent.policies.thermal import Thermal
from split_core.errors import ConfigError
from split_core.wire.topics import check_node_id


class CostConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What resources cost, in the owner's money."""

    # A gigabyte sent.
    per_gb: float = 1.0
    # An hour of a worker's time at full load.
    per_worker_hour: float = 0.05
    # A kilowatt-hour drawn by the device.
    per_kwh: float = 0.3

    def check(self) -> None:
        """Raises ConfigError for what is no price: scores must stay positive and finite."""
        for name in self.__struct_fields__:
            if not 0 <= (value := getattr(self, name)) < 1e12:
                raise ConfigError(f"cost.{name} is {value}, wanted 0 or more")


class EnergyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The battery, and how long it has to last. Where a sensor tells the board's power, the
    three numbers of the model are learned from it."""

    # It has to last until this time of day, "18:00".
    until: str | None = None
    # Or for so many hours from the start of the agent.
    hours: float | None = None
    # What a full battery holds, where its gauge tells a percentage only.
    capacity_wh: float | None = None
    # What a second of one core costs, in joules above idle.
    j_per_cpu_s: float = J_PER_CPU_S
    # What a byte sent costs, in joules.
    j_per_byte: float = J_PER_BYTE
    # What the board draws idle, in watts.
    base_w: float = BASE_W


class PolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides. One aim orders the plans, limits forbid some; they compose."""

    # "latency": the least mean latency. "deadline": on time at the least cost.
    aim: Literal["latency", "deadline"] = "latency"
    # Divergence from the whole model's answer that is asked for, nats (calibrated bundles).
    kl: float = 0.02
    # What a frame may have that would be late else. What nobody calibrated has no such number, and
    # is refused by `only_calibrated` alone.
    max_kl: float = 0.05
    # Refuse what nobody calibrated, too.
    only_calibrated: bool = False
    # Aim "deadline": what a second of lateness is worth, in the money of [cost].
    slack_price: float = 1.0
    # Nothing leaves the device before this op.
    min_cut: int = 0
    # Only these workers; by default all that the broker lets in.
    trusted_workers: tuple[str, ...] | None = None
    # What frames may send in a day, in MB: payloads and their headers, not results and bundles.
    mb_per_day: float | None = None
    # From this temperature on the board may compute less and less ...
    soft_c: float = 70.0
    # ... to nothing at this one.
    hard_c: float = 80.0
    # A plan changes for a gain of this share ...
    margin: float = 0.05
    # ... and lasts this long, unless it got worse.
    dwell_s: float = 2.0
    # Every decision with all that it was made from is appended here, a JSON line each.
    journal: str | None = None
    # MB, at most; beyond it the journal is renamed to ".1", in place of an older one, and begun
    # anew.
    journal_mb: float = 64.0

    def check(self) -> None:
        """Raises ConfigError for values that cannot work or contradict each other."""
        # The least that a rung can name, and far more than any answer differs by.
        if not 1e-6 <= self.kl <= self.max_kl <= 1000:
            raise ConfigError(f"policy.kl is {self.kl} and policy.max_kl {self.max_kl}, wanted"
                              " 1e-06 <= kl <= max_kl <= 1000")
        if not -273 <= self.soft_c < self.hard_c <= 1000:
            raise ConfigError(f"policy.soft_c is {self.soft_c}, wanted less than policy.hard_c,"
                              f" which is {self.hard_c}; both in degrees Celsius")
        for name, low, high in (("margin", 0, 0.9), ("dwell_s", 0, 3600), ("min_cut", 0, 1e6),
                                ("slack_price", 0, 1e12), ("journal_mb", 0.1, 1e6)):
            if not low <= (value := getattr(self, name)) <= high:
                raise ConfigError(f"policy.{name} is {value}, wanted {low:g} to {high:g}")
        if self.mb_per_day is not None and not 0 < self.mb_per_day < 1e12:
            raise ConfigError(f"policy.mb_per_day is {self.mb_per_day}, wanted more than 0")
        for worker in self.trusted_workers or ():
            try:
                check_node_id(worker)
            except ConfigError as e:
                raise ConfigError(f"policy.trusted_workers: {e}") from None


def check_energy(energy: EnergyConfig) -> None:
    """Raises ConfigError."""
    if energy.until is not None and energy.hours is not None:
        raise ConfigError("energy.until and energy.hours: give one")
    if energy.until is not None:
        minutes_of(energy.until)
    for name in ("hours", "capacity_wh", "j_per_cpu_s", "j_per_byte", "base_w"):
        value = getattr(energy, name)
        if value is not None and not 0 < value < 1e9:
            raise ConfigError(f"energy.{name} is {value}, wanted more than 0")


def minutes_of(time_of_day: str) -> int:
    """Minutes since midnight of "18:00". Raises ConfigError."""
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", time_of_day)
    if match is None:
        raise ConfigError(f"energy.until is {time_of_day!r}, wanted a time of day: \"18:00\"")
    return 60 * int(match[1]) + int(match[2])


def rules_of(policy: PolicyConfig, cost: CostConfig) -> Rules:
    """What decides, hard limits first."""
    aim = Latency() if policy.aim == "latency" else Deadline(policy.slack_price)
    limits = [Privacy(policy.min_cut, policy.trusted_workers)]
    if policy.only_calibrated:
        limits.append(Quality(policy.max_kl))
    limits += [EnergyBudget(), ByteBudget(), Thermal(policy.soft_c, policy.hard_c)]
    return Rules(aim, tuple(limits),
                 Prices(cost.per_gb, cost.per_worker_hour, cost.per_kwh),
                 policy.margin, policy.dwell_s)


def energy_model(energy: EnergyConfig) -> EnergyModel:
    return EnergyModel(energy.j_per_cpu_s, energy.j_per_byte, energy.base_w)
