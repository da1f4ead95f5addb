"""Belief about what a frame draws from the battery.

A stated model, energy = joules per CPU-second x seconds + joules per byte x bytes, above a base
load. Where a sensor tells the board's power the three numbers are learned: regularized least
squares over recent intervals, pulled towards the stated ones as far as the data leave them open.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# One core of a Pi 4 above idle, 3.8 W to 2.7 W with one of four busy, and Wi-Fi sending: both are
# data-sheet and review figures, nothing was measured here; set yours.
J_PER_CPU_S = 1.2
J_PER_BYTE = 1e-6
BASE_W = 2.7
# Minutes, not seconds: a fuel gauge averages over several seconds itself.
_HALF_LIFE_S = 300.0
# How far, relatively, the stated numbers are trusted: one interval of 2 s with noise of 0.1 W.
_TRUST = 0.5
_NOISE_W = 0.1
# A byte's joules enter as those of 100 kB, so that the three unknowns are of one size.
_BYTES_UNIT = 1e5


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """A board's numbers, stated or learned."""

    j_per_cpu_s: float = J_PER_CPU_S
    j_per_byte: float = J_PER_BYTE
    base_w: float = BASE_W

    def frame_j(self, cpu_s: float, nbytes: float) -> float:
        """What one frame draws above the base load."""
        return self.j_per_cpu_s * cpu_s + self.j_per_byte * nbytes


class EnergyBelief:
    """The model, learned where the board's power is measured."""

    def __init__(self, stated: EnergyModel):
        self._stated = np.array([stated.base_w, stated.j_per_cpu_s,
                                 stated.j_per_byte * _BYTES_UNIT])
        self.model = stated
        precision = (_NOISE_W / np.maximum(_TRUST * self._stated, 1e-3)) ** 2
        self._prior = np.diag(precision)
        self._normal = np.zeros((3, 3))
        self._moment = np.zeros(3)

    def add(self, power_w: float, cpu_s: float, nbytes: float, interval_s: float) -> None:
        """The board drew ``power_w`` in the mean while all its CPUs together worked for
        ``cpu_s`` and ``nbytes`` were sent, in ``interval_s``."""
        if interval_s <= 0 or not np.isfinite(power_w) or power_w <= 0:
            return
        x = np.array([1.0, cpu_s / interval_s, nbytes / _BYTES_UNIT / interval_s])
        keep = 0.5 ** (interval_s / _HALF_LIFE_S)
        self._normal = keep * self._normal + np.outer(x, x)
        self._moment = keep * self._moment + power_w * x
        learned = np.linalg.solve(self._normal + self._prior,
                                  self._moment + self._prior @ self._stated)
        base_w, j_per_cpu_s, j_per_unit = np.maximum(learned, 0.05 * self._stated)
        self.model = EnergyModel(float(j_per_cpu_s), float(j_per_unit / _BYTES_UNIT),
                                 float(base_w))
