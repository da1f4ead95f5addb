"""`edge-agent field-test`: from arguments to a trial, and from a trial to a report."""

from __future__ import annotations

import argparse
import contextlib
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec

from edge_agent.config import AgentConfig, ModelConfig, load_config
from edge_agent.planner.candidates import options_of
from edge_agent.control.profiles import device_profile, given_profile
from split_core.errors import UsageError
from split_core.files import cannot_write
from split_core.model.bundle import open_bundle
from split_core.quantities import parse_seconds
from split_lab.field.link_spec import LinkSpec
from split_lab.field.arguments import ARMS
from split_lab.field.records import FieldRun
from split_lab.field.report import write_report
from split_lab.field.stack import LocalStack
from split_lab.field.summary import summarize
from split_lab.field.trial import (
    LEAST_PERIOD_S, PERIOD_PER_WHOLE, Trial, read_battery,
)
from split_lab.progress import Progress


def run_field_test(args: argparse.Namespace) -> Path:
    """Run it, write the report, say in a few lines what came out; the page's path."""
    output = Path(args.output)
    trial = _trial(args)
    with contextlib.ExitStack() as opened:
        scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="field-")))
        if args.virtual:
            if args.stack or args.fault:
                raise UsageError("--stack and --fault are for a real run, not for --virtual")
            run = _run_virtual(trial)
        else:
            try:
                output.mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise cannot_write(output, e) from None
            # Ended from outside it ends what it has started, as with control-C.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            run = _run_real(trial, args, output, scratch, opened)
    page = write_report(run, output)
    print(render(run))
    return page


def _run_virtual(trial: Trial) -> FieldRun:
    from split_lab.field.virtual_run import run_virtual

    return run_virtual(trial, Progress("field test"))


def _run_real(trial: Trial, args, output: Path, scratch: Path,
              opened: contextlib.ExitStack) -> FieldRun:
    from split_lab.field.real_run import run_real
    from split_lab.field.warm import hand_over_bundle

    stack = None
    if args.stack:
        stack = opened.enter_context(LocalStack(scratch))
        broker = msgspec.structs.replace(trial.config.broker, url=stack.url)
        trial = replace(trial, config=msgspec.structs.replace(
            trial.config, broker=broker))
    elif args.fault:
        raise UsageError("--fault needs --stack: only a broker and a worker of our own are broken")
    hand_over_bundle(trial.config)
    return run_real(trial, output, stack=stack, faults=args.fault, inputs=args.inputs,
                    progress=Progress("field test"))


def _trial(args) -> Trial:
    if (args.config is None) == (args.bundle is None):
        raise UsageError("give --config FILE or --bundle BUNDLE")
    config = load_config(args.config) if args.config else AgentConfig(
        model=ModelConfig(args.bundle))
    if args.aim:
        config = msgspec.structs.replace(
            config, policy=msgspec.structs.replace(config.policy, aim=args.aim))
    bundle = open_bundle(config.model.bundle)
    arms = tuple(args.arms.split(","))
    if unknown := set(arms) - set(ARMS):
        raise UsageError(f"--arms: found {', '.join(sorted(unknown)) or 'none'}, there are"
                         f" {', '.join(ARMS)}")
    if len(set(arms)) < len(arms):
        raise UsageError(f"--arms: found {args.arms}, wanted each arm once")
    # Under a privacy floor only what keeps it is compared.
    floor = config.policy.min_cut
    left_out = tuple(a for a in arms if floor and a in ("raw", "jpeg", "peer"))
    arms = tuple(a for a in arms if a not in left_out)
    options = tuple(o for o in options_of(bundle, config.policy.kl, config.policy.max_kl)
                    if o.cut >= floor or o.cut == bundle.last_cut)
    link = LinkSpec.parse(
        args.link, rtt_s=parse_seconds(args.rtt, "--rtt"),
        jitter_s=parse_seconds(args.jitter, "--jitter"), outages=_spans(args.outage),
        black_holes=_spans(args.black_hole), seed=args.seed) if args.link else None
    device = given_profile(args.profile, bundle) if args.profile else device_profile(
        config, bundle)
    device_s = _some_time(args.device_time, "--device-time") if args.device_time else None
    whole_s = device_s or device.span_s(0, len(device.segments))
    return Trial(
        bundle, config, options, device, device, link, _link_name(args.link),
        _some_time(args.deadline, "--deadline") if args.deadline
        else 1e-3 * config.frame.deadline_ms,
        _some_time(args.duration, "--duration", "s"),
        _some_time(args.period, "--period", "s") if args.period else max(
            LEAST_PERIOD_S, PERIOD_PER_WHOLE * whole_s),
        device_s, arms, read_battery(args.battery) if args.battery else None, args.seed,
        parse_seconds(args.skew, "--skew"), left_out=left_out)


def _link_name(link: str | None) -> str:
    """A trace by its file's name, anything else as it was written."""
    if link is None:
        return "as it is"
    return Path(link).name if Path(link).is_file() else link


def _some_time(text: str, name: str, unit: str = "ms") -> float:
    """Seconds, more than none. Raises UsageError."""
    seconds = parse_seconds(text, name, unit)
    if seconds <= 0:
        raise UsageError(f"{name}: found {text!r}, wanted more than 0")
    return seconds


def _spans(texts: list[str]) -> tuple[tuple[float, float], ...]:
    found = []
    for text in texts:
        start, plus, length = text.partition("+")
        if not plus:
            raise UsageError(f"found {text!r}, wanted START+LENGTH such as 60s+5s")
        found.append((parse_seconds(start, "start", "s"), parse_seconds(length, "length", "s")))
    return tuple(found)


def render(run: FieldRun) -> str:
    """The summary as a table for a terminal."""
    arms = summarize(run)["arms"]
    lines = [f"{'arm':<10} {'frames':>6} {'mean ms':>8} {'p50':>7} {'p95':>7} {'on time':>8}"
             f" {'bytes':>8} {'J':>7}  {'switches':>8}"]
    for name, a in arms.items():
        mean, p50, p95 = (f"{v:.1f}" if v is not None else "-"
                          for v in (a["mean_ms"], a["p50_ms"], a["p95_ms"]))
        lines.append(f"{name:<10} {a['frames']:>6} {mean:>8} {p50:>7} {p95:>7}"
                     f" {a['deadline_met_ratio']:>8.1%} {a['bytes_per_frame']:>8.0f}"
                     f" {a['energy_j_per_frame']:>7.3f}  {a['switches']:>8}")
    return "\n".join(lines + [f"note: {note}" for note in run.notes])
