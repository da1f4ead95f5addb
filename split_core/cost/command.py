"""The command `profile`, which devices and workers have alike."""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import TYPE_CHECKING

from split_core.errors import UsageError

if TYPE_CHECKING:
    from split_core.cost.profile import CodingTime, Profile
    from split_core.model.bundle import Bundle

HELP = "time every segment and coding of a bundle on this machine"
_BAR = 6
# Codings in a line of the table; the profile has all.
_SHOWN = 2


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What `profile` takes."""
    command.add_argument("bundle", metavar="BUNDLE")
    command.add_argument("--inputs", metavar="DIR",
                         help="pictures, or arrays (.npy, .npz); without any, noise"
                              " that costs about what a photograph does")
    command.add_argument("--threads", type=int, default=1, metavar="N",
                         help="of the interpreter (default %(default)s)")
    command.add_argument("--runtime", choices=("litert", "tflite-runtime"))
    command.add_argument("--seconds", type=float, default=3.0, metavar="S",
                         help="to spend, about (default %(default)s); large models take longer")
    command.add_argument("--state", metavar="DIR",
                         help="where profiles are kept (default: $STATE_DIRECTORY, else in"
                              " ~/.local/state)")
    command.add_argument("--json", action="store_true", help="print the profile as it is kept")


def run(args: argparse.Namespace, program: str) -> None:
    """Measure, keep and show a profile. Raises UsageError, BundleError, InputError,
    ConfigError."""
    if args.threads < 1:
        raise UsageError(f"--threads {args.threads}: wanted 1 or more")
    if not 0 < args.seconds < math.inf:
        raise UsageError(f"--seconds {args.seconds}: wanted more than 0")
    from split_core.cost.inputs import load_inputs
    from split_core.cost.measure import measure
    from split_core.cost.profile import dump
    from split_core.cost.store import ProfileStore
    from split_core.model.bundle import open_bundle
    from split_core.settings.places import default_state_dir

    bundle = open_bundle(args.bundle)
    samples = load_inputs(bundle, args.inputs) if args.inputs else None
    profile = measure(bundle, runtime=args.runtime, threads=args.threads,
                      budget_s=args.seconds, samples=samples, progress=_Progress())
    # Shown first: what was measured is told, too, where it cannot be kept.
    print(dump(profile).decode() if args.json else render(bundle, profile), flush=True)
    path = ProfileStore(args.state or default_state_dir(program)).save(profile)
    print(path, file=sys.stderr if args.json else sys.stdout)


class _Progress:
    """Percents on standard error, from two seconds on."""

    def __init__(self):
        self._next_s, self._shown = time.monotonic() + 2.0, False
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s and not (self._shown and done == total):
            return
        self._shown, self._next_s = True, now_s + (0.2 if self._terminal else 10.0)
        text = f"profile {100 * done // total:>3} %"
        if self._terminal:
            text = "\r\033[K" + (text if done < total else "")
        print(text, end="" if self._terminal else "\n", file=sys.stderr, flush=True)


def render(bundle: Bundle, profile: Profile) -> str:
    """The profile as a table: a line a cut, with the segment in front of it."""
    threads = f"{profile.threads} thread" + "s" * (profile.threads > 1)
    total_s = profile.span_s(0, len(profile.segments)) or 1.0
    lines = [
        f"{bundle.manifest.name}: {1e3 * profile.whole_s:.2f} ms on {profile.machine},"
        f" {profile.runtime}, {threads}", "",
        f"{'cut':>4}  {'after op':<16} {'ms':>8} {'+-':>6} {'sum ms':>8}  {'share':<11}"
        "  encode + decode ms, bytes",
    ]
    for index, entry in enumerate(bundle.manifest.cuts):
        taken = f"{'':8} {'':6} {'':8}"
        share = 0.0
        if index:
            segment, until_s = profile.segments[index - 1], profile.span_s(0, index)
            share = segment.median_s / total_s
            taken = (f"{1e3 * segment.median_s:8.2f} {1e3 * segment.spread_s:6.2f}"
                     f" {1e3 * until_s:8.2f}")
        bar = f"{share:>4.0%} {'#' * round(_BAR * share)}" if index else ""
        codings = [c for c in profile.codings if c.cut == entry.cut][:_SHOWN]
        lines.append(f"{entry.cut:>4}  {_op(entry.after_op)[:16]:<16} {taken}  {bar:<11}"
                     f"  {'; '.join(map(_coding, codings))}".rstrip())
    return "\n".join(lines)


def _op(name: str) -> str:
    return name.removeprefix("CUSTOM:")


def _coding(coding: CodingTime) -> str:
    return (f"{coding.rung} {1e3 * coding.encode_s:.2f} + {1e3 * coding.decode_s:.2f},"
            f" {_bytes(coding.bytes)}")


def _bytes(n: float) -> str:
    return f"{n:.0f} B" if n < 10_000 else f"{n / 1000:.1f} kB" if n < 10e6 else f"{n / 1e6:.1f} MB"
