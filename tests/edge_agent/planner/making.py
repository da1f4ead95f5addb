"""A bundle that is only a manifest, states and costs with round numbers, for unit tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_agent.belief.transfers import Scenario
from edge_agent.planner.candidates import Option, candidates_of
from edge_agent.planner.predict import Costs
from edge_agent.planner.state import Coding, DeviceState, Energy, WorkerState
from edge_agent.policies.base import View
from split_core.model.bundle import Bundle
from split_core.model.manifest import (
    CutEntry, ImageInput, Manifest, PictureRate, RatePoint, Segment, TensorEntry,
)

# An octave of the step is four times the divergence and half of the bytes.
RATE = (RatePoint(0, 0.005, 4000.0), RatePoint(32, 0.02, 2000.0), RatePoint(64, 0.08, 1000.0))
# Twenty points of quality are a quarter of the divergence and twice the bytes.
JPEG = tuple(PictureRate("jpeg", *p) for p in ((50, 0.08, 1000.0), (70, 0.02, 2000.0),
                                               (90, 0.005, 4000.0)))


def paper_bundle(*, rate: tuple[RatePoint, ...] = RATE, pictures: tuple[PictureRate, ...] = (),
                 image: bool = True, scale: int = 1) -> Bundle:
    """Three ops, three segments: 3072 bytes go in, 400 cross at cut 1, 1000 at cut 2, each
    ``scale`` times."""
    shapes = {"x": (1, 16, 16 * scale, 3), "a": (1, 100 * scale), "b": (1, 250 * scale),
              "y": (1, 5)}
    chain = list(shapes)
    segments = tuple(Segment(i, i + 1, 1, (chain[i],), (chain[i + 1],)) for i in range(3))
    cuts = (CutEntry(0, "", ("x",), 0, 3, 300 * scale),
            CutEntry(1, "A", ("a",), 1, 2, 50 * scale, rate),
            CutEntry(2, "B", ("b",), 2, 1, 120 * scale), CutEntry(3, "C", (), 3, 0, 0))
    return Bundle(Path("paper"), Manifest(
        3, "paper", "0" * 64, 0, "0" * 64, 3, 3,
        tuple(TensorEntry(n, s, "float32") for n, s in shapes.items()), ("x",), ("y",),
        segments, cuts, image=ImageInput("x", 16, 16 * scale, 3) if image else None,
        pictures=pictures), bytes(32))


INPUT = Option(0, 0, "jpeg90", None, None, None)
MIDDLE = Option(1, 1, "kl0.02", "kl0.08", 0.02, 0.08)
LATE = Option(2, 2, "raw", None, 0.0, 0.0)
HERE = Option(3, 3, "raw", None, 0.0, 0.0)
OPTIONS = (INPUT, MIDDLE, LATE, HERE)
CODINGS = (Coding(3000.0, 3000.0, 0.01), Coding(2000.0, 1000.0, 0.02), Coding(1000.0, 1000.0, 0.0),
           Coding(0.0, 0.0, 0.0))
# With one worker: each option waited for, then raced; all-local is the last.
(AT_INPUT, AT_INPUT_RACED, AT_MIDDLE, AT_MIDDLE_RACED, AT_LATE, AT_LATE_RACED,
 AT_HERE) = range(7)
FAST, SLOW = 1e-5, 4e-4


def worker(name: str = "w", queue_s: float = 0.0, **changes) -> WorkerState:
    return WorkerState(name, queue_s, (0.06, 0.05, 0.03, 0.0), **changes)


def state(**changes) -> DeviceState:
    """The whole model takes 600 ms here and 60 there; three bytes in four are fast."""
    quiet = DeviceState(
        now_s=100.0, deadline_s=1.0, frame_rate=1.0, segment_s=(0.1, 0.2, 0.3),
        careful_s=(0.1, 0.2, 0.3), codings=CODINGS, link_up=True, rtt_s=0.04,
        scenarios=(Scenario(FAST, 0.75), Scenario(SLOW, 0.25)), waiting_bytes=0, waiting_s=0.0,
        wait_s=0.0, workers=(worker(),), energy=Energy(2.0, 1e-6, 3.0))
    return msgspec.structs.replace(quiet, **changes)


def costs(count: int, **columns: Sequence[float]) -> Costs:
    """Costs made by hand; what is not given is all zeros, and on time."""
    made = {name: np.zeros(count) for name in Costs.__dataclass_fields__}
    made["on_time_ratio"] = np.ones(count)
    return Costs(**made | {n: np.asarray(c, float) for n, c in columns.items()})


def view(now: DeviceState | None = None, options: tuple[Option, ...] = OPTIONS,
         **columns: Sequence[float]) -> View:
    """What a policy sees of the state's workers, with costs made by hand."""
    now = now or state()
    candidates = candidates_of(options, tuple(w.worker for w in now.workers))
    return View(now, candidates, costs(len(candidates), **columns))
