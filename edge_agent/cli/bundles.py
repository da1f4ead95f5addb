"""`split`, `calibrate`, `inspect`, `evaluate`: what is done to a model at a desk, by `split_lab`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from split_core.commands import Commands
from split_core.errors import UsageError
from split_core.files import check_place, write_whole


def add_commands(commands: Commands) -> None:
    _add_split(commands)
    _add_calibrate(commands)
    _add_inspect(commands)
    _add_evaluate(commands)


def _add_split(commands: Commands) -> None:
    split = commands.add("split", "make a bundle from a .tflite model",
                         "split model.tflite -o model.split.tflite",
                         "split detector.tflite --labels coco.txt --answer detection",
                         body=_split)
    split.add_argument("model", metavar="MODEL")
    split.add_argument("-o", "--output", metavar="FILE",
                       help="default: MODEL with .split.tflite, beside it")
    split.add_argument("--cuts", default="useful", metavar="WHICH",
                       help="useful (default), all, or op counts: 14,25")
    _add_description(split)
    split.add_argument("--runtime", choices=("litert", "tflite-runtime"),
                       help="for the trial run")


def _split(args) -> None:
    from split_lab.cut_table import inspect_file, render
    from split_lab.split import split_model

    output = _bundle_path(args)
    data = split_model(args.model, cuts=_which_cuts(args.cuts), runtime=args.runtime,
                       **_described(args))
    # At once: a running agent may have the old file mapped.
    write_whole(output, data)
    print(render(inspect_file(output), columns=_columns()), file=sys.stderr)
    print(output)


def _add_calibrate(commands: Commands) -> None:
    calibrate = commands.add(
        "calibrate", "make a bundle whose cuts know their codec and what it costs",
        "calibrate model.tflite --inputs photos/ -o model.split.tflite",
        "calibrate model.tflite --inputs photos/ --samples 200 --plot rates.png",
        body=_calibrate)
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

    output = _bundle_path(args)
    for file in filter(None, (output, args.plot)):
        check_place(file)                # now, not after minutes of work
    outcome = calibrate_model(
        args.model, args.inputs, samples=args.samples, cuts=_which_cuts(args.cuts),
        seed=args.seed, method=args.method, runtime=args.runtime,
        compare=args.plot is not None, **_described(args))
    # At once: a running agent may have the old file mapped.
    write_whole(output, outcome.data)
    print(render(inspect_file(output), columns=_columns()), file=sys.stderr)
    print(f"{outcome.seconds:.0f} s, by {outcome.method}; {outcome.table_bytes} bytes of tables"
          f" in {len(outcome.data)}", file=sys.stderr)
    if args.plot:
        from split_lab.calibrate.plot import plot_rates

        plot_rates(outcome, args.plot)
        print(args.plot, file=sys.stderr)
    print(output)


def _add_inspect(commands: Commands) -> None:
    inspect = commands.add("inspect", "the cut table of a model or bundle",
                           "inspect model.tflite --all", "inspect model.split.tflite --json",
                           body=_inspect)
    inspect.add_argument("file", metavar="FILE")
    inspect.add_argument("--json", action="store_true")
    inspect.add_argument("--all", action="store_true", help="of a model, show every cut")


def _inspect(args) -> None:
    from split_lab.cut_table import inspect_file, render

    report = inspect_file(args.file)
    print(json.dumps(report) if args.json else render(report, every=args.all, columns=_columns()))


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add(
        "evaluate", "bytes, divergence and accuracy of a code at a cut",
        "evaluate model.split.tflite --inputs photos/ --cut 14 --bits 4",
        "evaluate model.split.tflite --inputs photos/ --jpeg 85 --labels folders",
        body=_evaluate)
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


def _columns() -> int:
    """Of the window; room enough where there is none."""
    return shutil.get_terminal_size((120, 24)).columns


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


def _which_cuts(text: str) -> str | list[int]:
    if text in ("useful", "all"):
        return text
    try:
        return [int(k) for k in text.split(",")]
    except ValueError:
        raise UsageError(f"--cuts {text}: wanted useful, all, or op counts: 14,25") from None


def _bundle_path(args) -> Path:
    return Path(args.output or Path(args.model).with_suffix("").name + ".split.tflite")
