"""Boundaries to payloads, as a plan says: the device's end of the codec, for one thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edge_agent.frames import Plan
from split_core.model.bundle import Bundle
from split_core.wire.messages import Codec
from split_core.wire.payload import Coder
from split_core.wire.quality import Encoded, encode


class Encoder:
    """Codes what crosses a cut."""

    def __init__(self, bundle: Bundle):
        self._bundle = bundle
        # State comes back as what the next frame starts from: loss would feed on itself.
        self._coder = Coder(clips=bundle.clips, image=bundle.manifest.image,
                            lossless={s.input for s in bundle.manifest.states},
                            codings=bundle.codings)

    def prepare(self) -> None:
        """Unpack the tables of every cut, so that no frame after a switch has to."""
        for entry in self._bundle.manifest.cuts[:-1]:
            self._coder.prepare(self._bundle.boundary(entry.cut))

    def encode(self, live: Mapping[str, np.ndarray], plan: Plan, index: int | None) -> Encoded:
        """The payload of a plan's boundary; ``index`` is the frame's own step (quality)."""
        boundary, entry, rung = (self._bundle.boundary(plan.cut), self._bundle.cut(plan.cut),
                                 plan.rung)
        if rung.codec is Codec.IMAGE and index is not None:
            rung = replace(rung, level=index)
        encoded = encode(self._coder, [live[s.name] for s in boundary], boundary, rung,
                         self._bundle.rate(plan.cut), entry.margin, index)
        curve = self._bundle.picture_rate(rung.kind) if rung.codec is Codec.IMAGE else None
        return encoded if curve is None else replace(encoded, predicted_kl=curve.kl(rung.level))
