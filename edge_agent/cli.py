"""The command `edge-agent`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from edge_agent import whatif
from split_core import logs
from split_core.cost import command as profiling
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
    _add_calibrate(commands)
    _add_inspect(commands)
    _add_evaluate(commands)
    _add_profile(commands)
    _add_plan(commands)
    _add_replay(commands)
    _add_field_test(commands)
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
    how.add_argument("--kl", type=float, metavar="D",
                     help="code for a predicted divergence of D nats from the whole model (default"
                          " 0.02 where the bundle is calibrated)")
    how.add_argument("--bytes", type=int, metavar="N",
                     help="code to at most N bytes (calibrated bundles)")
    how.add_argument("--bits", type=int, metavar="B", choices=range(1, 9),
                     help="quantize to 1..8 bits (default 4 where it is not)")
    how.add_argument("--raw", action="store_true", help="send the tensors without loss")
    how.add_argument("--jpeg", type=int, metavar="Q", help="send a JPEG of the input (cut 0)")
    how.add_argument("--webp", type=int, metavar="Q", help="send a WebP of the input (cut 0)")
    infer.add_argument("--refine", action="store_true",
                       help="with --kl or --bytes: a coarse layer first, the rest only when the"
                            " worker is not sure of the answer")
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
    rung = _rung(args)
    if args.jpeg is not None or args.webp is not None:
        args.cut = args.cut or 0
    return infer_inputs(
        args.bundle, args.inputs, broker=broker, cut=args.cut, rung=rung, device_id=args.id,
        root=args.root, deadline_ms=args.deadline_ms, wait_s=args.wait, as_json=args.json,
        runtime=args.runtime, raw_tensors=args.tensors)


def _rung(args) -> str | None:
    """The name of the rung asked for; None leaves it to the bundle."""
    from split_core.wire.rungs import Rung

    names = {"kl": "kl", "bytes": "b", "bits": "q", "jpeg": "jpeg", "webp": "webp"}
    chosen = [f"{name}{getattr(args, option)}" for option, name in names.items()
              if getattr(args, option) is not None]
    if args.refine and args.kl is None and args.bytes is None:
        raise UsageError("--refine needs --kl or --bytes")
    if not chosen:
        return "raw" if args.raw else None
    try:
        return Rung.parse(chosen[0] + ("+refine" if args.refine else "")).name
    except ValueError as e:
        raise UsageError(str(e)) from None


def _add_split(commands) -> None:
    split = _command(commands, "split", "make a bundle from a .tflite model",
                     "split model.tflite -o model.split.tflite", _split)
    split.add_argument("model", metavar="MODEL")
    split.add_argument("-o", "--output", metavar="FILE",
                       help="default: MODEL with .split.tflite, beside it")
    split.add_argument("--cuts", default="useful", metavar="WHICH",
                       help="useful (default), all, or op counts: 14,25")
    _add_description(split)
    split.add_argument("--runtime", choices=("litert", "tflite-runtime"),
                       help="for the trial run")


def _add_description(command: argparse.ArgumentParser) -> None:
    """What a model's inputs and outputs mean, where guessing is not enough."""
    command.add_argument("--labels", metavar="FILE", help="one label a line")
    command.add_argument("--answer",
                       choices=("classification", "sequence", "detection", "tensors"),
                       help="what the outputs mean (default: guessed from their shapes)")
    command.add_argument("--state", action="append", metavar="IN=OUT",
                       help="an output fed back as an input (default: guessed from names)")
    command.add_argument("--no-state", action="store_true", help="no output is fed back")
    command.add_argument("--crop", type=float, help="part of the shorter side to use, 0 to 1")
    command.add_argument("--stretch", action="store_true", help="do not keep the aspect")
    command.add_argument("--order", choices=("RGB", "BGR"))
    command.add_argument("--scale", type=float,
                       help="float input = sample (0..255) * SCALE + OFFSET")
    command.add_argument("--offset", type=float)


def _described(args) -> dict:
    image = {k: getattr(args, k) for k in ("crop", "order", "scale", "offset")
             if getattr(args, k) is not None}
    if args.stretch:
        image["keep_aspect"] = False
    return {"labels": args.labels, "answer": args.answer,
            "states": [] if args.no_state else args.state, "image": image}


def _split(args) -> None:
    from split_lab.cut_table import inspect_file, render
    from split_lab.split import split_model

    output = _bundle_path(args)
    data = split_model(args.model, cuts=_which_cuts(args.cuts), runtime=args.runtime,
                       **_described(args))
    _write_whole(output, data)
    print(render(inspect_file(output)), file=sys.stderr)
    print(output)


def _bundle_path(args) -> Path:
    return Path(args.output or Path(args.model).with_suffix("").name + ".split.tflite")


def _write_whole(output: Path, data: bytes) -> None:
    """Into place at once: a running agent may have the old file mapped."""
    try:
        part = output.with_name(output.name + ".part")
        part.write_bytes(data)
        os.replace(part, output)
    except OSError as e:
        raise SplitError(f"cannot write {output}: {e.strerror}") from None


def _add_calibrate(commands) -> None:
    calibrate = _command(
        commands, "calibrate", "make a bundle whose cuts know their codec and what it costs",
        "calibrate model.tflite --inputs photos/ -o model.split.tflite --plot rates.png",
        _calibrate)
    calibrate.add_argument("model", metavar="MODEL")
    calibrate.add_argument("--inputs", metavar="DIR", required=True,
                           help="pictures, or arrays (.npy, .npz); labels are not needed")
    calibrate.add_argument("--samples", type=int, default=100, metavar="N",
                           help="files to use (default %(default)s)")
    calibrate.add_argument("-o", "--output", metavar="FILE",
                           help="default: MODEL with .split.tflite, beside it")
    calibrate.add_argument("--cuts", default="useful", metavar="WHICH",
                           help="useful (default: the front of work against measured bytes),"
                                " all, or op counts: 14,25")
    calibrate.add_argument("--method", choices=("gradients", "probes"),
                           help="gradients need PyTorch (pip install 'edge-agent[calibrate]');"
                                " probes work for every model (default: what works)")
    calibrate.add_argument("--plot", metavar="FILE.png",
                           help="draw bytes against divergence, cut by cut")
    calibrate.add_argument("--seed", type=int, default=1, help="of crops and draws")
    _add_description(calibrate)
    calibrate.add_argument("--runtime", choices=("litert", "tflite-runtime"))


def _calibrate(args) -> None:
    if args.samples < 1:
        raise UsageError(f"--samples {args.samples}: wanted 1 or more")
    from split_lab.calibrate.run import calibrate_model
    from split_lab.cut_table import inspect_file, render

    outcome = calibrate_model(
        args.model, args.inputs, samples=args.samples, cuts=_which_cuts(args.cuts),
        seed=args.seed, method=args.method, runtime=args.runtime,
        compare=args.plot is not None, **_described(args))
    output = _bundle_path(args)
    _write_whole(output, outcome.data)
    print(render(inspect_file(output)), file=sys.stderr)
    print(f"{outcome.seconds:.0f} s, by {outcome.method}; {outcome.table_bytes} bytes of tables"
          f" in {len(outcome.data)}", file=sys.stderr)
    if args.plot:
        from split_lab.calibrate.plot import plot_rates

        plot_rates(outcome, args.plot)
        print(args.plot, file=sys.stderr)
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


def _add_evaluate(commands) -> None:
    evaluate = _command(
        commands, "evaluate", "bytes, divergence and accuracy of a code at a cut",
        "evaluate model.split.tflite --inputs photos/ --cut 14 --bits 4", _evaluate)
    evaluate.add_argument("bundle", metavar="BUNDLE")
    evaluate.add_argument("--inputs", metavar="DIR", required=True,
                          help="folder of pictures or arrays (.npy, .npz), or one of them")
    evaluate.add_argument("--samples", type=int, metavar="N",
                          help="use N of them, spread evenly (default: all)")
    evaluate.add_argument("--cut", type=int, metavar="K",
                          help="ops before the cut (not needed for the pictures: 0)")
    how = evaluate.add_mutually_exclusive_group()
    how.add_argument("--kl", type=float, metavar="D",
                     help="calibrated code, by divergence from the whole model")
    how.add_argument("--bits", type=int, metavar="B", help="quantize to 1..8 bits")
    how.add_argument("--raw", action="store_true", help="the tensors without loss")
    how.add_argument("--clip", type=int, metavar="N",
                     help="to compare: clip, N uniform levels, ideal entropy coding")
    how.add_argument("--jpeg", type=int, metavar="Q", help="JPEG of the input (cut 0)")
    how.add_argument("--webp", type=int, metavar="Q", help="WebP of the input (cut 0)")
    how.add_argument("--avif", type=int, metavar="Q", help="AVIF of the input (cut 0)")
    evaluate.add_argument("--refine", action="store_true",
                          help="with --kl: in two layers, the second where the answer is close")
    evaluate.add_argument("--calibration", metavar="DIR",
                          help="inputs to fit --clip to (default: --inputs, which favours it)")
    evaluate.add_argument("--crops", choices=("hard", "centre"), default="hard",
                          help="the views of a photo (default %(default)s)")
    evaluate.add_argument("--views", type=int, metavar="V",
                          help="how many of each photo (default: 8 hard, 1 centre)")
    evaluate.add_argument("--labels", metavar="FILE",
                          help="lines 'FILE-NAME-PREFIX CLASS-INDEX', or the word folders: the"
                               " folder is the label")
    evaluate.add_argument("--label-offset", type=int, metavar="N",
                          help="added to the indices (default: 1 where the model has a"
                               " background class in front, else 0)")
    evaluate.add_argument("--seed", type=int, default=0, help="of the crops")
    evaluate.add_argument("--runtime", choices=("litert", "tflite-runtime"))
    evaluate.add_argument("--json", action="store_true", help="one JSON object")


def _evaluate(args) -> None:
    from split_lab.evaluate import render, run_evaluate

    names = {"kl": "kl", "bits": "q", "clip": "clip", "jpeg": "jpeg", "webp": "webp",
             "avif": "avif"}
    chosen = [f"{name}{getattr(args, option):g}" for option, name in names.items()
              if getattr(args, option) is not None]
    chosen += ["raw"] if args.raw else []
    if args.refine:
        if args.kl is None:
            raise UsageError("--refine goes with --kl")
        chosen = [f"{chosen[0]}+refine"]
    if not chosen:
        raise UsageError("say how to code: --kl, --bits, --raw, --clip, --jpeg, --webp or"
                         " --avif")
    of_picture = args.cut is None and chosen[0].startswith(("jpeg", "webp", "avif"))
    if args.cut is None and not of_picture:
        raise UsageError("--cut is needed: `edge-agent inspect` shows the cuts")
    report = run_evaluate(
        args.bundle, args.inputs, method=chosen[0], cut=0 if of_picture else args.cut,
        samples=args.samples, crops=args.crops, views=args.views, labels=args.labels,
        label_offset=args.label_offset, calibration=args.calibration, seed=args.seed,
        runtime=args.runtime)
    print(json.dumps(report) if args.json else render(report))


def _add_profile(commands) -> None:
    profile = _command(commands, "profile", profiling.HELP,
                       "profile model.split.tflite --inputs photos/",
                       lambda args: profiling.run(args, "edge-agent"))
    profiling.add_arguments(profile)


def _add_plan(commands) -> None:
    whatif.add_arguments(_command(commands, "plan", whatif.HELP, whatif.EXAMPLE, _plan))


def _plan(args) -> None:
    outcome = whatif.run(args)
    if args.plot:
        from edge_agent.whatif_report import to_draw
        from split_lab.plan_plot import plot_plan

        candidates, chosen, runner_up = to_draw(outcome)
        plot_plan(candidates, chosen, args.plot, runner_up)
        print(args.plot, file=sys.stderr)


def _add_replay(commands) -> None:
    replay = _command(
        commands, "replay", "make the decisions of a journal again, as they were or by other rules",
        "replay decisions.jsonl --policy deadline", _replay)
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
    from edge_agent.open_loop import Change
    from edge_agent.replay import run

    trusted = None if args.trusted is None else tuple(filter(None, args.trusted.split(",")))
    return run(args.journal, Change(args.aim, args.margin, args.dwell, args.max_kl, args.min_cut,
                                    args.slack_price, trusted), as_json=args.json)


def _add_field_test(commands) -> None:
    from split_lab.field.arguments import add_arguments

    add_arguments(_command(
        commands, "field-test", "drive the agent over a link, and write a report people can read",
        "field-test --virtual --bundle m.split.tflite --link 1Mbit --device-time 400 -o report",
        _field_test))


def _field_test(args) -> None:
    from split_lab.field.command import run_field_test

    print(run_field_test(args))


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
