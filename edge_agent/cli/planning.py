"""`profile`, `plan`, `replay`: what it takes, what would be done, what was decided."""

from __future__ import annotations

import sys

from edge_agent.whatif import command as whatif
from split_core.commands import Commands
from split_core.cost import command as profiling


def add_commands(commands: Commands) -> None:
    _add_profile(commands)
    _add_plan(commands)
    _add_replay(commands)


def _add_profile(commands: Commands) -> None:
    profile = commands.add("profile", profiling.HELP,
                           "profile model.split.tflite --inputs photos/",
                           "profile model.split.tflite --json > pi4.json",
                           body=lambda args: profiling.run(args, "edge-agent"))
    profiling.add_arguments(profile)


def _add_plan(commands: Commands) -> None:
    whatif.add_arguments(commands.add("plan", whatif.HELP, *whatif.EXAMPLES, body=_plan))


def _plan(args) -> None:
    outcome = whatif.run(args)
    if args.plot:
        from edge_agent.whatif.report import to_draw
        from split_lab.plan_plot import plot_plan

        candidates, chosen, runner_up = to_draw(outcome)
        plot_plan(candidates, chosen, args.plot, runner_up)
        print(args.plot, file=sys.stderr)


def _add_replay(commands: Commands) -> None:
    replay = commands.add(
        "replay", "make the decisions of a journal again, as they were or by other rules",
        "replay decisions.jsonl", "replay decisions.jsonl --policy deadline --max-kl 0.02",
        body=_replay)
    replay.add_argument("journal", metavar="JOURNAL", help="what policy.journal names")
    replay.add_argument("--policy", "--aim", dest="aim", choices=("latency", "deadline"),
                        help="another aim; with none of these, the recorded decisions have to come"
                             " out, byte for byte, else the exit code is 1")
    for option, kind, metavar, what in (
            ("margin", float, "M", "the gain that a plan changes for"),
            ("dwell", float, "S", "how long a plan lasts"),
            ("max-kl", float, "D", "divergence tolerated, at most the recorded one"),
            ("min-cut", int, "K", "nothing leaves the device before this op"),
            ("slack-price", float, "P", "of a second of lateness")):
        replay.add_argument(f"--{option}", type=kind, metavar=metavar, help=what)
    replay.add_argument("--trusted", metavar="W", help="only these workers: left,right")
    replay.add_argument("--json", action="store_true", help="one JSON object")


def _replay(args) -> int:
    from edge_agent.whatif.open_loop import Change
    from edge_agent.whatif.replay import run

    trusted = None if args.trusted is None else tuple(filter(None, args.trusted.split(",")))
    return run(args.journal, Change(args.aim, args.margin, args.dwell, args.max_kl, args.min_cut,
                                    args.slack_price, trusted), as_json=args.json)
