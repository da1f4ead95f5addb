"""The command `edge-agent`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from split_core import logs
from split_core.errors import SplitError, UsageError
from split_core.program import run_command
from split_core.version import VERSION
from split_core.wire.topics import DEFAULT_ROOT


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Runs the head of a model here and its tail on a worker, over MQTT.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_infer(commands)
    _add_split(commands)
    _add_inspect(commands)
    _add_demo(commands)
    return parser


def _command(commands, name: str, help: str, example: str, body) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help, description=help,
                                  epilog=f"example: edge-agent {example}")
    command.set_defaults(body=body)
    return command


def _add_run(commands) -> None:
    run = _command(commands, "run", "run the agent until stopped", "run -c agent.toml", _run)
    run.add_argument("-c", "--config", metavar="FILE", required=True)
    run.add_argument("-v", "--verbose", action="store_true", help="log every frame")


def _run(args) -> None:
    from edge_agent.config import load_config
    from edge_agent.daemon import run_agent

    logs.set_up(args.verbose)
    run_agent(load_config(args.config))


def _add_infer(commands) -> None:
    infer = _command(
        commands, "infer", "answers for single inputs, one a line",
        "infer model.split.tflite photo.jpg --broker mqtt://127.0.0.1:1883 --cut 14", _infer)
    infer.add_argument("bundle", metavar="BUNDLE")
    infer.add_argument("inputs", metavar="INPUT", nargs="+", help="picture, or array (.npy)")
    infer.add_argument("--broker", metavar="URL",
                       help="mqtt://, mqtts:// or mqtt+unix://; without it all runs here")
    infer.add_argument("--cut", type=int, metavar="K",
                       help="ops to run here; the number of ops for all (default: the cheapest"
                            " to send with at most half of the work here)")
    how = infer.add_mutually_exclusive_group()
    how.add_argument("--bits", type=int, metavar="B", choices=range(1, 9), default=4,
                     help="quantize to 1..8 bits (default 4)")
    how.add_argument("--raw", action="store_true", help="send the tensors without loss")
    how.add_argument("--jpeg", type=int, metavar="Q", help="send a JPEG of the input (cut 0)")
    infer.add_argument("--json", action="store_true", help="one JSON object a line")
    infer.add_argument("--tensors", action="store_true", help="with --json: outputs as they are")
    infer.add_argument("--root", default=DEFAULT_ROOT, help="topic root (default %(default)s)")
    infer.add_argument("--runtime", choices=("litert", "tflite-runtime"))
    infer.add_argument("--deadline-ms", type=float, default=5000.0, metavar="MS",
                       help="finish here if no answer came by then (default %(default)s)")
    infer.add_argument("--wait", type=float, default=20.0, metavar="S",
                       help="for broker, worker and bundle before the first input"
                            " (default %(default)s)")
    infer.add_argument("--id", help="device id, where the broker ties topics to user names"
                                    " (default: a new one)")
    infer.add_argument("--username")
    infer.add_argument("--password-file", metavar="FILE")
    for name in ("ca", "cert", "key"):
        infer.add_argument(f"--{name}-file", metavar="FILE")
    infer.add_argument("--allow-plain", action="store_true",
                       help="plain mqtt:// to another machine")


def _infer(args) -> int:
    from edge_agent.infer import infer_inputs
    from split_core.config import BrokerConfig

    broker = None
    if args.broker:
        broker = BrokerConfig(
            url=args.broker, username=args.username, password_file=args.password_file,
            ca_file=args.ca_file, cert_file=args.cert_file, key_file=args.key_file,
            allow_plain=args.allow_plain)
    rung = "raw" if args.raw else f"q{args.bits}"
    if args.jpeg is not None:
        rung, args.cut = f"jpeg{args.jpeg}", args.cut or 0
    return infer_inputs(
        args.bundle, args.inputs, broker=broker, cut=args.cut, rung=rung, device_id=args.id,
        root=args.root, deadline_ms=args.deadline_ms, wait_s=args.wait, as_json=args.json,
        runtime=args.runtime, raw_tensors=args.tensors)


def _add_split(commands) -> None:
    split = _command(commands, "split", "make a bundle from a .tflite model",
                     "split model.tflite -o model.split.tflite", _split)
    split.add_argument("model", metavar="MODEL")
    split.add_argument("-o", "--output", metavar="FILE",
                       help="default: MODEL with .split.tflite, beside it")
    split.add_argument("--cuts", default="useful", metavar="WHICH",
                       help="useful (default), all, or op counts: 14,25")
    split.add_argument("--labels", metavar="FILE", help="one label a line")
    split.add_argument("--answer",
                       choices=("classification", "sequence", "detection", "tensors"),
                       help="what the outputs mean (default: guessed from their shapes)")
    split.add_argument("--state", action="append", metavar="IN=OUT",
                       help="an output fed back as an input (default: guessed from names)")
    split.add_argument("--no-state", action="store_true", help="no output is fed back")
    split.add_argument("--crop", type=float, help="part of the shorter side to use, 0 to 1")
    split.add_argument("--stretch", action="store_true", help="do not keep the aspect")
    split.add_argument("--order", choices=("RGB", "BGR"))
    split.add_argument("--scale", type=float,
                       help="float input = sample (0..255) * SCALE + OFFSET")
    split.add_argument("--offset", type=float)
    split.add_argument("--runtime", choices=("litert", "tflite-runtime"),
                       help="for the trial run")


def _split(args) -> None:
    from split_lab.cut_table import inspect_file, render
    from split_lab.split import split_model

    image = {k: getattr(args, k) for k in ("crop", "order", "scale", "offset")
             if getattr(args, k) is not None}
    if args.stretch:
        image["keep_aspect"] = False
    output = Path(args.output or Path(args.model).with_suffix("").name + ".split.tflite")
    data = split_model(args.model, cuts=_which_cuts(args.cuts), labels=args.labels,
                       answer=args.answer, states=[] if args.no_state else args.state,
                       image=image, runtime=args.runtime)
    try:
        # Into place at once: a running agent may have the old file mapped.
        part = output.with_name(output.name + ".part")
        part.write_bytes(data)
        os.replace(part, output)
    except OSError as e:
        raise SplitError(f"cannot write {output}: {e.strerror}") from None
    print(render(inspect_file(output)), file=sys.stderr)
    print(output)


def _which_cuts(text: str) -> str | list[int]:
    if text in ("useful", "all"):
        return text
    try:
        return [int(k) for k in text.split(",")]
    except ValueError:
        raise UsageError(f"--cuts {text}: wanted useful, all, or op counts: 14,25") from None


def _add_inspect(commands) -> None:
    inspect = _command(commands, "inspect", "the cut table of a model or bundle",
                       "inspect model.tflite", _inspect)
    inspect.add_argument("file", metavar="FILE")
    inspect.add_argument("--json", action="store_true")
    inspect.add_argument("--all", action="store_true", help="of a model, show every cut")


def _inspect(args) -> None:
    from split_lab.cut_table import inspect_file, render

    report = inspect_file(args.file)
    print(json.dumps(report) if args.json else render(report, every=args.all))


def _add_demo(commands) -> None:
    demo = _command(commands, "demo", "see it work: broker, worker and agent on this machine",
                    "demo", _demo)
    demo.add_argument("--frames", type=int, default=500, help="(default %(default)s)")
    demo.add_argument("--json", action="store_true", help="only the summary, as JSON")


def _demo(args) -> int:
    # Drawing the frames multiplies small matrices; OpenBLAS's second thread would spin for it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from split_lab.demo.show import run_demo
    except ImportError as e:
        raise UsageError(f"the demo needs the extra `demo`: pip install 'edge-agent[demo]' ({e})"
                         ) from None
    return run_demo(frames=args.frames, as_json=args.json)


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_command("edge-agent", lambda: args.body(args))


if __name__ == "__main__":
    sys.exit(main())
