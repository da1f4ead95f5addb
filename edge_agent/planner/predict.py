"""What each candidate would cost: latency, energy, bytes, money, divergence. Arrays, pure.

Latency is the time of Asgar, Nguyen and Katti (arXiv 2507.19635, t_ij: work over speed, plus
communication, plus waiting), under every scenario of the link. A frame that is sent is covered by
its fallback, so it takes the lesser of the worker's way and the device's; and the device's way
begins at once where the candidate races, else as late as is still on time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.planner.candidates import Candidates
from edge_agent.planner.state import DeviceState

# A frame's step is chosen to need no more than this share of the time that is left
# (`edge_agent.control.step`): payloads vary by 8 to 15 % around their curve, and packets wait for
# their turn. With 0.9 as many frames are on time in virtual time, which has no other noise
# (bench.beliefs).
STEP_SHARE = 0.8
# Kept in hand before a deadline beside the longest segment (`edge_agent.inference.head`): waking
# up, and handing the answer on. In the README's real runs all-local takes 3 to 5 ms more than its
# segments.
GUARD_S = 0.005
# Predicted to be on time: done by this share of the deadline. The rest is for what no scenario
# has.
ON_TIME_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Prices:
    """What resources cost, in whatever unit of money the owner counts in."""

    per_gb: float = 1.0
    per_worker_hour: float = 0.05
    per_kwh: float = 0.3


@dataclass(frozen=True)
class Costs:
    """Predictions, one a candidate; shape [n] each."""

    mean_s: np.ndarray
    p95_s: np.ndarray
    on_time_ratio: np.ndarray
    slack_s: np.ndarray              # mean time past the deadline
    cpu_s: np.ndarray                # on the device
    energy_j: np.ndarray             # of the device, above its base load
    nbytes: np.ndarray
    money: np.ndarray
    kl: np.ndarray                   # nats; NaN: unknown

    def at(self, index: int) -> dict[str, float | None]:
        """One candidate's, as plain numbers for a record."""
        kl = float(self.kl[index])
        return {
            "mean_ms": 1e3 * float(self.mean_s[index]), "p95_ms": 1e3 * float(self.p95_s[index]),
            "on_time_ratio": float(self.on_time_ratio[index]),
            "energy_j": float(self.energy_j[index]), "bytes": float(self.nbytes[index]),
            "money": float(self.money[index]), "kl": None if np.isnan(kl) else kl,
        }


def predict(state: DeviceState, c: Candidates, prices: Prices) -> Costs:
    """Every candidate under every scenario. The state's workers are the candidates'."""
    before = np.concatenate(([0.0], np.cumsum(state.segment_s)))
    whole_s = before[-1]
    head_s = before[c.segment]
    encode_s, nbytes, coarsest = (
        np.array([getattr(k, name) for k in state.codings])[c.option]
        for name in ("encode_s", "nbytes", "coarsest_bytes"))
    local = c.local
    work_s = head_s + np.where(local, 0.0, encode_s)
    launch_s = state.wait_s + work_s
    worker_s = _worker_s(state, c)
    tail_s = whole_s - head_s

    costs = np.array([s.s_per_byte for s in state.scenarios])
    weights = np.array([s.weight for s in state.scenarios])
    # What waits on the link drains until the next frame comes, and while its head runs.
    drain_s = state.waiting_bytes * costs - state.waiting_s
    wait_s = np.maximum(0.0, drain_s[None, :] - launch_s[:, None])
    fixed_s = (launch_s + state.rtt_s + worker_s)[:, None] + wait_s
    # Where that is late the step goes as far as it has to, and as the plan allows.
    fitting = (STEP_SHARE * state.deadline_s - fixed_s) / costs
    message = np.clip(fitting, coarsest[:, None], nbytes[:, None])
    remote_s = fixed_s + message * costs
    # Past its deadline nothing is sent.
    never = launch_s >= state.deadline_s
    remote_s[never], message[never] = np.inf, 0.0

    here_s = _finished_here_s(state, c, launch_s, tail_s)
    finish_s = np.minimum(remote_s, here_s[:, None])
    finish_s[local] = state.wait_s + whole_s
    mean_s = _expected(finish_s, weights)
    fallback = _expected(remote_s > here_s[:, None], weights)
    cpu_s = work_s + np.where(c.race, np.minimum(tail_s, mean_s - launch_s),
                                fallback * tail_s)
    cpu_s = np.where(local, whole_s, cpu_s)
    sent = np.where(local, 0.0, _expected(message, weights))
    energy_j = state.energy.j_per_cpu_s * cpu_s + state.energy.j_per_byte * sent
    serving_s = np.where(local, 0.0, worker_s)
    money = (prices.per_gb * sent / 1e9 + prices.per_worker_hour * serving_s / 3600
             + prices.per_kwh * energy_j / 3.6e6)
    careful = np.concatenate(([0.0], np.cumsum(state.careful_s)))
    hedge_s = np.where(local, careful[-1] - whole_s, careful[c.segment] - head_s)
    return Costs(
        mean_s, _quantile(finish_s, weights, 0.95) + hedge_s,
        _expected(finish_s + hedge_s[:, None] <= ON_TIME_SHARE * state.deadline_s, weights),
        _expected(np.maximum(finish_s + hedge_s[:, None] - state.deadline_s, 0.0), weights),
        cpu_s, energy_j, sent, money, _kl(c, _share(nbytes - sent, nbytes - coarsest)))


def _worker_s(state: DeviceState, c: Candidates) -> np.ndarray:
    """Waiting and working at each candidate's worker."""
    if not state.workers:
        return np.zeros(len(c))
    queue_s = np.array([w.queue_s + w.extra_s for w in state.workers])
    service_s = np.array([w.service_s for w in state.workers])
    return np.where(c.local, 0.0,
                    queue_s[c.worker] + service_s[c.worker, np.minimum(
                        c.segment, service_s.shape[1] - 1)])


def _finished_here_s(state: DeviceState, c: Candidates, launch_s: np.ndarray,
                     tail_s: np.ndarray) -> np.ndarray:
    """When the device itself would be done, raced or as a fallback."""
    raced_s = launch_s + tail_s
    # A fallback that cannot be on time leaves the worker until the deadline, and then begins.
    guard_s = GUARD_S + max(state.careful_s, default=0.0)
    on_time = raced_s + guard_s <= state.deadline_s
    fallback_s = np.where(on_time, state.deadline_s,
                          np.maximum(state.deadline_s, launch_s) + tail_s)
    return np.where(c.race, raced_s, fallback_s)


def _expected(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean of each row, summed one after another: the last digit of a matrix product depends
    on the processor, and a device's journal is replayed on another (docs/decision-journal.md)."""
    return np.cumsum(values * weights, axis=1)[:, -1]


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Of each row; scenarios are in order of cost, and so are a row's values."""
    index = int(np.searchsorted(np.cumsum(weights), share - 1e-9))
    return values[:, min(index, values.shape[1] - 1)]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _kl(c: Candidates, coarse_ratio: np.ndarray) -> np.ndarray:
    def of(name: str) -> np.ndarray:
        return np.array([np.nan if (v := getattr(o, name)) is None else v
                         for o in c.options])[c.option]

    asked, coarsest = of("kl"), of("coarsest_kl")
    return asked + coarse_ratio * (coarsest - asked)
