"""Explicit state: outputs fed back as inputs. It stays on the device, whoever ran the tail."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from split_core.model.bundle import Bundle
from split_core.model.runner import zeros


class ExplicitState:
    """The state that the next frame starts from. The caller holds the lock."""

    def __init__(self, bundle: Bundle):
        self._pairs = bundle.manifest.states
        self._arrays = {s.input: _real_zero(bundle.specs[s.input]) for s in self._pairs}

    def __bool__(self) -> bool:
        return bool(self._pairs)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Model inputs by name."""
        return self._arrays

    def update(self, tensors: Mapping[str, np.ndarray]) -> None:
        """A frame ended with these outputs."""
        if self._pairs:
            self._arrays = {s.input: tensors[s.output] for s in self._pairs}


def _real_zero(spec) -> np.ndarray:
    state = zeros(spec)
    if spec.quantization is not None:
        state += np.array(spec.quantization.zero_point, spec.np_dtype)
    return state
