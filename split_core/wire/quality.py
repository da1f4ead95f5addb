"""A boundary coded at the quality or size that a rung asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from split_core.model.rate import RateCurve
from split_core.tensors import TensorSpec
from split_core.wire.messages import Codec
from split_core.wire.payload import Coder, Layers
from split_core.wire.rungs import Rung


@dataclass(frozen=True, slots=True)
class Encoded:
    payload: bytes
    predicted_kl: float | None = None        # nats, of the whole model's answer; calibrated only
    layers: Layers | None = None             # of a base layer
    base_kl: float | None = None             # of the base layer alone, over all frames


def encode(coder: Coder, arrays: Sequence[np.ndarray], specs: Sequence[TensorSpec], rung: Rung,
           rate: RateCurve | None, margin: float = 0.0, index: int | None = None) -> Encoded:
    """The payload of a boundary. A calibrated rung needs the cut's ``rate``; its step is
    ``index``, or what the rung asks for."""
    if not rung.calibrated:
        return Encoded(coder.encode(arrays, specs, rung))
    if index is None:
        index = step_index(rung, rate)
    if rung.codec is Codec.LAYERED:
        payload, layers = coder.encode_base(arrays, specs, index, margin)
        return Encoded(payload, rate.kl(index), layers, rate.kl(layers.index))
    ceiling = rung.level if rung.kind == "b" else math.inf
    payload, used = coder.encode_at(arrays, specs, index, ceiling)
    return Encoded(payload, rate.kl(used))


def step_index(rung: Rung, rate: RateCurve) -> int:
    """The step that a calibrated rung asks for: no search, the curve is known."""
    return (rate.index_for_kl(rung.level) if rung.kind == "kl"
            else rate.index_for_bytes(rung.level))
