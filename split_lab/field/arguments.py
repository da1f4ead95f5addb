"""What `edge-agent field-test` takes."""

from __future__ import annotations

import argparse

ARMS = ("adaptive", "local", "raw", "jpeg", "static", "peer", "oracle")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What `field-test` takes."""
    command.add_argument("-c", "--config", metavar="FILE",
                         help="the device's configuration: broker, bundle, policy")
    command.add_argument("--bundle", metavar="BUNDLE", help="in place of a configuration")
    command.add_argument("-o", "--output", metavar="DIR", required=True,
                         help="report.html, summary.json and tables go here")
    command.add_argument("--duration", default="10m", metavar="T", help="90s, 10m, 1h"
                         " (default %(default)s)")
    command.add_argument("--virtual", action="store_true",
                         help="in virtual time: the agent's own code, modelled run times and link")
    command.add_argument("--link", metavar="TRACE",
                         help="an emulated uplink: a mahimahi trace, a rate (1Mbit),"
                              " step:10Mbit@30,0.5Mbit@30, or synthetic:SEED,0.8Mbit")
    command.add_argument("--rtt", default="50ms", metavar="MS", help="of the emulated link"
                         " (default %(default)s)")
    command.add_argument("--jitter", default="0ms", metavar="MS")
    command.add_argument("--outage", action="append", default=[], metavar="START+LENGTH",
                         help="the uplink carries nothing: 60s+5s")
    command.add_argument("--black-hole", action="append", default=[], metavar="START+LENGTH",
                         help="nothing moves either way")
    command.add_argument("--device-time", metavar="MS",
                         help="stretch computing to a board on which the whole model takes this")
    command.add_argument("--profile", metavar="FILE",
                         help="segment times of another machine, made by `edge-agent profile"
                              " --json` there (default: of this one)")
    command.add_argument("--deadline", metavar="MS", help="(default: as configured, or 1000 ms)")
    command.add_argument("--period", metavar="T", help="between frames of an arm (default: a"
                         " second, or a quarter more than the whole model takes)")
    command.add_argument("--battery", metavar="FILE",
                         help="TOML: capacity_wh, base_w, and left_ratio, hours, j_per_cpu_s,"
                              " j_per_byte; the joules drawn are modelled")
    command.add_argument("--fault", action="store_true",
                         help="stop and kill worker and broker on the way (with --stack)")
    command.add_argument("--stack", action="store_true",
                         help="start a broker and a worker here, for the test alone")
    command.add_argument("--arms", default=",".join(ARMS), metavar="NAMES",
                         help="(default %(default)s)")
    command.add_argument("--inputs", metavar="DIR",
                         help="pictures or arrays to send (default: picture-like noise)")
    command.add_argument("--aim", choices=("latency", "deadline"), help="of the adaptive arm")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--skew", default="100ms", metavar="MS",
                         help="between the clocks that the peer compares (default %(default)s)")
