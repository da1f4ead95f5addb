"""What a field test is made of: the settings, the arms, and what each board takes."""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edge_agent.planner.profiled import service_times
from edge_agent.belief.beliefs import payload_bytes
from edge_agent.config import AgentConfig
from edge_agent.frames import Plan
from edge_agent.planner.candidates import Option
from split_core.config import convert
from split_core.cost.profile import Profile
from split_core.errors import InputError, UsageError
from split_core.model.bundle import Bundle
from split_core.wire.rungs import RAW, Rung
from split_lab.field.arguments import ARMS
from split_lab.field.device import Setting
from split_lab.field.link_spec import LinkSpec
from split_lab.field.peer import PeerPolicy
from split_lab.field.virtual import OVERHEAD_S, Board, PayloadSizes

# The peer's worker is ahead by so much: what two machines without a time service are apart after
# a few days, and less than what a board without a clock wakes up with.
SKEW_S = 0.1
# Between frames of an arm: no less than this, and no more than the device can do by itself.
LEAST_PERIOD_S = 1.0
PERIOD_PER_WHOLE = 1.25


class BatteryFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stated battery: what is drawn from it is modelled."""

    capacity_wh: float
    base_w: float
    left_ratio: float = 1.0
    hours: float | None = None       # it has to last so long
    j_per_cpu_s: float = 1.2
    j_per_byte: float = 1e-6


def read_battery(path: str | Path) -> BatteryFile:
    """Raises InputError."""
    try:
        data = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: {e}") from None
    battery = convert(data, BatteryFile, str(path))
    for name in ("capacity_wh", "base_w", "hours", "j_per_cpu_s", "j_per_byte"):
        value = getattr(battery, name)
        if value is not None and not 0 < value < 1e9:
            raise InputError(f"{path}: {name} is {value}, wanted more than 0")
    if not 0 < battery.left_ratio <= 1:
        raise InputError(f"{path}: left_ratio is {battery.left_ratio}, wanted 0 to 1")
    return battery


@dataclass(frozen=True)
class Trial:
    """One field test."""

    bundle: Bundle
    config: AgentConfig              # policy, cost, energy; the rest of a device's file
    options: tuple[Option, ...]
    device: Profile
    worker: Profile
    link: LinkSpec | None            # None: the link there is
    link_name: str
    deadline_s: float
    duration_s: float
    period_s: float
    device_s: float | None = None    # the whole model on the board that is meant
    arms: tuple[str, ...] = ARMS
    battery: BatteryFile | None = None
    seed: int = 1
    skew_s: float = SKEW_S
    overhead_s: float = OVERHEAD_S
    left_out: tuple[str, ...] = ()   # arms that would send what the policy forbids

    @property
    def frames(self) -> int:
        return max(1, int(self.duration_s / self.period_s))

    @property
    def board(self) -> Board:
        """What things take on the board that is meant."""
        return Board.of(self.board_profile, self.options,
                        service_times(self.worker, self.bundle), self.overhead_s)

    @property
    def board_profile(self) -> Profile:
        """The device slowed down to the board that is meant. The worker stays as it is."""
        return self.device if self.device_s is None else self.device.scaled_to(self.device_s)

    def notes(self) -> list[str]:
        """What a report has to say of the arms."""
        return [f"Left out, since they would send what policy.min_cut forbids:"
                f" {', '.join(self.left_out)}."] if self.left_out else []

    def setting(self) -> Setting:
        """The same in virtual time. Raises UsageError without an emulated link."""
        if self.link is None:
            raise UsageError("--virtual needs --link: there is no real link in virtual time")
        sizes = {(o.cut, o.rung): payload_bytes(self.bundle, o.cut, o.rung)
                 for o in self.options[:-1]}
        energy = energy_of(self)
        return Setting(self.bundle, self.options, self.board, self.link,
                       PayloadSizes(self.bundle, sizes | self._raw(), self.seed),
                       self.deadline_s, self.period_s, self.frames, energy)

    def _raw(self) -> dict[tuple[int, str], float]:
        return {(e.cut, RAW.name): self.bundle.raw_bytes(e.cut)
                for e in self.bundle.manifest.cuts[:-1]}

    def settings(self) -> dict[str, object]:
        """For the report and summary.json."""
        return {
            "model": self.bundle.manifest.name, "bundle": self.bundle.id_hex[:16],
            "link": self.link_name, "rtt_ms": self.link and 1e3 * self.link.rtt_s,
            "deadline_ms": 1e3 * self.deadline_s,
            "device_ms": 1e3 * sum(self.board.segment_s),
            "stretched": self.device_s is not None, "period_s": self.period_s,
            "duration_s": self.duration_s, "aim": self.config.policy.aim,
            "kl": self.config.policy.kl, "max_kl": self.config.policy.max_kl,
            "seed": self.seed, "peer_skew_ms": 1e3 * self.skew_s,
            "machine": self.device.machine, "runtime": self.device.runtime,
        }


def energy_of(trial: Trial):
    from edge_agent.policies.config import energy_model

    if trial.battery is None:
        return energy_model(trial.config.energy)
    b = trial.battery
    return replace(energy_model(trial.config.energy), j_per_cpu_s=b.j_per_cpu_s,
                   j_per_byte=b.j_per_byte, base_w=b.base_w)


def plan_of(option: Option) -> Plan:
    """A fixed plan, with the step that the planner would allow it."""
    return Plan(1, option.cut, Rung.parse(option.rung), "fixed",
                coarsest=option.coarsest and Rung.parse(option.coarsest))


def local_option(trial: Trial) -> Option:
    return trial.options[-1]


def raw_option(trial: Trial) -> Option:
    """The input as it is."""
    return Option(0, 0, RAW.name, None, 0.0, 0.0)


def jpeg_option(trial: Trial) -> Option | None:
    """None for a model whose input is no picture."""
    return next((o for o in trial.options if o.rung.startswith("jpeg")), None)


def peer_policy(trial: Trial) -> PeerPolicy:
    """The peer's, knowing this machine and this worker from their profiles."""
    board = trial.board
    ends = [*board.worker_s, 0.0]
    return PeerPolicy(
        [*(trial.bundle.raw_bytes(e.cut) for e in trial.bundle.manifest.cuts[:-1]), 0],
        list(board.segment_s),
        [max(a - b, 0.0) for a, b in zip(ends, ends[1:])][:len(board.segment_s)],
        trial.skew_s, random.Random(trial.seed))
