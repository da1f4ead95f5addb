"""`run` and `infer`: what a device does all day, and once."""

from __future__ import annotations

from edge_agent.cli.setting_up import SETTINGS
from split_core.commands import Commands
from split_core.errors import UsageError


def add_commands(commands: Commands) -> None:
    _add_run(commands)
    _add_infer(commands)


def _add_run(commands: Commands) -> None:
    run = commands.add("run", "run the agent until stopped", "run", "run -c agent.toml --verbose",
                       body=_run)
    run.add_argument("-c", "--config", metavar="FILE", help=f"(default: {SETTINGS.usual_file})")
    run.add_argument("-v", "--verbose", action="store_true", help="log every frame")
    run.add_argument("--log-format", choices=("auto", "text", "json", "journal"),
                     help="default: service.log_format")


def _run(args) -> None:
    from edge_agent.config import load_config
    from edge_agent.daemon import run_agent
    from split_core import logs

    logs.set_up(args.verbose, args.log_format or "auto")
    path = SETTINGS.path(args.config)
    run_agent(load_config(path), load=lambda: load_config(path), verbose=args.verbose,
              log_format=args.log_format)


def _add_infer(commands: Commands) -> None:
    infer = commands.add(
        "infer", "answers for single inputs, one a line; no policy applies",
        "infer model.split.tflite photo.jpg",
        "infer model.split.tflite photo.jpg --broker mqtt://127.0.0.1:1883 --cut 14",
        "infer model.split.tflite photos/*.jpg --broker mqtt://127.0.0.1:1883 --kl 0.02 --json",
        body=_infer)
    infer.add_argument("bundle", metavar="BUNDLE")
    infer.add_argument("inputs", metavar="INPUT", nargs="+", help="picture, or array (.npy)")
    infer.add_argument("--broker", metavar="URL",
                       help="mqtt://, mqtts:// or mqtt+unix://; without it all runs here. What"
                            " is asked for is sent: limits of a [policy] are for `run`")
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
    infer.add_argument("--root", help="topic root (default: si/v1)")
    infer.add_argument("--runtime", choices=("litert", "tflite-runtime"))
    infer.add_argument("--deadline-ms", type=float, default=5000.0, metavar="MS",
                       help="finish here if no answer came by then (default %(default)s)")
    infer.add_argument("--wait", type=float, metavar="S",
                       help="for broker, worker and bundle before the first input (default 20, but"
                            " 5 for a broker that does not answer and 2 for one that cannot be"
                            " reached); then the answers are made here")
    infer.add_argument("--remote-only", action="store_true",
                       help="end with 69 where the worker has not answered every input, and before"
                            " the first where broker or worker are not there")
    infer.add_argument("--id", help="device id, where the broker ties topics to user names"
                                    " (default: a new one)")
    infer.add_argument("--username")
    infer.add_argument("--password-file", metavar="FILE")
    for name in ("ca", "cert", "key"):
        infer.add_argument(f"--{name}-file", metavar="FILE")
    infer.add_argument("--seal-keys", metavar="FILE",
                       help="shared keys, where devices and workers seal what they send")
    infer.add_argument("--allow-plain", action="store_true",
                       help="plain mqtt:// to another machine")


def _infer(args) -> int:
    from edge_agent.infer import infer_inputs
    from split_core.config import BrokerConfig
    from split_core.wire.topics import DEFAULT_ROOT

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
        root=args.root or DEFAULT_ROOT, deadline_ms=args.deadline_ms, wait_s=args.wait, as_json=args.json,
        runtime=args.runtime, raw_tensors=args.tensors, seal_keys=args.seal_keys,
        remote_only=args.remote_only)


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
