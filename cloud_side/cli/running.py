"""`run` and `profile`: what a worker does all day, and what its machine takes for a bundle."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from split_core.commands import Commands
from split_core.cost import command as profiling
from split_core.errors import UsageError

if TYPE_CHECKING:
    from cloud_side.config import WorkerConfig


def add_commands(commands: Commands) -> None:
    _add_run(commands)
    _add_profile(commands)


def _add_run(commands: Commands) -> None:
    run = commands.add(
        "run", "serve devices until stopped",
        "run -c /etc/cloud-worker/w1.toml",
        "run --broker mqtt://127.0.0.1:1883 --store ./bundles",
        "run -c worker.toml --id w2 --threads 4", body=_run)
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
    run.add_argument("--log-format", choices=("auto", "text", "json", "journal"),
                     help="default: service.log_format")


def settings(args: argparse.Namespace) -> WorkerConfig:
    """File, environment, then flags over them."""
    from cloud_side.config import load_config

    if not (args.config or args.store or "CLOUD_WORKER__STORE__PATH" in os.environ):
        raise UsageError("give --config FILE, or --broker and --store")
    return load_config(args.config, {
        "id": ("--id", args.id), "root": ("--root", args.root),
        "state_dir": ("--state", args.state), "broker.url": ("--broker", args.broker),
        "store.path": ("--store", args.store), "run.runtime": ("--runtime", args.runtime),
        "run.threads": ("--threads", args.threads)})


def _run(args: argparse.Namespace) -> None:
    from cloud_side.daemon import run_worker
    from split_core import logs

    logs.set_up(args.verbose, args.log_format or "auto")
    run_worker(settings(args), load=(lambda: settings(args)) if args.config else None,
               verbose=args.verbose, log_format=args.log_format)


def _add_profile(commands: Commands) -> None:
    profiling.add_arguments(commands.add(
        "profile", profiling.HELP, "profile model.split.tflite --threads 2",
        "profile model.split.tflite --inputs photos/ --json",
        body=lambda args: profiling.run(args, "cloud-worker")))
