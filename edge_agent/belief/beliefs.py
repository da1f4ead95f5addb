"""Everything that is believed, in one place: what happens goes in, a `DeviceState` comes out.

The daemon's threads and the simulator's loop feed the same object; only they know the time. The
caller holds the lock.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.belief.energy import EnergyBelief, EnergyModel
from edge_agent.belief.pace import Pace
from edge_agent.belief.sizes import Sizes
from edge_agent.belief.transfers import Transfers, quantile_of
from edge_agent.belief.workers import WorkerBeliefs
from edge_agent.control.step import StepBelief
from edge_agent.inference.segment_times import SegmentTimes
from edge_agent.planner.candidates import Option
from edge_agent.planner.state import Battery, Coding, DeviceState, Energy, WorkerState
from split_core.cost.round_trip import LeastRoundTrip
from split_core.model.bundle import Bundle
from split_core.wire.rungs import Rung

# Header, chunk and topic beside the payload: 44 + 20 bytes and about 60 of topic and MQTT, and on
# the way 40 of TCP and IP for each packet.
MESSAGE_BYTES = 170
# Of the scenarios, how many are better than the one a frame's step is chosen by.
STEP_QUANTILE = 0.95
_NEWEST_ENCODE = 0.2


@dataclass(frozen=True, slots=True)
class Outlook:
    """What sensors and settings say, for one decision. None: unknown."""

    battery: Battery = Battery()
    until_s: float | None = None
    budget_bytes: float | None = None
    budget_s: float | None = None
    temperature_c: float | None = None
    throttled: bool | None = None


class Beliefs:
    """The estimators of one agent."""

    def __init__(self, bundle: Bundle, options: tuple[Option, ...], times: SegmentTimes, *,
                 deadline_s: float, encode_s: dict[tuple[int, str], float],
                 energy: EnergyModel = EnergyModel()):
        self.bundle, self.options, self.times = bundle, options, times
        self.deadline_s = deadline_s
        self.transfers, self.round_trip = Transfers(), LeastRoundTrip()
        self.sizes, self.pace = Sizes(), Pace()
        self.energy = EnergyBelief(energy)
        self._encode_s = dict(encode_s)
        # By cut and rung, as asked and at the coarsest: curves do not change.
        self._predicted = {
            (o.cut, o.rung): tuple(payload_bytes(bundle, o.cut, rung)
                                   for rung in (o.rung, o.coarsest or o.rung))
            for o in options if o.cut != bundle.last_cut}
        self.workers = WorkerBeliefs()
        self._worker_of: dict[int, tuple[str, int]] = {}

    def take_over(self, other: Beliefs) -> None:
        """Go on from what another knows: of the link always, of coding and the workers where the
        bundle is the same. What is under way stays known to both."""
        self.transfers, self.round_trip, self.pace = other.transfers, other.round_trip, other.pace
        if other.bundle.sha256 == self.bundle.sha256:
            self.sizes, self.workers, self._worker_of = (other.sizes, other.workers,
                                                         other._worker_of)
            self._encode_s |= other._encode_s

    # -- what happens

    def on_frame(self, now_s: float) -> None:
        """The source gave one."""
        self.pace.add(now_s)

    def on_encoded(self, cut: int, rung: str, encode_s: float, nbytes: int, *,
                   as_asked: bool) -> None:
        """A boundary was coded; ``as_asked`` where the step was the rung's own."""
        key = cut, rung
        before = self._encode_s.get(key, encode_s)
        self._encode_s[key] = before + _NEWEST_ENCODE * (encode_s - before)
        if as_asked and key in self._predicted:
            self.sizes.add(cut, rung, self._predicted[key][0], nbytes)

    def on_sent(self, frame_id: int, worker: str, cut: int, nbytes: int, now_s: float) -> None:
        self.transfers.on_sent(frame_id, nbytes + MESSAGE_BYTES, now_s)
        self._worker_of[frame_id] = worker, self.bundle.segment_index(cut)

    def worker_of(self, frame_id: int) -> str | None:
        """Who was given a frame that is open; None for one that is not."""
        return self._worker_of.get(frame_id, (None, 0))[0]

    def on_answer(self, frame_id: int, queue_s: float, service_s: float, now_s: float) -> None:
        """The worker's, in time or late."""
        worker, segment = self._worker_of.pop(frame_id, (None, 0))
        if worker is None:
            return
        # Its own way to the broker is the worker's part, as in a prediction.
        worker_s = queue_s + service_s + self.workers.broker_rtt_s(worker)
        self.transfers.on_answer(frame_id, worker_s, self.round_trip.least_s, now_s)
        self.workers.on_answer(worker, segment, queue_s, service_s, now_s)

    def on_turned_away(self, frame_id: int) -> None:
        self._worker_of.pop(frame_id, None)
        self.transfers.on_turned_away(frame_id)

    def on_worker_gone(self, worker: str) -> None:
        """What is open there will not be answered, which is not the link's fault."""
        for frame_id in [i for i, (w, _) in self._worker_of.items() if w == worker]:
            self.on_turned_away(frame_id)

    def on_down(self, now_s: float) -> None:
        """The connection was lost."""
        self._worker_of.clear()
        self.transfers.on_down(now_s)
        self.round_trip.reset()

    def on_given_up(self, frame_id: int, now_s: float) -> None:
        """Its message was cancelled before all of it had left."""
        self._worker_of.pop(frame_id, None)
        self.transfers.on_given_up(frame_id, now_s)

    # -- what is believed

    def bps(self, now_s: float) -> float:
        """The uplink's rate, for people."""
        return self.transfers.bps(self.round_trip.least_s, now_s)

    def state(self, workers: tuple[str, ...], *, link_up: bool, waiting_bytes: int,
              outlook: Outlook, now_s: float, free_s: float = 0.0,
              waiting_since_s: float | None = None) -> DeviceState:
        """Everything a decision needs. ``workers`` are those that hold the bundle; the
        interpreter is busy until ``free_s``; the next frame waits already, or will come."""
        self.transfers.sweep(now_s)
        self.workers.keep(workers)
        if len(self._worker_of) > 1000:          # answered long ago, or never
            self._worker_of.clear()
        next_in_s = self.pace.next_in_s(now_s) if waiting_since_s is None else 0.0
        comes_s = now_s + next_in_s if waiting_since_s is None else waiting_since_s
        rtt_s, times, model = self.round_trip.least_s, self.times, self.energy.model
        # Of a worker that told nothing yet: no faster than this device.
        guess_s = tuple(times.span_s(i, len(times)) for i in range(len(times) + 1))
        return DeviceState(
            now_s=now_s, deadline_s=self.deadline_s, frame_rate=self.pace.rate(now_s),
            segment_s=tuple(times.mean_s(i) for i in range(len(times))),
            careful_s=tuple(times.one_s(i) for i in range(len(times))),
            codings=tuple(self._coding(o) for o in self.options),
            link_up=link_up, rtt_s=rtt_s,
            scenarios=self.transfers.scenarios(rtt_s, now_s),
            waiting_bytes=max(waiting_bytes, self.transfers.open_bytes()),
            waiting_s=self.transfers.open_for_s(now_s) + next_in_s,
            wait_s=max(0.0, free_s - comes_s),
            workers=tuple(WorkerState(w, self.workers.queue_s(w, now_s),
                                      self.workers.service_s(w, guess_s),
                                      self.workers.broker_rtt_s(w)) for w in workers),
            energy=Energy(model.j_per_cpu_s, model.j_per_byte, model.base_w),
            battery=outlook.battery, until_s=outlook.until_s,
            budget_bytes=outlook.budget_bytes, budget_s=outlook.budget_s,
            temperature_c=outlook.temperature_c, throttled=outlook.throttled)

    def step_belief(self, state: DeviceState, worker: str | None, option: Option) -> StepBelief:
        """What a frame's step is chosen by, until the next decision."""
        s_per_byte = quantile_of(state.scenarios, STEP_QUANTILE)
        known = next((w for w in state.workers if w.worker == worker), None)
        fixed_s = state.rtt_s + state.codings[self.options.index(option)].encode_s
        if known is not None:
            fixed_s += known.queue_s + known.extra_s + known.service_s[option.segment]
        return StepBelief(s_per_byte, fixed_s)

    def _coding(self, option: Option) -> Coding:
        if option.cut == self.bundle.last_cut:
            return Coding(0.0, 0.0, 0.0)
        ratio = self.sizes.ratio(option.cut, option.rung)
        asked, coarsest = (ratio * n for n in self._predicted[option.cut, option.rung])
        encode_s = self._encode_s.get((option.cut, option.rung), 0.0)
        return Coding(asked + MESSAGE_BYTES, coarsest + MESSAGE_BYTES, encode_s)


def payload_bytes(bundle: Bundle, cut: int, rung_name: str) -> float:
    """What a cut's payload is predicted to weigh in the mean, before any was seen."""
    rung, entry = Rung.parse(rung_name), bundle.cut(cut)
    raw = bundle.raw_bytes(cut)
    match rung.kind:
        case "kl":
            rate = bundle.rate(cut)
            return rate.bytes(rate.index_for_kl(rung.level))
        case "jpeg" | "webp":
            curve = bundle.picture_rate(rung.kind)
            return curve.bytes(int(rung.level)) if curve else 0.25 * raw
        case "q":
            return entry.coded_bytes
    return raw
