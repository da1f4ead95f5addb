"""`deploy`, `sign` and `keys`: other models for devices, and by whom they were made."""

from __future__ import annotations

import argparse
import sys

from split_core.commands import Commands


def add_commands(commands: Commands) -> None:
    _add_deploy(commands)
    _add_sign(commands)
    _add_keys(commands)


def _add_deploy(commands: Commands) -> None:
    deploy = commands.add(
        "deploy", "put a bundle into a worker's store and have devices take it from there",
        "deploy m.split.tflite --device pi-door -c cloud-worker.toml --username operator"
        " --password-file op.txt --sign model-signing.pem",
        "deploy m.split.tflite --device pi-door --device pi-gate --broker mqtt://127.0.0.1:1883"
        " --store ./bundles --worker w1 --confirmed",
        body=_deploy)
    deploy.add_argument("bundle", metavar="BUNDLE")
    deploy.add_argument("--device", action="append", required=True, metavar="ID",
                        help="who takes it; several, one after another, until one does not")
    deploy.add_argument("-c", "--config", metavar="FILE",
                        help="of a worker on this machine: its store, name and broker")
    deploy.add_argument("--store", metavar="DIR", help="its store")
    deploy.add_argument("--worker", metavar="ID", help="its name; by default the host's")
    deploy.add_argument("--root", help="topic root")
    deploy.add_argument("--broker", metavar="URL", help="mqtt://, mqtts:// or mqtt+unix://")
    deploy.add_argument("--username", help="of an operator, who may send commands")
    deploy.add_argument("--password-file", metavar="FILE", help="or $MQTT_PASSWORD")
    for name in ("ca", "cert", "key"):
        deploy.add_argument(f"--{name}-file", metavar="FILE")
    deploy.add_argument("--allow-plain", action="store_true",
                        help="plain mqtt:// to another machine")
    deploy.add_argument("--sign", metavar="KEY.pem",
                        help="sign it with this private key (default: the signature beside the"
                             " bundle, BUNDLE.sig, if there is one)")
    deploy.add_argument("--force", action="store_true",
                        help="also where it was rolled back before")
    deploy.add_argument("--confirmed", action="store_true",
                        help="wait until its trial is over, not only until it is in force")
    deploy.add_argument("--patience", type=float, default=180.0, metavar="S",
                        help="give up when nothing was heard for so long (default %(default)s)")
    deploy.add_argument("--json", action="store_true", help="one JSON object a device")


def _deploy(args: argparse.Namespace) -> int:
    from pathlib import Path

    from cloud_side.config import load_config
    from cloud_side.deploy import deploy, signature_of
    from cloud_side.store import BundleStore
    from split_core.errors import UsageError

    if not args.config and not args.store:
        raise UsageError("give --config FILE, or --store and --broker: the bundle goes into the"
                         " store of a worker on this machine")
    config = load_config(args.config, {
        "id": ("--worker", args.worker), "root": ("--root", args.root),
        "broker.url": ("--broker", args.broker), "store.path": ("--store", args.store)})
    path = Path(args.bundle)
    signature = signature_of(path, args.sign)
    bundle = BundleStore(config.store.path, config.store.max_mb << 20).put(path)
    return deploy(bundle, args.device, broker=_broker(config.broker, args), root=config.root,
                  worker=config.id, signature=signature, force=args.force,
                  until_confirmed=args.confirmed, patience_s=args.patience, as_json=args.json)


def _broker(broker, args: argparse.Namespace):
    """The worker's broker, with the operator's credentials in place of the worker's."""
    import msgspec

    changes = {"ca_file": args.ca_file, "allow_plain": args.allow_plain or None}
    if args.username or args.cert_file:
        broker = msgspec.structs.replace(
            broker, username=args.username, password_file=args.password_file,
            cert_file=args.cert_file, key_file=args.key_file)
    return msgspec.structs.replace(broker, **{k: v for k, v in changes.items() if v is not None})


def _add_sign(commands: Commands) -> None:
    sign = commands.add(
        "sign", "sign a bundle, so that devices that trust the key take it",
        "sign m.split.tflite --key model-signing.pem", body=_sign)
    sign.add_argument("bundle", metavar="BUNDLE")
    sign.add_argument("--key", required=True, metavar="KEY.pem", help="private, by `keys`")


def _sign(args: argparse.Namespace) -> None:
    from split_core.crypto.signature import sign_file

    print(sign_file(args.bundle, args.key))


def _add_keys(commands: Commands) -> None:
    keys = commands.add(
        "keys", "make a pair of keys to sign bundles with",
        "keys model-signing.pem", body=_keys)
    keys.add_argument("key", metavar="KEY.pem",
                      help="the private one, to be kept where devices are not; the public one is"
                           " KEY.pem.pub, for updates.public_key_file of every device")


def _keys(args: argparse.Namespace) -> None:
    from split_core.crypto.signature import generate

    public = generate(args.key)
    print(f"{args.key} is private: whoever has it can make every device run a model of theirs",
          file=sys.stderr)
    print(public)
