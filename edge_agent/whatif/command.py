"""The command `plan`: what would the agent do in this situation?

Here the words become a situation; `situation` decides in it with the agent's own planner.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import TYPE_CHECKING

from split_core.errors import ConfigError, UsageError
from split_core.quantities import parse_rate, parse_seconds

if TYPE_CHECKING:
    from edge_agent.belief.beliefs import Outlook
    from edge_agent.config import AgentConfig
    from edge_agent.whatif.situation import Outcome, Peer, Situation
    from split_core.cost.profile import Profile
    from split_core.model.bundle import Bundle

HELP = "what the agent would do in a situation"
EXAMPLES = ("plan model.split.tflite --uplink 1Mbit --rtt 60ms --device-time 180ms --explain",
            "plan model.split.tflite -c agent.toml --battery 0.3 --until 8 --temperature 72 --json")
# Where neither the command nor a configuration says: nobody knows the source.
_FRAME_RATE = 1.0
_DAY_S = 86_400.0


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What `plan` takes."""
    add = command.add_argument
    add("bundle", metavar="BUNDLE")
    add("-c", "--config", metavar="FILE",
        help="take policy, costs, energy, deadline and frame rate from a configuration")
    link = command.add_argument_group("the link")
    add = link.add_argument
    add("--uplink", metavar="RATE", action="append",
        help="1Mbit, 500kbit; several (1Mbit,5Mbit) are equally likely. As always one transfer in"
             " fifty is taken to meet an outage (default: what an agent believes at its start)")
    add("--rtt", metavar="TIME", help="round trip of an empty message: 60ms, 0.06s")
    add("--link-down", action="store_true", help="there is no connection")
    speed = command.add_argument_group("this device and the workers")
    add = speed.add_argument
    add("--device-time", metavar="TIME",
        help="the whole model here (default: as this machine's profile says; it is made, where"
             " there is none)")
    add("--workers", metavar="N", help="how many, or names: left,right (default: 1)")
    add("--worker-time", metavar="TIME",
        help="the whole model there, one for all or one each (default: what this machine takes)")
    add("--queue", metavar="TIME", help="waiting there, one for all or one each (default: none)")
    add("--profile", metavar="FILE",
        help="segment times of another machine, made by `edge-agent profile --json` there")
    wanted = command.add_argument_group("what is wanted")
    add = wanted.add_argument
    add("--aim", choices=("latency", "deadline"))
    add("--deadline-ms", metavar="MS")
    add("--fps", type=float, metavar="N", help=f"frames a second (default {_FRAME_RATE:g})")
    add("--kl", type=float, metavar="D", help="divergence asked for, nats")
    add("--max-kl", type=float, metavar="D", help="divergence tolerated")
    add("--min-cut", type=int, metavar="K", help="nothing leaves the device before this op")
    add("--trusted", metavar="W", action="append", help="only these workers: left,right")
    means = command.add_argument_group("what there is to live on")
    add = means.add_argument
    add("--battery", metavar="LEFT", help="a share, 0.3 or 30%%, or energy, 12Wh")
    add("--capacity", metavar="WH", help="what the full battery holds")
    add("--until", metavar="HOURS", help="how long it has to last: 8 or 90min")
    add("--mains", action="store_true", help="mains are connected")
    add("--temperature", type=float, metavar="C", help="of the board")
    add("--throttled", action="store_true", help="the board slows itself down")
    add("--mb-left", type=float, metavar="MB", help="that may still be sent ...")
    add("--hours-left", metavar="HOURS", help="... in this time (default: a day)")
    shown = command.add_argument_group("what is shown")
    add = shown.add_argument
    add("--explain", action="store_true", help="every candidate, and which limit forbids it")
    add("--json", action="store_true", help="one object: decision, candidates, state")
    add("--plot", metavar="FILE.png", help="draw bytes against time on the device")


def run(args: argparse.Namespace) -> Outcome:
    """Decide and print. Raises UsageError, ConfigError, BundleError, InputError."""
    from edge_agent.planner.candidates import options_of
    from edge_agent.policies.config import energy_model, rules_of
    from edge_agent.whatif.report import as_json, render
    from edge_agent.whatif.situation import decide_in
    from split_core.model.bundle import open_bundle

    config = _config(args)
    situation = situation_of(args, config)
    bundle = open_bundle(args.bundle)
    profile, whose = _profile(args, config, bundle)
    policy = config.policy
    outcome = decide_in(situation, bundle, options_of(bundle, policy.kl, policy.max_kl),
                        rules_of(policy, config.cost), profile, energy_model(config.energy))
    if args.json:
        print(as_json(outcome))
    else:
        print(render(outcome, explain=args.explain, notes=[
            *_notes(args, config, outcome), f"segment times: {whose}"]))
    return outcome


def situation_of(args: argparse.Namespace, config: AgentConfig) -> Situation:
    """What the options say, the rest from a configuration. Raises UsageError."""
    from edge_agent.whatif.situation import Situation

    deadline_s = 1e-3 * config.frame.deadline_ms
    return Situation(
        deadline_s=deadline_s if args.deadline_ms is None else _time(args, "deadline_ms"),
        frame_rate=_frame_rate(args, config),
        uplink_bps=tuple(parse_rate(rate) for rate in _listed(args.uplink)) or None,
        rtt_s=None if args.rtt is None else parse_seconds(args.rtt, "--rtt"),
        link_up=not args.link_down,
        device_s=None if args.device_time is None else _time(args, "device_time"),
        peers=_peers(args), outlook=_outlook(args, config))


def _config(args: argparse.Namespace) -> AgentConfig:
    """The configuration with the policy as the options have it."""
    import msgspec

    from edge_agent.config import AgentConfig, ModelConfig, load_config

    config = load_config(args.config) if args.config else AgentConfig(ModelConfig(args.bundle))
    policy, given = config.policy, {}
    for name in ("aim", "kl", "max_kl", "min_cut"):
        if (value := getattr(args, name)) is not None:
            given[name] = value
    # One of the two moves the other out of its way.
    if "kl" in given and "max_kl" not in given:
        given["max_kl"] = max(policy.max_kl, given["kl"])
    elif "max_kl" in given and "kl" not in given:
        given["kl"] = min(policy.kl, given["max_kl"])
    if args.trusted is not None:
        given["trusted_workers"] = tuple(_listed(args.trusted))
    policy = msgspec.structs.replace(policy, **given)
    try:
        policy.check()
    except ConfigError as e:
        raise UsageError(str(e)) from None
    model = msgspec.structs.replace(config.model, bundle=args.bundle)
    return msgspec.structs.replace(config, policy=policy, model=model)


def _profile(args: argparse.Namespace, config: AgentConfig,
             bundle: Bundle) -> tuple[Profile, str]:
    """Segment times, and whose they are."""
    from edge_agent.control.profiles import device_profile, given_profile

    if args.profile is None:
        profile = device_profile(config, bundle)
        return profile, f"this machine ({profile.machine}), profile of {profile.made[:10]}"
    profile = given_profile(args.profile, bundle)
    return profile, f"{profile.machine}, profile of {profile.made[:10]}"


def _peers(args: argparse.Namespace) -> tuple[Peer, ...]:
    from edge_agent.whatif.situation import Peer
    from split_core.wire.topics import check_node_id

    text = args.workers or "1"
    if text.isdecimal():
        count = int(text)
        if count > 1000:
            raise UsageError(f"--workers {text}: wanted at most 1000")
        names = ["worker"] if count == 1 else [f"worker-{i + 1}" for i in range(count)]
    else:
        names = _listed([text])
    try:
        for name in names:
            check_node_id(name)
    except ConfigError as e:
        raise UsageError(f"--workers: {e}") from None
    if len(set(names)) < len(names):
        raise UsageError(f"--workers {text}: wanted each name once")
    whole_s = _one_each(args.worker_time, "--worker-time", len(names), least=1e-9)
    queue_s = _one_each(args.queue, "--queue", len(names))
    return tuple(Peer(*peer) for peer in zip(names, whole_s, (q or 0.0 for q in queue_s)))


def _one_each(text: str | None, name: str, count: int,
              least: float = 0.0) -> list[float | None]:
    """A time for each worker: one for all of them, or as many."""
    if text is None:
        return [None] * count
    found = [parse_seconds(part, name) for part in text.split(",")]
    if len(found) not in (1, count):
        raise UsageError(f"{name} {text}: {len(found)} times for {count} workers")
    if min(found) < least:
        raise UsageError(f"{name} {text}: wanted more than 0")
    return found * count if len(found) == 1 else found


def _outlook(args: argparse.Namespace, config: AgentConfig) -> Outlook:
    from edge_agent.belief.beliefs import Outlook
    from edge_agent.control.adaptation import battery_wh
    from edge_agent.planner.state import Battery
    from edge_agent.sensors import Health

    capacity_wh = config.energy.capacity_wh
    if args.capacity is not None:
        capacity_wh = _energy_wh(args.capacity, "--capacity")
    ratio, left_wh = _battery(args.battery)
    left_wh = battery_wh(Health(battery_wh=left_wh, battery_ratio=ratio), capacity_wh)
    mb, hours_s = args.mb_left, _DAY_S
    if mb is None:
        mb = config.policy.mb_per_day
        if args.hours_left is not None:
            raise UsageError("--hours-left goes with --mb-left")
    if args.hours_left is not None:
        hours_s = _time(args, "hours_left", "h")
    if mb is not None and not 0 <= mb < math.inf:
        raise UsageError(f"--mb-left {mb}: wanted 0 or more")
    if args.temperature is not None and not -90 < args.temperature < 200:
        raise UsageError(f"--temperature {args.temperature}: wanted degrees Celsius")
    return Outlook(
        Battery(left_wh, True if args.mains else None), _until_s(args, config),
        None if mb is None else 1e6 * mb, None if mb is None else hours_s,
        args.temperature, True if args.throttled else None)


def _until_s(args: argparse.Namespace, config: AgentConfig) -> float | None:
    from edge_agent.control.budget import seconds_until
    from edge_agent.policies.config import minutes_of

    energy = config.energy
    if args.until is not None:
        return _time(args, "until", "h")
    if energy.until is not None:
        now_s = time.time()
        return seconds_until(minutes_of(energy.until), now_s + time.localtime(now_s).tm_gmtoff)
    return None if energy.hours is None else 3600 * energy.hours


def _battery(text: str | None) -> tuple[float | None, float | None]:
    """A share, or Wh."""
    if text is None:
        return None, None
    word = text.strip()
    if word.endswith("%"):
        ratio = 0.01 * _number(word[:-1])
    elif word.lower().endswith("wh"):
        return None, _energy_wh(word, "--battery")
    else:
        ratio = _number(word)
    if not 0 <= ratio <= 1:
        raise UsageError(f"--battery {text}: wanted a share, 0.3 or 30%, or energy, 12Wh")
    return ratio, None


def _energy_wh(text: str, name: str) -> float:
    word = text.strip()
    energy_wh = _number(word[:-2] if word.lower().endswith("wh") else word)
    if not 0 <= energy_wh < 1e6:
        raise UsageError(f"{name} {text}: wanted watt-hours: 12Wh")
    return energy_wh


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _frame_rate(args: argparse.Namespace, config: AgentConfig) -> float:
    if args.fps is None:
        return config.frame.max_fps or _FRAME_RATE
    if not 0 < args.fps < 1e6:
        raise UsageError(f"--fps {args.fps}: wanted more than 0")
    return args.fps


def _time(args: argparse.Namespace, option: str, unit: str = "ms") -> float:
    name, text = "--" + option.replace("_", "-"), getattr(args, option)
    seconds = parse_seconds(text, name, unit)
    if seconds == 0:
        raise UsageError(f"{name} {text}: wanted more than 0")
    return seconds


def _listed(texts: list[str] | None) -> list[str]:
    """Of options that may be given twice or hold a list."""
    return [part.strip() for text in texts or () for part in text.split(",")]


def _notes(args: argparse.Namespace, config: AgentConfig, outcome: Outcome) -> list[str]:
    """What was said and decides nothing, and why."""
    notes, state = [], outcome.state
    if config.plan.fixed:
        notes.append(f"{args.config} fixes a plan in [plan]; that agent would not choose")
    if args.battery is not None and state.until_s is None:
        notes.append("the battery decides nothing without a time that it has to last: --until")
    elif args.battery is not None and state.battery.left_wh is None:
        notes.append("a share of the battery says nothing without what it holds: --capacity")
    return notes
