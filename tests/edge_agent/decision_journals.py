"""A tiny calibrated bundle with made-up times, and journals of agents that decided over it."""

from __future__ import annotations

import random
import threading
from collections.abc import Container
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

from edge_agent.belief.beliefs import Beliefs, Outlook
from edge_agent.control.controller import Controller
from edge_agent.control.decisions import DecisionJournal
from edge_agent.control.plans import Plans
from edge_agent.frames import Plan
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.planner.candidates import options_of
from edge_agent.planner.planner import Planner
from edge_agent.planner.state import Battery
from edge_agent.policies.config import CostConfig, PolicyConfig, rules_of
from split_core.cost.profile import Profile, Timing
from split_core.model.bundle import Bundle
from split_core.wire.rungs import RAW
from tests.support import tiny_models
from tests.support.calibrated import calibrate_roughly
from tests.support.full_disk import at_most

SEGMENT_S = 0.05                     # each of six
WORKERS = ("left", "right")


def make_bundle(folder: Path) -> Bundle:
    """All seven cuts, that after op 1 calibrated."""
    model = folder / "skip.tflite"
    model.write_bytes(tiny_models.skip_model())
    return calibrate_roughly(model, folder / "skip.split.tflite", 1, margin=0.5)


def profile_of(bundle: Bundle) -> Profile:
    """A machine that takes 50 ms for each segment, and no time for coding."""
    segments = tuple(Timing(SEGMENT_S, 0.0) for _ in bundle.manifest.segments)
    return Profile(bundle.id_hex, "made-up", "litert", 1, segments, (),
                   SEGMENT_S * len(segments), "2026-01-01T00:00:00+00:00")


def write_journal(path: Path, bundle: Bundle, *, decisions: int = 120, seed: int = 1,
                  policy: PolicyConfig = PolicyConfig(kl=0.001, max_kl=0.01),
                  full: Container[int] = ()) -> None:
    """One start of an agent, which decides four times a second over a link that comes and goes:
    first hot and on a small battery, then on mains with a link that is hardly there, so that
    it has to look now and then. Appended to what is there; ``full``: the decisions for which the
    disk has no room."""
    print(f"seed {seed}")
    rng, cost = random.Random(seed), CostConfig()
    options = options_of(bundle, policy.kl, policy.max_kl)
    times = SegmentTimes(6, [SEGMENT_S] * 6)
    beliefs = Beliefs(bundle, options, times, deadline_s=0.5, encode_s={})
    node = SimpleNamespace(is_up=True, backlog_bytes=0)
    sender = SimpleNamespace(
        workers=SimpleNamespace(holding=lambda bundle_id: WORKERS), bundle=bundle, node=node,
        gate=SimpleNamespace(on_switch=lambda expected_s: None))
    outlook = Outlook()
    now = SimpleNamespace(s=100.0 * seed)
    journal = DecisionJournal(PolicyConfig(**policy_fields(policy) | {"journal": str(path)}),
                              cost, bundle, options, lambda: planner.memory)
    planner = Planner(options, rules_of(policy, cost))
    controller = Controller(
        beliefs, planner,
        Plans(bundle, Plan(1, bundle.last_cut, RAW)), sender, threading.Condition(),
        outlook=lambda: outlook, write=journal.write, clock=lambda: now.s)
    bps = 1e6
    for frame in range(decisions):
        calm = 2 * frame >= decisions
        bps = min(max(bps * rng.choice((0.3, 0.7, 1.0, 1.0, 1.5, 3.0)), 2e3), 8e3 if calm else 5e7)
        node.is_up = rng.random() > 0.03
        if not node.is_up:
            beliefs.on_down(now.s)
        nbytes = rng.randrange(300, 2000)
        beliefs.on_frame(now.s)
        beliefs.on_sent(frame, rng.choice(WORKERS), 1, nbytes, now.s)
        took_s = 8 * nbytes / bps + 0.03 + rng.random() / 100
        if took_s < 2.0:
            beliefs.on_answer(frame, rng.random() / 50, 0.01, now.s + took_s)
        times.add(rng.randrange(6), SEGMENT_S * rng.uniform(0.9, 1.4))
        outlook = Outlook(Battery(mains=True)) if calm else Outlook(
            Battery(6.0 - frame / 20), until_s=3600.0 - now.s, temperature_c=rng.uniform(40, 75))
        with at_most(path.stat().st_size + 10) if frame in full else nullcontext():
            controller.tick()
        now.s += 0.25
    journal.close()


def policy_fields(policy: PolicyConfig) -> dict:
    return {name: getattr(policy, name) for name in policy.__struct_fields__}
