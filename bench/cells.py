"""What the benchmarks in virtual time stand on: a bundle, a machine's profile, and cells, which
are pairs of an uplink and a board with a round trip.

Without ``--bundle`` MobileNetV2 is calibrated first, which takes some minutes; the same is done by
`edge-agent calibrate tf2_mobilenet_v2_1.0_224_ptq.tflite --inputs images/calibration --samples 60`.
The profile is one that was measured once (`edge-agent profile --json`) and is kept beside this
file, so that figures do not move with the machine that remakes them.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import rig
from edge_agent.config import AgentConfig, ModelConfig
from edge_agent.planner.candidates import options_of
from split_core.cost.profile import Profile, load
from split_core.model.bundle import Bundle, open_bundle
from split_lab.field.link_spec import LinkSpec
from split_lab.field.trial import PERIOD_PER_WHOLE, Trial

MODEL = rig.SHARED / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
PHOTOS = rig.SHARED / "images" / "calibration"
PROFILE = Path(__file__).with_name("mobilenet_v2.profile.json")
BOARDS = ((0.1, 0.3), (0.4, 0.3), (2.0, 1.0))        # whole model, deadline; seconds
ROUND_TRIPS_S = (0.04, 0.08)


@dataclass(frozen=True)
class Cell:
    """One uplink, board and round trip."""

    link: str                        # as `--link` of a field test takes it
    device_s: float                  # the whole model there
    deadline_s: float
    rtt_s: float

    @property
    def link_name(self) -> str:
        return Path(self.link).stem if Path(self.link).is_file() else self.link

    def as_dict(self) -> dict[str, object]:
        return {"link": self.link_name, "device_ms": 1e3 * self.device_s,
                "deadline_ms": 1e3 * self.deadline_s, "rtt_ms": 1e3 * self.rtt_s}


@dataclass(frozen=True)
class Ground:
    """What all cells of a benchmark have in common."""

    bundle: Bundle
    profile: Profile
    duration_s: float

    def trial(self, cell: Cell, **fields) -> Trial:
        """The field test of a cell."""
        config = AgentConfig(model=ModelConfig(str(self.bundle.path)))
        options = options_of(self.bundle, config.policy.kl, config.policy.max_kl)
        period_s = max(1.0, PERIOD_PER_WHOLE * cell.device_s)
        given = {"duration_s": self.duration_s, "period_s": period_s, "device_s": cell.device_s}
        return Trial(self.bundle, config, options, self.profile, self.profile,
                     LinkSpec.parse(cell.link, rtt_s=cell.rtt_s), cell.link_name,
                     cell.deadline_s, **(given | fields))


def add_arguments(parser: argparse.ArgumentParser, minutes: float) -> None:
    parser.add_argument("--bundle", help="a calibrated bundle (default: MobileNetV2, calibrated"
                                         " now)")
    parser.add_argument("--profile", default=str(PROFILE),
                        help="of a machine, as `edge-agent profile --json` prints it (default:"
                             " the one that the README's figures are of)")
    parser.add_argument("--minutes", type=float, default=minutes, help="of each cell")
    parser.add_argument("--traces", default=str(rig.SHARED / "traces"))


@contextlib.contextmanager
def ground(args: argparse.Namespace) -> Iterator[Ground]:
    """Bundle and profile, as the arguments say."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(args.bundle or _calibrate(Path(folder)))
        profile = load(Path(args.profile).read_bytes())
        if len(profile.segments) != len(bundle.manifest.segments):
            sys.exit(f"{args.profile} is of a bundle with {len(profile.segments)} segments, and"
                     f" {bundle.path} has {len(bundle.manifest.segments)}; give --profile")
        yield Ground(bundle, profile, 60 * args.minutes)


def recorded(args: argparse.Namespace) -> list[str]:
    """The uplinks there are."""
    found = [str(p) for p in sorted(Path(args.traces).glob("*.up"))]
    if not found:
        sys.exit(f"no uplinks (*.up) in {args.traces}; give --traces")
    return found


def _calibrate(folder: Path) -> Path:
    from split_lab.calibrate.run import calibrate_model

    if not MODEL.exists():
        sys.exit(f"no model at {MODEL}; give --bundle")
    path = folder / "model.split.tflite"
    path.write_bytes(calibrate_model(str(MODEL), str(PHOTOS), samples=60, seed=1).data)
    return path
