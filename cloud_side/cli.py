"""The command `cloud-worker`."""

from __future__ import annotations

import argparse
import sys

import msgspec

from cloud_side.config import WorkerConfig
from split_core import logs
from split_core.config import load_toml
from split_core.cost import command as profiling
from split_core.errors import UsageError
from split_core.program import on_stop_signals, run_command
from split_core.version import VERSION


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cloud-worker",
        description="Runs the tails of models whose heads run on devices.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", help="serve devices until stopped",
        epilog="example: cloud-worker run --broker mqtt://127.0.0.1:1883 --store ./bundles",
    )
    run.add_argument("-c", "--config", metavar="FILE", help="TOML file; flags override it")
    run.add_argument("--broker", metavar="URL", help="mqtt://, mqtts:// or mqtt+unix://")
    run.add_argument("--store", metavar="DIR", help="where bundles are kept")
    run.add_argument("--id", help="the worker's name; by default the host's")
    run.add_argument("--root", help="topic root")
    run.add_argument("--state", metavar="DIR",
                     help="where profiles are kept (default: $STATE_DIRECTORY, else in"
                          " ~/.local/state)")
    run.add_argument("--runtime", choices=("litert", "tflite-runtime"))
    run.add_argument("--threads", type=int, help="of the interpreter")
    run.add_argument("-v", "--verbose", action="store_true", help="log every frame")
    run.set_defaults(body=_run)
    profile = commands.add_parser(
        "profile", help=profiling.HELP, description=profiling.HELP,
        epilog="example: cloud-worker profile model.split.tflite --threads 2",
    )
    profiling.add_arguments(profile)
    profile.set_defaults(body=lambda args: profiling.run(args, "cloud-worker"))
    return parser


def settings(args: argparse.Namespace) -> WorkerConfig:
    """File, then flags over it."""
    config = load_toml(args.config, WorkerConfig) if args.config else WorkerConfig()
    if not args.config and not args.store:
        raise UsageError("give --config FILE, or --broker and --store")

    def over(part, **values):
        given = {k: v for k, v in values.items() if v is not None}
        return msgspec.structs.replace(part, **given) if given else part

    return over(
        config, id=args.id, root=args.root, state_dir=args.state,
        broker=over(config.broker, url=args.broker),
        store=over(config.store, path=args.store),
        run=over(config.run, runtime=args.runtime, threads=args.threads),
    )


def _run(args: argparse.Namespace) -> None:
    from cloud_side.worker import CloudWorker

    logs.set_up(args.verbose)
    worker = CloudWorker(settings(args))
    on_stop_signals(worker.request_stop)
    worker.start()
    try:
        worker.wait()
    finally:
        worker.stop()


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_command("cloud-worker", lambda: args.body(args))


if __name__ == "__main__":
    sys.exit(main())
