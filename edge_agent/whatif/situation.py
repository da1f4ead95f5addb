"""A made-up situation, and what the agent would decide in it.

The state comes from the agent's own beliefs, told what they would have measured; so a situation
that leaves something open has what an agent believes at its start. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge_agent.planner.profiled import encode_times, service_times
from edge_agent.belief.beliefs import Beliefs, Outlook
from edge_agent.belief.energy import EnergyModel
from edge_agent.belief.transfers import OUTAGE_RATIO, OUTAGE_S_PER_BYTE, Scenario
from edge_agent.planner.candidates import Option
from edge_agent.planner.decide import Decision, Rules
from edge_agent.planner.listing import Judged, list_candidates
from edge_agent.planner.planner import Planner
from edge_agent.planner.state import DeviceState
from edge_agent.inference.segment_times import SegmentTimes
from split_core.cost.profile import Profile
from split_core.model.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Peer:
    """A worker that holds the bundle."""

    name: str
    whole_s: float | None = None     # it takes for the whole model; None: what this machine takes
    queue_s: float = 0.0             # how long a frame waits there


@dataclass(frozen=True, slots=True)
class Situation:
    """What there is to say; None leaves it as an agent believes it at its start."""

    deadline_s: float
    frame_rate: float
    uplink_bps: tuple[float, ...] | None = None      # equally likely
    rtt_s: float | None = None
    link_up: bool = True
    device_s: float | None = None    # the whole model here; None: as the profile says
    peers: tuple[Peer, ...] = (Peer("worker"),)
    outlook: Outlook = Outlook()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided, and among what."""

    state: DeviceState
    decision: Decision
    candidates: tuple[Judged, ...]


def decide_in(situation: Situation, bundle: Bundle, options: tuple[Option, ...], rules: Rules,
              profile: Profile, energy: EnergyModel) -> Outcome:
    """The first decision of an agent in this situation."""
    state = state_in(situation, bundle, options, profile, energy)
    planner = Planner(options, rules)
    ruling = planner.rule(state)
    return Outcome(state, ruling.decision, list_candidates(state, ruling.candidates, rules))


def state_in(situation: Situation, bundle: Bundle, options: tuple[Option, ...], profile: Profile,
             energy: EnergyModel) -> DeviceState:
    """The state that the agent's beliefs have in this situation. Raises UsageError for a profile
    without times."""
    here = profile if situation.device_s is None else profile.scaled_to(situation.device_s)
    times = SegmentTimes(len(here.segments), [t.median_s for t in here.segments])
    beliefs = Beliefs(bundle, options, times, deadline_s=situation.deadline_s,
                      encode_s=encode_times(here, options), energy=energy)
    if situation.rtt_s is not None:
        beliefs.round_trip.add(situation.rtt_s, 0.0)
    for peer in situation.peers:
        there = profile if peer.whole_s is None else profile.scaled_to(peer.whole_s)
        beliefs.workers.on_profile(peer.name, service_times(there, bundle))
        beliefs.workers.on_load(peer.name, peer.queue_s, 0.0)
    state = beliefs.state(tuple(p.name for p in situation.peers), link_up=situation.link_up,
                          waiting_bytes=0, outlook=situation.outlook, now_s=0.0)
    state = msgspec.structs.replace(state, frame_rate=situation.frame_rate)
    if situation.uplink_bps is None:
        return state
    return msgspec.structs.replace(state, scenarios=scenarios_at(situation.uplink_bps))


def scenarios_at(rates_bps: tuple[float, ...]) -> tuple[Scenario, ...]:
    """As after equally many transfers at each rate: those, and the outage that there always
    may be."""
    each = (1 - OUTAGE_RATIO) / len(rates_bps)
    return tuple(Scenario(*pair) for pair in sorted(
        [*((8 / bps, each) for bps in rates_bps), (OUTAGE_S_PER_BYTE, OUTAGE_RATIO)]))
