"""`field-test` and `demo`: the agent on a link, watched."""

from __future__ import annotations

import os

from split_core.commands import Commands
from split_core.errors import UsageError


def add_commands(commands: Commands) -> None:
    _add_field_test(commands)
    _add_demo(commands)


def _add_field_test(commands: Commands) -> None:
    from split_lab.field.arguments import add_arguments

    add_arguments(commands.add(
        "field-test", "drive the agent over a link, and write a report people can read",
        "field-test --virtual --bundle m.split.tflite --link 1Mbit --device-time 400 -o report",
        "field-test -c agent.toml --duration 10m -o report",
        body=_field_test))


def _field_test(args) -> None:
    from split_lab.field.command import run_field_test

    print(run_field_test(args))


def _add_demo(commands: Commands) -> None:
    demo = commands.add("demo", "see it work: broker, worker and agent on this machine",
                        "demo", "demo --frames 50 --json", "demo --files try/", body=_demo)
    demo.add_argument("--frames", type=int, default=500, help="(default %(default)s)")
    demo.add_argument("--json", action="store_true", help="only the summary, as JSON")
    demo.add_argument("--files", metavar="DIR",
                      help="run nothing; write the demo's model and pictures there, to try with"
                           " a broker of one's own")


def _demo(args) -> int | None:
    if args.files:
        from split_lab.demo.files import write_demo_files

        for path in write_demo_files(args.files):
            print(path)
        return None
    # Drawing the frames multiplies small matrices; OpenBLAS's second thread would spin for it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from split_lab.demo.show import run_demo
    except ImportError as e:
        raise UsageError(f"the demo needs the extra `demo`: pip install 'edge-agent[demo]' ({e})"
                         ) from None
    return run_demo(frames=args.frames, as_json=args.json)
